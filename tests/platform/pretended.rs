//! Pretended devices that differ from the machine's device: other subgroup sizes or no subgroups, little workgroup memory, no f16, small bindings, or the
//! host's memory.
//!
//! A pretended device really lacks the features and has the lower limits, so wgpu rejects work that would not run there. The exception is workgroup memory,
//! which wgpu does not check, so these tests count it. The driver's subgroup size cannot be changed, but kernels see only the reported sizes: if a device
//! reports sizes from 4 to 128 and really uses 8, kernels that wrongly rely on the reported size fail. In addition, Mesa's software driver really uses
//! subgroups of 2, 4, 8 or 16 lanes if an environment variable sets the width of its vectors, which needs a separate process.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ruminate::doctor::examine_demo;
use ruminate::{
    Arithmetic, Device, Dtype, Error, Extent, KERNELS, Kind, KvShare, LoadOptions, Model, SessionOptions, Spec, State,
    Synthetic,
};
use ruminate_engine::wgpu::Features;
use ruminate_engine::{OpenOptions, Pretend};
use ruminate_shaders::{Caps, Case, Launch, trials};
use ruminate_tests::compilers::{Checked, Variant};
use ruminate_tests::{options, trial};

fn open(pretend: &Pretend) -> Result<Device> {
    Ok(Device::open_pretending(&options().context("no device")?, pretend)?)
}

/// Compiles every launch that the engine may choose at Huginn's sizes, for one row and for prompts, in all arithmetic modes. Returns their number.
fn compiles_what_it_may_choose(device: &Device) -> Result<usize> {
    let spec = Synthetic::parse("huginn-0125")?.spec().clone();
    let mut launches: Vec<Launch> = Vec::new();
    for (dtype, rows) in [(Dtype::Bf16, 1), (Dtype::Bf16, 128), (Dtype::Q8, 1), (Dtype::Q8, 128)] {
        for arithmetic in Arithmetic::ALL {
            let mut work = spec.workload(dtype, rows, 64, 512, device.caps());
            work.arithmetic = arithmetic;
            launches.extend(trials(&work).into_iter().flat_map(|trial| trial.variants.launches));
        }
    }
    let mut seen = BTreeSet::new();
    launches.retain(|launch| device.lacks(launch).is_none() && seen.insert(launch.name()));
    device.compile(&launches)?;
    // wgpu does not check this limit.
    for launch in &launches {
        let (takes, has) = (workgroup_memory(launch)?, device.caps().max_workgroup_memory);
        ensure!(takes <= has, "{} takes {takes} bytes of workgroup memory, the device has {has}", launch.name());
    }
    Ok(launches.len())
}

/// Computes the bytes of workgroup memory of a launch, with each variable aligned.
fn workgroup_memory(launch: &Launch) -> Result<u32> {
    let Launch { kernel, choice, overrides, .. } = launch;
    let Checked { module, info, .. } = Variant { kernel, choice: *choice, overrides: overrides.clone() }.module()?;
    let mut layouts = naga::proc::Layouter::default();
    layouts.update(module.to_ctx())?;
    let used = |(handle, variable): (naga::Handle<naga::GlobalVariable>, &naga::GlobalVariable)| {
        let used = variable.space == naga::AddressSpace::WorkGroup && !info.get_entry_point(0)[handle].is_empty();
        used.then(|| layouts[variable.ty])
    };
    let all = module.global_variables.iter().filter_map(used);
    Ok(all.fold(0, |end, layout| layout.alignment.round_up(end) + layout.size))
}

/// Returns one case for each pipeline with subgroups that the device can run.
fn cases_with_subgroups(device: &Device) -> Vec<Case> {
    let caps = device.caps();
    let mut seen = BTreeSet::new();
    let all = KERNELS.iter().flat_map(|kernel| kernel.cases_for(&caps));
    let all = all.filter(|case| case.launch.kernel.needs_subgroups(case.launch.choice));
    all.filter(|case| device.lacks(&case.launch).is_none() && seen.insert(case.launch.name())).collect()
}

