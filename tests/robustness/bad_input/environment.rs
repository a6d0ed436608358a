//! Failing devices, memory, pipes and disks, and Ctrl-C.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ruminate::{Device, Error, GenerateOptions, LoadOptions, Model, SessionOptions, engine};
use ruminate_tests::{Folder, device, trial};

use crate::bad_input::call::{refused, ruminate, said};

const PROMPT: &str = "Ball in C. Swap CE AC AB AD AE";

#[trial(full)]
fn missing_adapter_is_reported() -> Result<()> {
    refused(&["run", "--gpu", "no such adapter", "x"], None, 3, &["no adapter for", "no such adapter", "found: "])?;
    refused(&["run", "--gpu", "1000", "x"], None, 3, &["no adapter for", "1000"])?;
    Ok(())
}

/// Without a driver, the CPU reference is used, unless a device was requested.
#[cfg(target_os = "linux")]
#[trial(full)]
fn missing_driver_falls_back_to_cpu_or_is_reported() -> Result<()> {
    let home = Folder::new()?;
    let call = |arguments: &[&str]| {
        let mut command = ruminate(home.path(), arguments);
        command.env("VK_DRIVER_FILES", "/none.json").env("VK_ICD_FILENAMES", "/none.json");
        command.output().context("the program starts")
    };
    let output = call(&["run", "--steps", "16", PROMPT])?;
    said(
        &output,
        0,
        &["no Vulkan, Metal or DX12 driver found; running on the CPU reference", "small models", "apt install"],
    )?;
    ensure!(output.stdout == b" A.\n", "{:?}", String::from_utf8_lossy(&output.stdout));
    said(&call(&["run", "--backend", "vulkan", PROMPT])?, 3, &["no adapter for Vulkan", "found: none"])?;
    // Commands that need a device fail, and do not suggest to leave out a flag that was not given.
    for arguments in [&["doctor"][..], &["bench", "--only", "ceilings"], &["tune", "--rows", "1"]] {
        let output = call(arguments)?;
        let words =
            ["no Vulkan, Metal or DX12 driver found, and the", "the CPU reference", "apt install", "found: none"];
        let message = said(&output, 3, &words).with_context(|| format!("{arguments:?}"))?;
        ensure!(!message.contains("--cpu") && output.stdout.is_empty(), "{arguments:?}: {message}");
    }
    let output = call(&["devices"])?;
    said(&output, 0, &["no Vulkan, Metal or DX12 driver found"])?;
    ensure!(output.stdout.is_empty());
    Ok(())
}

#[cfg(not(target_os = "linux"))]
#[trial(full)]
fn missing_driver_falls_back_to_cpu_or_is_reported() -> Result<()> {
    refused(&["run", "--backend", if cfg!(windows) { "metal" } else { "dx12" }, "x"], None, 3, &["no adapter for"])?;
    Ok(())
}

/// Simulates a driver reset during a generation.
#[trial(device)]
fn device_loss_during_generation_is_an_error(_: &Device) -> Result<()> {
    // A separate device, so that other tests are not affected.
    let device = device().context("there is one")?;
    if device.name() == Device::cpu().name() {
        return Ok(());
    }
    let model = Model::demo(&device, LoadOptions::default())?;
    let mut session = model.session(SessionOptions::default())?;
    let mut generation =
        session.generate(PROMPT, &GenerateOptions { max_tokens: Some(50), ..GenerateOptions::default() })?;
    generation.next().context("a first token")??;
    device.lose_for_test();
    let error = generation.by_ref().find_map(Result::err).context("the loss of the device was not reported")?;
    ensure!(matches!(error, Error::Engine(engine::Error::Lost(_))), "{error}");
    ensure!(error.to_string().contains("the device was lost") && error.to_string().contains("start again"), "{error}");
    ensure!(generation.next().is_none(), "generation continues without a device");
    drop(generation);
    ensure!(session.generate(PROMPT, &GenerateOptions::default()).is_err(), "a lost device computes");
    Ok(())
}

#[trial(full)]
fn insufficient_memory_is_reported_with_advice() -> Result<()> {
    let huge = "synthetic:n_embd=65536,heads=512,head_dim=128,hidden=262144,vocab=65536,layers=2/4/2";
    let words = [
        "not enough memory: weights",
        "the host's memory",
        "stay free as a reserve",
        "choose another device or a smaller model",
    ];
    refused(&["run", "--cpu", "-m", huge, "x"], None, 1, &words)?;
    let long = "synthetic:n_embd=64,heads=2,hidden=64,vocab=300,layers=1/4/1,block_size=1000000,mean_recurrence=64";
    let words =
        ["not enough memory", "1000000 positions at 9999 steps", "steps that share keys and values fit", "--kv-share"];
    refused(&["run", "--cpu", "-m", long, "-c", "1000000", "--steps", "9999", "x"], None, 1, &words)?;
    // A failed allocation.
    let error = Device::cpu().buffer("keys", 1 << 60).err().context("an exabyte was allocated")?;
    ensure!(error.to_string().starts_with("out of device memory for buffer keys"), "{error}");
    Ok(())
}

