//! Golden tests under Khronos' validation layer, with synchronization validation: it must report nothing.
//!
//! An empty report is meaningful only if the layer is active. Therefore its log must begin with its greeting, and the errors of a deliberately wrong program
//! must be reported. Without the layer, the trials are counted as ignored; `tests/get-compilers` installs it.

use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use ash::vk;
use ruminate_tests::{Entry, golden_folder, trial};

const LAYER: &str = "VK_LAYER_KHRONOS_validation";

/// Argument that turns this program into the wrong one.
const PROVOKE: &str = "provoke";

/// Runs the wrong calls if the command line requests them.
pub(crate) fn provoked() -> bool {
    let asked = std::env::args().nth(1).as_deref() == Some(PROVOKE);
    if asked {
        provoke().expect("a Vulkan device for wrong calls");
    }
    asked
}

fn layer_missing() -> Option<String> {
    (!installed()).then(|| "Khronos' validation layer is not installed; run tests/get-compilers".to_owned())
}

#[trial(full, needs(layer_missing))]
fn layer_finds_errors_and_races() -> Result<()> {
    let program = std::env::current_exe()?;
    let found = messages(Command::new(program).arg(PROVOKE))?;
    for expected in ["VUID-VkBufferCreateInfo-size-00912", "SYNC-HAZARD-WRITE-AFTER-WRITE"] {
        ensure!(found.iter().any(|message| message.contains(expected)), "{expected} was not reported, only {found:#?}");
    }
    Ok(())
}

#[trial(list, full, needs(layer_missing))]
fn layer_is_silent() -> Vec<Entry> {
    let of = |name: &'static str| {
        Entry::new(format!("layer_is_silent::{name}"), move || {
            let found = messages(Command::new(env!("CARGO_BIN_EXE_golden")).arg(golden_folder(name)))?;
            ensure!(found.is_empty(), "{} messages:\n{}", found.len(), found.join("\n"));
            Ok(())
        })
    };
    ["tiny", "odd", "block_bf16"].map(of).into()
}

/// Whether the Vulkan loader finds the layer.
fn installed() -> bool {
    // SAFETY: loading the Vulkan loader has no further conditions.
    let Ok(entry) = (unsafe { ash::Entry::load() }) else { return false };
    // SAFETY: the call has no preconditions.
    let layers = unsafe { entry.enumerate_instance_layer_properties() }.unwrap_or_default();
    layers.iter().any(|layer| layer.layer_name_as_c_str().is_ok_and(|name| name.to_bytes() == LAYER.as_bytes()))
}

/// Messages of the layer while a program runs, except its greeting and messages about its own cache.
///
/// # Errors
/// If the program fails, or the greeting is missing, which means that the layer was not active.
fn messages(command: &mut Command) -> Result<Vec<String>> {
    let folder = tempfile::tempdir()?;
    let (settings, log) = (folder.path().join("vk_layer_settings.txt"), folder.path().join("log"));
    let text = format!(
        "khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG\n\
         khronos_validation.log_filename = {}\n\
         khronos_validation.report_flags = error,warn,perf,info\n\
         khronos_validation.enables = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT\n",
        log.display()
    );
    std::fs::write(&settings, text)?;
    let output = command.env("VK_INSTANCE_LAYERS", LAYER).env("VK_LAYER_SETTINGS_PATH", &settings).output()?;
    let said = || [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
    ensure!(output.status.success(), "{command:?} failed:\n{}", said());

    let log = std::fs::read_to_string(&log).context("the layer wrote no log: it was not loaded")?;
    // A message begins at the start of a line; its further lines are indented.
    let mut found: Vec<String> = Vec::new();
    for line in log.lines().filter(|line| !line.trim().is_empty()) {
        match found.last_mut() {
            Some(message) if line.starts_with(char::is_whitespace) => {
                message.push('\n');
                message.push_str(line);
            }
            _ => found.push(line.to_owned()),
        }
    }
    let is_greeting = |message: &String| message.contains("Khronos Validation Layer Active");
    let greeting = found.iter().find(|message| is_greeting(message));
    let greeting = greeting.ok_or_else(|| anyhow!("the layer does not report that it is active:\n{log}"))?;
    for part in ["VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION", "Current Disables: None"] {
        ensure!(greeting.contains(part), "the layer is not set up as requested, `{part}` is missing:\n{greeting}");
    }
    // The layer's own cache may not exist yet.
    let of_its_cache = |message: &String| message.contains("UNASSIGNED-cache-file-error");
    found.retain(|message| !is_greeting(message) && !of_its_cache(message));
    Ok(found)
}

/// Creates a buffer of size zero, then writes another one twice without a barrier.
fn provoke() -> Result<()> {
    // SAFETY: all calls except the wrong ones are valid. The layer does not pass the first wrong call to the driver, and the commands of the second one are
    // recorded but never submitted.
    unsafe {
        let entry = ash::Entry::load()?;
        let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_1);
        let instance =
            entry.create_instance(&vk::InstanceCreateInfo::default().application_info(&application), None)?;
        let physical = *instance.enumerate_physical_devices()?.first().context("no device")?;
        let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
        let device =
            instance.create_device(physical, &vk::DeviceCreateInfo::default().queue_create_infos(&queues), None)?;

        let mut info = vk::BufferCreateInfo::default().size(0).usage(vk::BufferUsageFlags::TRANSFER_DST);
        if let Ok(buffer) = device.create_buffer(&info, None) {
            device.destroy_buffer(buffer, None);
        }

        info.size = 256;
        let buffer = device.create_buffer(&info, None)?;
        let needs = device.get_buffer_memory_requirements(buffer);
        let kind = needs.memory_type_bits.trailing_zeros();
        let memory = vk::MemoryAllocateInfo::default().allocation_size(needs.size).memory_type_index(kind);
        let memory = device.allocate_memory(&memory, None)?;
        device.bind_buffer_memory(buffer, memory, 0)?;
        let pool = device.create_command_pool(&vk::CommandPoolCreateInfo::default(), None)?;
        let commands = vk::CommandBufferAllocateInfo::default().command_pool(pool).command_buffer_count(1);
        let commands = *device.allocate_command_buffers(&commands)?.first().context("no command buffer")?;
        device.begin_command_buffer(commands, &vk::CommandBufferBeginInfo::default())?;
        device.cmd_fill_buffer(commands, buffer, 0, 256, 1);
        device.cmd_fill_buffer(commands, buffer, 0, 256, 2);
        device.end_command_buffer(commands)?;

        device.destroy_command_pool(pool, None);
        device.destroy_buffer(buffer, None);
        device.free_memory(memory, None);
        device.destroy_device(None);
        instance.destroy_instance(None);
    }
    Ok(())
}
