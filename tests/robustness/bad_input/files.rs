//! Missing or invalid input files other than those of the model.

use anyhow::{Result, ensure};
use ruminate_tests::{Folder, trial};

use crate::bad_input::call::{refused, ruminate, said};

const NONE: &str = "/no/such/file";

/// All give the same exit code, and no message mentions stdout.
#[trial(full)]
fn missing_input_files_are_reported() -> Result<()> {
    for (call, what) in [
        (&["run", "--cpu", "-f", NONE][..], "the prompt from "),
        (&["run", "--cpu", "--resume", NONE, "x"], ""),
        (&["trace", "--cpu", "-f", NONE], "the prompt from "),
        (&["score", "--cpu", "-f", NONE], "the text from "),
        (&["score", "--cpu", "--continuations", NONE], "the continuations from "),
        (&["sweep", "--cpu", "--prompts", NONE], "the problems from "),
    ] {
        let message = refused(call, None, 1, &[&format!("error: cannot read {what}{NONE}: No such file")])?;
        ensure!(!message.contains("stdout"), "{call:?}: {message}");
    }
    let home = Folder::new()?;
    home.write("session", "It was a dark and stormy night.")?;
    let output = ruminate(home.path(), &["run", "--cpu", "--resume", "session", "x"]).output()?;
    said(&output, 1, &["error: session is not a saved session"])?;
    Ok(())
}

#[trial(full)]
fn input_files_with_invalid_utf8_are_refused() -> Result<()> {
    let home = Folder::new()?;
    home.write("file", b"{}\n{}\nab\xff")?;
    for call in [
        &["run", "--cpu", "-f", "file"][..],
        &["score", "--cpu", "-f", "file"],
        &["score", "--cpu", "--continuations", "file"],
        &["sweep", "--cpu", "--prompts", "file"],
    ] {
        let words = ["file is not valid UTF-8: byte 8 begins no character, in line 3; convert it"];
        said(&ruminate(home.path(), call).output()?, 2, &words)?;
    }
    Ok(())
}

#[trial(full)]
fn byte_order_mark_is_not_part_of_a_text() -> Result<()> {
    let home = Folder::new()?;
    let prompt = "The ball is under cup C. Swap CE AC AB AD AE";
    let line = serde_json::json!({ "context": prompt, "continuations": [" A."], "task": "t", "prompt": prompt, "answer": " A." });
    let only = |names: &[&str]| {
        let mut line = line.clone();
        line.as_object_mut().into_iter().for_each(|fields| fields.retain(|name, _| names.contains(&name.as_str())));
        line.to_string()
    };
    for (call, text) in [
        (&["run", "--cpu", "-q", "--seed", "1", "--steps", "16", "-f"][..], prompt.to_owned()),
        (&["score", "--cpu", "--json", "-f"], prompt.to_owned()),
        (&["score", "--cpu", "--json", "--continuations"], only(&["context", "continuations"])),
        (&["sweep", "--cpu", "--json", "--steps", "2", "--prompts"], only(&["task", "prompt", "answer"])),
    ] {
        home.write("plain", &text)?;
        home.write("marked", format!("\u{feff}{text}"))?;
        let [plain, marked] = ["plain", "marked"].map(|name| ruminate(home.path(), &[call, &[name]].concat()).output());
        let (plain, marked) = (plain?, marked?);
        said(&marked, 0, &[])?;
        // Speeds are excluded, because they differ between runs.
        let steady = |output: &std::process::Output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.split("\"tokens_per_s\"").next().map(str::to_owned)
        };
        ensure!(steady(&plain) == steady(&marked), "{call:?}: {:?}, not {:?}", steady(&marked), steady(&plain));
    }
    Ok(())
}

#[trial(full)]
fn errors_in_continuations_name_the_line() -> Result<()> {
    let home = Folder::new()?;
    let line = |context: &str| format!("{}\n", serde_json::json!({ "context": context, "continuations": [" A."] }));
    let call = ["score", "--cpu", "-c", "12", "--continuations", "file"];
    for (text, code, words) in [
        (line("Ball in C.") + "\n" + &line(&"Ball in C. ".repeat(9)), 1, "file, line 3: "),
        (line("Ball in C.") + "{\n", 2, "file, line 2: "),
        (line("Ball in C.") + "{\"context\":\"x\",\"continuations\":[\"\"]}", 2, "file, line 2: `continuations` needs"),
    ] {
        home.write("file", text)?;
        let output = ruminate(home.path(), &call).output()?;
        said(&output, code, &[words])?;
        ensure!(output.stdout.is_empty());
    }
    Ok(())
}