/// Checks that kernels with subgroups, and a whole model, compute the same results as the CPU reference. Returns the number of cases.
fn computes_rightly(device: &Device) -> Result<usize> {
    let cases = cases_with_subgroups(device);
    for case in &cases {
        let verdict = device.verify(case)?;
        ensure!(verdict.passed(), "{}: {verdict}", case.id());
    }
    let whole = examine_demo(device)?;
    ensure!(whole.passed(), "the demo: {whole:?}");
    Ok(cases.len())
}

#[trial(device, full)]
fn subgroups_of_4_to_128_lanes_that_vary(_: &Device) -> Result<()> {
    let sizes = |least, most| Pretend {
        info: match (least, most) {
            (4, 128) => |info| (info.subgroup_min_size, info.subgroup_max_size) = (4, 128),
            (8, 32) => |info| (info.subgroup_min_size, info.subgroup_max_size) = (8, 32),
            _ => |info| (info.subgroup_min_size, info.subgroup_max_size) = (32, 64),
        },
        ..Pretend::default()
    };
    for (least, most) in [(4, 128), (8, 32), (32, 64)] {
        let device = open(&sizes(least, most))?;
        if device.caps().subgroups.is_none() {
            // The tests run with WebGPU's limits, or on a device without subgroups.
            return Ok(());
        }
        ensure!(device.caps().subgroups == Some((least, most)) && device.caps().lanes.is_none(), "{:?}", device.caps());
        compiles_what_it_may_choose(&device)?;
        // Kernels use the same code for all three ranges, so computing with one of them is enough.
        if least == 4 {
            let kernels: BTreeSet<_> =
                cases_with_subgroups(&device).iter().map(|case| case.launch.kernel.name).collect();
            ensure!(kernels.len() > 5, "only {kernels:?} use subgroups");
            computes_rightly(&device)?;
        }
    }
    Ok(())
}

/// wgpu passes the driver's sizes on unchecked.
#[trial(device)]
fn subgroups_of_sizes_that_no_kernel_is_made_for_are_not_used(_: &Device) -> Result<()> {
    let odd: [fn(&mut ruminate_engine::wgpu::AdapterInfo); 4] = [
        |info| (info.subgroup_min_size, info.subgroup_max_size) = (1, 1),
        |info| (info.subgroup_min_size, info.subgroup_max_size) = (2, 8),
        |info| (info.subgroup_min_size, info.subgroup_max_size) = (8, 256),
        |info| (info.subgroup_min_size, info.subgroup_max_size) = (64, 32),
    ];
    for info in odd {
        let device = open(&Pretend { info, ..Pretend::default() })?;
        ensure!((device.caps().subgroups, device.caps().lanes) == (None, None), "{:?}", device.caps());
    }
    Ok(())
}

/// Argument that makes this program examine the default device and print the results.
const EXAMINE: &str = "examine";

/// Examines a device if the command line asks for it. Returns whether it did.
pub(crate) fn examined() -> bool {
    let asked = std::env::args().nth(1).as_deref() == Some(EXAMINE);
    if asked {
        let device = Device::open(&OpenOptions::default()).expect("a device");
        let cases = computes_rightly(&device).expect("it computes rightly");
        println!("{:?} {cases}", device.caps().subgroups);
    }
    asked
}

/// Reason to ignore a test that needs Mesa's software driver, whose vector width can be set, if another device is under test.
fn no_lavapipe() -> Option<String> {
    let driver = ruminate_tests::device().and_then(|device| Some(device.summary()?.driver.clone()));
    let there = driver.is_some_and(|driver| driver.contains("llvmpipe"));
    (!there)
        .then(|| "the device under test is not Mesa's software driver, whose subgroups can have any size".to_owned())
}

#[trial(full, needs(no_lavapipe))]
fn subgroups_that_really_have_2_4_8_and_16_lanes() -> Result<()> {
    for (bits, found) in [(64, "None 0"), (128, "Some((4, 4)) "), (256, "Some((8, 8)) "), (512, "Some((16, 16)) ")] {
        let mut program = Command::new(std::env::current_exe()?);
        let done = program.arg(EXAMINE).env("LP_NATIVE_VECTOR_WIDTH", bits.to_string()).output()?;
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        ensure!(done.status.success(), "{bits} bits: {err}");
        ensure!(out.starts_with(found), "{bits} bits: {out}");
        ensure!(bits == 64 || !out.trim().ends_with(" 0"), "{bits} bits: no kernel used subgroups");
    }
    Ok(())
}