#[trial(full)]
fn closed_pipes_are_not_an_error() -> Result<()> {
    for arguments in [&["run", "--cpu", "--steps", "8", PROMPT][..], &["run", "--cpu"], &["completions", "bash"]] {
        let home = Folder::new()?;
        let mut child = ruminate(home.path(), arguments).spawn()?;
        drop(child.stdout.take());
        said(&child.wait_with_output()?, 0, &[])?;
        // Stderr is closed too.
        let mut child = ruminate(home.path(), arguments).spawn()?;
        drop((child.stdout.take(), child.stderr.take()));
        let status = child.wait()?;
        ensure!(status.success(), "{arguments:?} with both pipes closed: {status}");
    }
    Ok(())
}

#[cfg(target_os = "linux")]
#[trial(full)]
fn full_disk_is_reported() -> Result<()> {
    let full = || Ok::<_, anyhow::Error>(Stdio::from(std::fs::File::options().write(true).open("/dev/full")?));
    let home = Folder::new()?;
    let calls = [
        &["run", "--cpu", "-q", PROMPT][..],
        &["run", "--cpu", "--json", PROMPT],
        &["run", "--cpu"],
        &["completions", "zsh"],
    ];
    for arguments in calls {
        let output = ruminate(home.path(), arguments).stdout(full()?).spawn()?.wait_with_output()?;
        said(&output, 1, &["error: cannot write to stdout: No space left on device"])
            .with_context(|| format!("{arguments:?}"))?;
    }
    // Failing to write to stderr is not an error.
    let output = ruminate(home.path(), &["run", "--cpu", "--steps", "16", PROMPT]).stderr(full()?).output()?;
    ensure!(output.status.success() && output.stdout == b" A.\n", "{output:?}");
    Ok(())
}

#[cfg(not(target_os = "linux"))]
#[trial(full)]
fn full_disk_is_reported() -> Result<()> {
    let path = std::path::Path::new("no such folder").join("chat.json");
    let line = format!("/save {}\n", path.display());
    refused(&["chat", "--cpu"], Some(line.as_bytes()), 1, &["cannot write"])?;
    Ok(())
}

/// Mounts a file system of 4 KiB, if users may do so.
const SMALL_DISK: &str = "mount -t tmpfs -o size=4k tmpfs /mnt";

fn no_small_disk() -> Option<String> {
    let mounted = cfg!(target_os = "linux")
        && std::process::Command::new("unshare")
            .args(["-rm", "sh", "-c", SMALL_DISK])
            .output()
            .is_ok_and(|done| done.status.success());
    (!mounted).then(|| "a user may not mount a file system here".to_owned())
}

#[trial(full, needs(no_small_disk))]
fn full_disk_while_saving_is_reported_and_leaves_no_file() -> Result<()> {
    let home = Folder::new()?;
    let kept = home.path().join("kept.json");
    std::fs::write(&kept, serde_json::json!([{"role": "user", "content": "a ".repeat(5000)}]).to_string())?;
    let lines = home.path().join("lines");
    std::fs::write(&lines, format!("/load {}\n/save /mnt/chat.json\n", kept.display()))?;
    // Prints the files left on the disk.
    let script = format!("{SMALL_DISK} && \"$0\" chat --cpu -q; code=$?; ls -A /mnt; exit $code");
    let output = std::process::Command::new("unshare")
        .args(["-rm", "sh", "-c", &script, env!("CARGO_BIN_EXE_ruminate")])
        .stdin(std::fs::File::open(&lines)?)
        .output()?;
    said(&output, 1, &["cannot write /mnt/chat.json: No space left on device"])?;
    ensure!(output.stdout.is_empty(), "left on the disk: {}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

#[cfg(unix)]
#[trial(full)]
fn interrupt_ends_text_with_line_break() -> Result<()> {
    let home = Folder::new()?;
    let mut child =
        ruminate(home.path(), &["run", "--cpu", "-q", "--temp", "0", "--steps", "3000", "3+4-2"]).spawn()?;
    let mut stdout = child.stdout.take().context("stdout is piped")?;
    let mut text = vec![0];
    stdout.read_exact(&mut text)?;
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
    ensure!(sent.success());
    stdout.read_to_end(&mut text)?;
    said(&child.wait_with_output()?, 130, &[])?;
    ensure!(text.ends_with(b"\n"), "the text so far does not end with a line break: {text:?}");
    Ok(())
}

/// A token of this depth takes minutes on the CPU reference. Figures are printed only if a generation was stopped.
#[cfg(unix)]
#[trial(full)]
fn interrupt_works_within_a_token() -> Result<()> {
    let home = Folder::new()?;
    let mut child = ruminate(home.path(), &["run", "--cpu", "--steps", "65536", "-c", "8", "3+4-2"]).spawn()?;
    std::thread::sleep(Duration::from_secs(4));
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
    ensure!(sent.success());
    for _ in 0..600 {
        if child.try_wait()?.is_some() {
            said(&child.wait_with_output()?, 130, &["generated 0 tokens"])?;
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill()?;
    anyhow::bail!("the token continued for half a minute")
}

#[cfg(not(unix))]
#[trial(full)]
fn interrupt_works_within_a_token() -> Result<()> {
    Ok(())
}

#[cfg(not(unix))]
#[trial(full)]
fn interrupt_ends_text_with_line_break() -> Result<()> {
    Ok(())
}
