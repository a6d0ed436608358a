//! The command in hostile surroundings: signals, unrequested pipes, endless files, names with escape sequences.
#![cfg(unix)]

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ruminate_tests::demo_files::{Parts, folder, with_weights};
use ruminate_tests::{Folder, trial};

const PROMPT: &str = "Ball in C. Swap CE AC AB AD AE";

fn command(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ruminate"));
    command.args(arguments).current_dir(home).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("NO_COLOR", "1").env("HOME", home).env("XDG_RUNTIME_DIR", home);
    command
}

fn piped(home: &Path, arguments: &[&str], input: &[u8]) -> Result<Output> {
    let mut child = command(home, arguments).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().context("stdin is piped")?.write_all(input)?;
    Ok(child.wait_with_output()?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn signal(child: &Child, name: &str) -> Result<()> {
    ensure!(Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status()?.success());
    Ok(())
}

/// Whether a process ends within `within`.
fn ends(child: &mut Child, within: Duration) -> Result<bool> {
    let start = Instant::now();
    while start.elapsed() < within {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(false)
}

#[trial]
fn signals_end_program_with_their_exit_code() -> Result<()> {
    let home = Folder::new()?;
    let deep = ["run", "--cpu", "--steps", "65536", "-p", PROMPT];
    let sweep = ["sweep", "--cpu", "--steps", "60000"];
    for (name, code) in [("TERM", 143), ("HUP", 129), ("INT", 130)] {
        for call in [deep.as_slice(), &sweep] {
            // The first Ctrl-C takes effect only after the current answer, which takes minutes at this depth.
            if name == "INT" && call == sweep {
                continue;
            }
            let mut child = command(home.path(), call).spawn()?;
            std::thread::sleep(Duration::from_millis(700));
            signal(&child, name)?;
            // Ctrl-C waits for the submitted work.
            let patience = Duration::from_secs(if name == "INT" { 60 } else { 5 });
            ensure!(ends(&mut child, patience)?, "{call:?} continues after SIG{name}");
            let status = child.wait()?;
            ensure!(status.code() == Some(code), "{call:?}, SIG{name}: {status:?} {:?}", status.signal());
        }
    }
    Ok(())
}

#[trial]
fn sigterm_ends_scripted_chat() -> Result<()> {
    let home = Folder::new()?;
    let mut child =
        command(home.path(), &["chat", "--cpu", "--steps", "2000", "-n", "150"]).stdin(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("stdin is piped")?;
    input.write_all("Ball in C. Swap CE\n".repeat(200).as_bytes())?;
    std::thread::sleep(Duration::from_millis(700));
    signal(&child, "TERM")?;
    ensure!(ends(&mut child, Duration::from_secs(5))?, "the script continues");
    ensure!(child.wait()?.code() == Some(143));
    Ok(())
}

#[trial]
fn ignored_signals_stay_ignored() -> Result<()> {
    let home = Folder::new()?;
    for name in ["HUP", "INT", "TERM"] {
        let script = format!("trap '' {name}; exec \"$0\" sweep --cpu --steps 60000");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_ruminate")]).env("HOME", home.path());
        let mut child = shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(Duration::from_millis(700));
        signal(&child, name)?;
        let ended = ends(&mut child, Duration::from_secs(1))?;
        child.kill()?;
        child.wait()?;
        ensure!(!ended, "SIG{name} was not ignored");
    }
    Ok(())
}

#[trial]
fn interrupt_before_first_token_keeps_saved_session() -> Result<()> {
    let home = Folder::new()?;
    let call = |steps: &'static str| ["run", "--cpu", "--steps", steps, "-n", "2", "--save-session", "s", "-p", PROMPT];
    ensure!(command(home.path(), &call("2")).output()?.status.success());
    let before = std::fs::read(home.path().join("s"))?;
    let child = command(home.path(), &call("65536")).spawn()?;
    std::thread::sleep(Duration::from_millis(700));
    signal(&child, "INT")?;
    let done = child.wait_with_output()?;
    ensure!(done.status.code() == Some(130), "{done:?}");
    ensure!(text(&done.stderr).contains("interrupted before the first token, so s is not written"), "{done:?}");
    ensure!(std::fs::read(home.path().join("s"))? == before, "the session was replaced");
    Ok(())
}

#[trial]
fn unread_stdin_is_reported() -> Result<()> {
    let home = Folder::new()?;
    home.write("prompt", PROMPT)?;
    let call = ["run", "--cpu", "--steps", "1", "-n", "1"];
    for given in [["-p", PROMPT], ["-f", "prompt"]] {
        let call = [&call[..], &given].concat();
        let done = piped(home.path(), &call, b"a long document")?;
        ensure!(done.status.success() && text(&done.stderr).contains("stdin was not read"), "{done:?}");
        ensure!(!text(&piped(home.path(), &call, b"")?.stderr).contains("stdin"));
        ensure!(!text(&command(home.path(), &call).output()?.stderr).contains("stdin"));
        ensure!(piped(home.path(), &[&call[..], &["-q"]].concat(), b"x")?.stderr.is_empty());
    }
    let done = piped(home.path(), &[&call[..], &["-"]].concat(), PROMPT.as_bytes())?;
    ensure!(!text(&done.stderr).contains("stdin"), "{done:?}");
    home.write("problems", r#"{"task":"t","prompt":"The ball is under cup A","answer":" A"}"#)?;
    home.write("choices", r#"{"context":"The ball is under cup A","continuations":[" A"]}"#)?;
    let sweep = ["sweep", "--cpu", "--steps", "1", "-n", "1"];
    let score = ["score", "--cpu", "--steps", "1", "--continuations"];
    for (call, flag) in [
        ([&sweep[..], &["-p", "problems"]].concat(), "`-p -`"),
        (sweep.to_vec(), "`-p -`"),
        ([&score[..], &["choices"]].concat(), "`--continuations -`"),
    ] {
        let done = piped(home.path(), &call, b"a long document")?;
        let said = text(&done.stderr);
        ensure!(
            done.status.success() && said.contains("stdin was not read") && said.contains(flag),
            "{call:?}: {done:?}"
        );
        ensure!(!text(&piped(home.path(), &call, b"")?.stderr).contains("stdin"), "{call:?}");
    }
    let lines = std::fs::read(home.path().join("choices"))?;
    let done = piped(home.path(), &[&score[..], &["-"]].concat(), &lines)?;
    ensure!(done.status.success() && !text(&done.stderr).contains("stdin"), "{done:?}");
    Ok(())
}

#[trial]
fn byte_order_mark_is_ignored_in_scripts_and_conversations() -> Result<()> {
    let home = Folder::new()?;
    home.write(
        "saved.json",
        "\u{feff}[{\"role\": \"user\", \"content\": \"Ball in C.\"}, {\"role\": \"assistant\", \"content\": \" C.\"}]",
    )?;
    let done = piped(
        home.path(),
        &["chat", "--cpu", "--steps", "1", "-n", "1"],
        "\u{feff}/steps 3\n/steps\n/load saved.json\n".as_bytes(),
    )?;
    let said = text(&done.stderr);
    ensure!(
        done.stdout.is_empty() && said.contains("3 steps per token") && said.contains("2 messages from saved.json"),
        "{done:?}"
    );
    Ok(())
}

#[trial]
fn endless_texts_are_refused() -> Result<()> {
    let home = Folder::new()?;
    for call in [["run", "--cpu", "-f", "/dev/zero"].as_slice(), &["score", "--cpu", "-f", "/dev/zero"]] {
        let done = command(home.path(), call).output()?;
        ensure!(done.status.code() == Some(2) && text(&done.stderr).contains("/dev/zero is longer than"), "{done:?}");
    }
    let done = piped(home.path(), &["chat", "--cpu", "--steps", "1", "-n", "1"], b"/load /dev/zero\n")?;
    ensure!(text(&done.stderr).contains("/dev/zero is longer than"), "{done:?}");
    Ok(())
}

#[trial]
fn tensor_names_are_escaped_on_the_terminal() -> Result<()> {
    let home = Folder::new()?;
    let mut parts = Parts::demo()?;
    let entry = parts.header["transformer.ln_f.weight"].take();
    parts.header.as_object_mut().context("an object")?.remove("transformer.ln_f.weight");
    parts.header["transformer.\u{1b}[2Jx.\u{9b}weight"] = entry;
    let model = with_weights(&parts.file())?;
    let path = model.path().to_str().context("a path in UTF-8")?;
    let done = command(home.path(), &["run", "--cpu", "-m", path, "x"]).output()?;
    let said = text(&done.stderr);
    ensure!(done.status.code() == Some(4) && said.contains("transformer.\\u{1b}[2Jx.\\u{9b}weight"), "{said:?}");
    ensure!(!said.contains(['\u{1b}', '\u{9b}']), "{said:?}");
    Ok(())
}

#[trial]
fn folder_without_model_does_not_hide_cached_model() -> Result<()> {
    let home = Folder::new()?;
    let commit = "89abcdef0123456789abcdef0123456789abcdef";
    let cached = home.path().join(".cache/huggingface/hub/models--own--small");
    std::fs::create_dir_all(cached.join("refs"))?;
    std::fs::create_dir_all(cached.join("snapshots").join(commit))?;
    std::fs::write(cached.join("refs/main"), commit)?;
    let model = folder()?;
    for entry in std::fs::read_dir(model.path())? {
        let entry = entry?;
        std::fs::copy(entry.path(), cached.join("snapshots").join(commit).join(entry.file_name()))?;
    }
    std::fs::create_dir_all(home.path().join("own/small"))?;
    let call = |name: &str| {
        command(home.path(), &["run", "--cpu", "--steps", "1", "-n", "1", "-m", name, PROMPT])
            .env_remove("HF_HOME")
            .output()
    };
    let done = call("own/small")?;
    ensure!(done.status.success() && text(&done.stderr).contains("the folder own/small has no model"), "{done:?}");
    std::fs::remove_dir_all(home.path().join("own"))?;
    for name in ["own/small/", "https://huggingface.co/own/small", "hf.co/own/small/tree/main"] {
        let done = call(name)?;
        ensure!(done.status.success(), "{name}: {done:?}");
    }
    let done = call("https://example.org/own/small")?;
    ensure!(done.status.code() == Some(4) && text(&done.stderr).contains("give owner/name"), "{done:?}");
    Ok(())
}

#[trial]
fn cache_is_found_through_user_database_without_home() -> Result<()> {
    let home = Folder::new()?;
    for value in ["", "relative"] {
        let mut command = command(home.path(), &["run", "--cpu", "-m", "nobody/has-this", "x"]);
        let done = command.env("HOME", value).env("XDG_CACHE_HOME", "cache").env_remove("HF_HOME").output()?;
        let said = text(&done.stderr);
        ensure!(done.status.code() == Some(4) && said.contains("cache: /"), "{said}");
    }
    Ok(())
}

#[trial]
fn few_file_handles_do_not_cause_a_panic() -> Result<()> {
    let home = Folder::new()?;
    for limit in ["-n 5", "-n 8", "-n 12"] {
        let script = format!("ulimit {limit}; exec \"$0\" run --cpu --steps 1 -n 1 -p x");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_ruminate")]).env("HOME", home.path()).stdin(Stdio::null());
        let done = shell.output()?;
        ensure!(!text(&done.stderr).contains("panicked"), "{limit}: {done:?}");
    }
    Ok(())
}