#[trial(device, full)]
fn device_without_subgroups(_: &Device) -> Result<()> {
    let device = open(&Pretend { without: Features::SUBGROUP, ..Pretend::default() })?;
    ensure!((device.caps().subgroups, device.caps().lanes) == (None, None), "{:?}", device.caps());
    compiles_what_it_may_choose(&device)?;
    ensure!(computes_rightly(&device)? == 0);
    Ok(())
}

#[trial(device, full)]
fn device_with_16_kib_of_workgroup_memory(device: &Device) -> Result<()> {
    let small =
        open(&Pretend { limits: |limits| limits.max_compute_workgroup_storage_size = 16 << 10, ..Pretend::default() })?;
    ensure!(small.caps() == Caps { max_workgroup_memory: 16 << 10, ..device.caps() }, "{:?}", small.caps());
    compiles_what_it_may_choose(&small)?;
    let whole = examine_demo(&small)?;
    ensure!(whole.passed(), "{whole:?}");
    Ok(())
}

/// Checks [`workgroup_memory`] itself.
#[trial]
fn workgroup_memory_of_a_launch_is_that_of_its_arrays() -> Result<()> {
    let spec = Synthetic::parse("huginn-0125")?.spec().clone();
    let caps = Caps { max_workgroup_memory: 32 << 10, ..Caps::WEBGPU };
    let all = trials(&spec.workload(Dtype::Bf16, 128, 64, 512, caps));
    let all: Vec<Launch> = all.into_iter().flat_map(|trial| trial.variants.launches).collect();
    let norm = all.iter().find(|it| it.kernel.name == "rms_norm").context("a norm")?;
    // Four f32 sums per lane.
    ensure!(workgroup_memory(norm)? == 16 * norm.overrides[0], "{}: {}", norm.name(), workgroup_memory(norm)?);
    let largest = all.iter().map(workgroup_memory).collect::<Result<Vec<_>>>()?.into_iter().max();
    ensure!(largest > Some(8 << 10), "{largest:?}");
    Ok(())
}

#[trial(device, full)]
fn device_without_f16(_: &Device) -> Result<()> {
    let device = open(&Pretend { without: Features::SHADER_F16, ..Pretend::default() })?;
    ensure!(!device.caps().f16);
    compiles_what_it_may_choose(&device)?;
    let asked = LoadOptions { products: Arithmetic::F16, ..LoadOptions::default() };
    match Model::demo(&device, asked) {
        Err(error @ Error::Option { .. }) => {
            ensure!(error.to_string().contains("f16 is not supported on this device"), "{error}");
        }
        other => anyhow::bail!("f16 is accepted: {:?}", other.map(|_| ())),
    }
    let whole = examine_demo(&device)?;
    ensure!(whole.passed(), "{whole:?}");
    Ok(())
}

