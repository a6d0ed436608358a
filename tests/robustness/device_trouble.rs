//! The command with a device that hangs or does not exist: it reports an error, ends with exit code 3, and does not hang at the end of the process.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ruminate_tests::{Folder, device, trial};

fn no_device() -> Option<String> {
    device().is_none().then(|| "no device, only the CPU reference".to_owned())
}

/// Runs the command. Its default device is the device under test, unless `RUMINATE_TEST_GPU` names another one.
fn run(arguments: &[&str]) -> Result<Output> {
    let home = Folder::new()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_ruminate"));
    command.args(arguments).current_dir(home.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("NO_COLOR", "1").env("HOME", home.path()).env("XDG_RUNTIME_DIR", home.path());
    Ok(command.output()?)
}

fn fails_with_3(arguments: &[&str], words: &str) -> Result<()> {
    let done = run(arguments)?;
    let text = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.code() == Some(3), "{arguments:?}: {:?}, {text}", done.status);
    ensure!(text.contains(words), "{arguments:?}: {text}");
    ensure!(!text.contains("panicked"), "{arguments:?}: {text}");
    Ok(())
}

/// The limit is so short that a single round trip exceeds it on any device.
#[trial(needs(no_device), full)]
fn device_that_does_not_answer_ends_every_verb_with_exit_code_3() -> Result<()> {
    let timeout = "--device-timeout=0.00005";
    let calls: [&[&str]; 4] = [
        &["run", timeout, "-n", "4", "Ball in C. Swap CE"],
        &["serve", timeout, "--port=0"],
        &["bench", timeout],
        &["doctor", timeout],
    ];
    for call in calls {
        fails_with_3(call, "did not answer for 50µs")?;
    }
    Ok(())
}

/// The device hangs in the middle of long work. The process ends although the driver goes on computing.
#[trial(full, needs(no_device))]
fn process_ends_while_the_driver_still_computes() -> Result<()> {
    let model = "-msynthetic:n_embd=2048,heads=16,hidden=8192,layers=1/4/1,vocab=4096";
    let prompt = "x ".repeat(2000);
    let start = Instant::now();
    fails_with_3(
        &["run", model, "--steps=64", "--device-timeout=0.02", "-n", "4", &prompt],
        "did not answer for 20ms",
    )?;
    // On a software driver, loading takes a few seconds, and the whole prompt would take minutes.
    ensure!(start.elapsed() < Duration::from_secs(120), "{:?}", start.elapsed());
    Ok(())
}

#[trial]
fn timeout_must_be_a_time() -> Result<()> {
    for value in ["0", "-1", "inf", "nan", "soon", "1e300"] {
        let done = run(&["run", &format!("--device-timeout={value}"), "x"])?;
        let text = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.code() == Some(2), "{value}: {:?} {text}", done.status);
        ensure!(text.contains("expected a number of seconds above 0"), "{value}: {text}");
    }
    Ok(())
}

#[trial(needs(no_device))]
fn device_is_chosen_by_what_ruminate_devices_prints() -> Result<()> {
    let listed = run(&["devices", "--json"])?;
    let list: serde_json::Value = serde_json::from_slice(&listed.stdout)?;
    for device in list.as_array().context("a list")? {
        let index = device["index"].to_string();
        let backend = device["backend"].as_str().context("a backend")?;
        let identity = ["pci", "uuid"].map(|key| device[key].as_str());
        for choice in [Some(index.as_str())].into_iter().chain(identity).flatten() {
            for backend in [None, Some(format!("--backend={backend}"))] {
                let mut call = vec!["run", "-n", "1", "--steps", "1", "--gpu", choice, "Ball in C."];
                call.extend(backend.as_deref());
                let done = run(&call)?;
                ensure!(done.status.success(), "{call:?}: {}", String::from_utf8_lossy(&done.stderr));
            }
        }
        let other = if backend == "vulkan" { "dx12" } else { "vulkan" };
        fails_with_3(&["run", "--gpu", &index, "--backend", other, "x"], &format!("no adapter for index {index} on"))?;
    }
    fails_with_3(&["run", "--gpu", "ffff:7f:1f.7", "x"], "no adapter for PCI address ffff:7f:1f.7; found: 0: ")?;
    fails_with_3(&["run", "--gpu", "GeForce 9", "x"], "no adapter for name `GeForce 9`; found: 0: ")
}