/// Matrices, keys and values are stored and bound in parts. Bindings of 8 MiB take the place of the 128 MiB that larger models exceed.
#[trial(device, full)]
fn device_with_small_bindings_and_buffers(device: &Device) -> Result<()> {
    let limits: fn(&mut ruminate_engine::wgpu::Limits) = |limits| {
        limits.max_storage_buffer_binding_size = 8 << 20;
        limits.max_buffer_size = 12 << 20;
    };
    let logits = |device: &Device| -> Result<Vec<f32>> {
        // The embedding alone has 16 MiB.
        let source =
            Synthetic::parse("n_embd=256,heads=4,hidden=512,vocab=16384,layers=1/2/1,block_size=2048")?.source();
        let model = Model::open(&source, device, LoadOptions { dtype: Some(Dtype::F32), ..LoadOptions::default() })?;
        let mut session = model.session(SessionOptions { context: Some(2048), ..SessionOptions::default() })?;
        let tokens: Vec<u32> = (0..200).map(|at| at * 67 % 16384).collect();
        Ok(session.forward(&tokens, 3, State::Seeded, true)?)
    };
    let expected = logits(device)?;
    // Weights in textures, if the device prefers them, and then in buffers.
    for without in [Features::empty(), Features::TEXTURE_ADAPTER_SPECIFIC_FORMAT_FEATURES] {
        let small = open(&Pretend { without, limits, ..Pretend::default() })?;
        ensure!(small.caps().max_binding == 8 << 20);
        // Launches that bind more are left out by doctor, tune and bench.
        let launch = |tokens| ruminate_shaders::sample::argmax(&small.caps(), tokens, 16384);
        ensure!(small.lacks(&launch(128)).is_none(), "{:?}", small.lacks(&launch(128)));
        let lacks = small.lacks(&launch(129)).context("more than 8 MiB of logits")?;
        ensure!(lacks == "binds 8454144 bytes as `logits`, this device allows 8388608", "{lacks}");
        let found = logits(&small)?;
        ensure!(found.len() == expected.len());
        let difference: f64 = found.iter().zip(&expected).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let power: f64 = expected.iter().map(|a| f64::from(*a).powi(2)).sum();
        ensure!(difference <= 1e-8 * power, "error {:e}", difference / power);
    }
    Ok(())
}

#[trial(device)]
fn integrated_gpu_lives_on_the_host_s_memory(device: &Device) -> Result<()> {
    let kind = |info: &mut ruminate_engine::wgpu::AdapterInfo| {
        info.device_type = ruminate_engine::wgpu::DeviceType::IntegratedGpu;
    };
    let integrated = open(&Pretend { info: kind, ..Pretend::default() })?;
    ensure!(integrated.summary().is_some_and(|it| it.kind == Kind::Integrated));
    ensure!(!integrated.caps().software, "{:?}", integrated.caps());
    let (memory, host) = (integrated.memory(), Device::cpu().memory());
    ensure!(memory.shared);
    ensure!(memory.total <= host.total && memory.total.is_some(), "{memory:?}, the host has {host:?}");
    let Some(available) = memory.available else { return Ok(()) };
    // The host's free memory may change meanwhile, so the total is the limit here.
    ensure!(available <= host.total.unwrap_or(u64::MAX), "{memory:?}, the host has {host:?}");
    let whole = examine_demo(&integrated)?;
    ensure!(device.is_cpu() || whole.passed(), "{whole:?}");
    Ok(())
}

/// Weights count once, although they pass through the host's memory while loading, and a twentieth of the memory stays free.
#[trial]
fn budget_of_shared_memory_counts_weights_once_and_leaves_a_reserve() -> Result<()> {
    let spec = Spec::clone(Synthetic::parse("huginn-0125")?.spec());
    let caps = Caps::WEBGPU;
    let extent = |context| Extent { context, steps: 32, kv_dtype: Dtype::Bf16, share: KvShare::None };
    for shared in [false, true] {
        for gigabytes in [8_u64, 10, 16, 24, 64] {
            let mut memory = ruminate::Memory::default();
            memory.available = Some(gigabytes << 30);
            memory.total = Some((2 * gigabytes) << 30);
            memory.shared = shared;
            let usable = (gigabytes << 30) / 20 * 19;
            let longest = spec.longest_context(Dtype::Bf16, extent(0), &caps, memory);
            let need = |context| spec.need(Dtype::Bf16, extent(context), &caps);
            ensure!(need(1).weights == spec.weight_bytes(Dtype::Bf16));
            match longest {
                Some(context) => {
                    ensure!(need(context).total() <= usable, "{gigabytes} GiB: {context} positions take all");
                    let more = context + 64;
                    ensure!(
                        more > spec.context || need(more).total() > usable,
                        "{gigabytes} GiB: {more} positions fit"
                    );
                }
                None => ensure!(need(64).total() > usable, "{gigabytes} GiB: it would fit"),
            }
        }
    }
    Ok(())
}
