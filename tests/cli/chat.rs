//! `ruminate chat`, scripted through a pipe and typed on a pseudo-terminal. It runs on the CPU reference, so that it needs no driver.

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use ruminate::Source;
use ruminate_tests::trial;
use serde_json::{Value, json};

use crate::call::{piped, ruminate, text};

/// Common arguments of all chats here.
const CHAT: [&str; 4] = ["chat", "--cpu", "--seed", "1"];

fn chat(arguments: &[&str]) -> Command {
    let mut command = ruminate(&[&CHAT, arguments].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a chat with `lines` on stdin.
fn script(arguments: &[&str], lines: &str) -> Output {
    piped(&[&CHAT, arguments].concat(), lines.as_bytes())
}

/// Stdout and stderr of the program. Asserts the exit code.
#[track_caller]
fn said(output: &Output, code: i32) -> (String, String) {
    let (answers, remarks) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{answers}\n{remarks}");
    (answers, remarks)
}

/// Conversation written by `/save`.
fn saved(path: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("the file was written")).expect("it is JSON")
}

/// Prompt tokens computed for each answer, from the figures of `--stats`.
fn prompt_tokens(remarks: &str) -> Vec<u32> {
    let lines = remarks.lines().filter_map(|line| line.split_once(" · prompt ").map(|(_, rest)| rest));
    lines.map(|line| line.split(' ').next().and_then(|count| count.parse().ok()).expect("a number of tokens")).collect()
}

/// Flags for random answers of several tokens.
const LOOSE: [&str; 6] = ["--temp", "2", "-n", "12", "--steps", "4"];

fn loose(more: &[&'static str]) -> Vec<&'static str> {
    LOOSE.iter().chain(more).copied().collect()
}

#[trial]
fn only_answers_go_to_stdout() {
    let (answers, remarks) =
        said(&script(&["--steps", "16"], "Ball in C. Swap CE AC AB AD AE\n\n/steps\n/quit\nunread\n"), 0);
    assert_eq!(answers, " A.\n");
    assert_eq!(remarks, "(16 steps per token)\n");
    assert_eq!(said(&script(&["-q"], "/steps\n/reset\n"), 0), (String::new(), String::new()));
}

#[trial]
fn cached_turns_give_same_answers_as_fresh_session() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("chat.json");
    let lines = ["Ball in C.", "Swap CE AC", "3+4-2+1-5"];
    let whole = format!("{}\n/save {}\n", lines.join("\n"), path.display());
    let (answers, remarks) = said(&script(&loose(&["--stats"]), &whole), 0);
    let counts = prompt_tokens(&remarks);
    let Value::Array(messages) = saved(&path) else { panic!("not a list") };
    let roles: Vec<_> = messages.iter().map(|message| message["role"].as_str().expect("a role")).collect();
    assert_eq!(roles, ["user", "assistant"].repeat(3));
    for (turn, line) in lines.iter().enumerate() {
        assert_eq!(messages[2 * turn]["content"], *line);
    }
    let printed: String =
        (0..3).map(|turn| format!("{}\n", messages[2 * turn + 1]["content"].as_str().expect("text"))).collect();
    assert_eq!(answers.replace("\n\n", "\n"), printed.replace("\n\n", "\n"));

    // The same conversation up to the last answer, in a new process without a cache.
    std::fs::write(&path, json!(messages[..4]).to_string()).expect("the file is written");
    let fresh = format!("/load {}\n{}\n/save! {}\n", path.display(), lines[2], path.display());
    let (_, remarks) = said(&script(&loose(&["--stats"]), &fresh), 0);
    assert_eq!(saved(&path), Value::Array(messages), "answers differ with and without cached turns");
    let (kept, all) = (counts[2], prompt_tokens(&remarks)[0]);
    assert!(kept + 20 < all, "the third message computed {kept} tokens, {all} from scratch: nothing was cached");
}

#[trial]
fn earlier_messages_affect_answers_until_reset() {
    let answer = |lines: &str| said(&script(&loose(&["--quiet"]), lines), 0).0;
    let alone = answer("Swap CE AC\n");
    let after = answer("Ball in C.\nSwap CE AC\n");
    assert!(!after.ends_with(&alone), "the history has no effect: {after:?}");
    assert!(answer("Ball in C.\n/reset\nSwap CE AC\n").ends_with(&alone), "/reset left some history");
}

#[trial]
fn system_prompt_comes_first_survives_reset_and_can_be_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let lines = format!(
        "one\n/save {a}\n/system Be kind.\n/reset\ntwo\n/save {b}\n/system\nthree\n/save {c}\n",
        a = file("a").display(),
        b = file("b").display(),
        c = file("c").display()
    );
    said(&script(&["--system", "Be brief.", "-n", "2", "--steps", "1"], &lines), 0);
    let first = |name: &str| saved(&file(name))[0].clone();
    assert_eq!(first("a"), json!({"role": "system", "content": "Be brief."}));
    assert_eq!(first("b"), json!({"role": "system", "content": "Be kind."}));
    assert_eq!(saved(&file("b"))[1], json!({"role": "user", "content": "two"}));
    assert_eq!(first("c"), json!({"role": "user", "content": "two"}));
}

#[trial]
fn steps_command_recomputes_history_at_new_depth() {
    let lines = "Ball in C. Swap CE AC AB AD AE\n/steps 3\nagain\n";
    let (_, remarks) = said(&script(&["--steps", "16", "--stats", "-n", "3"], lines), 0);
    assert!(remarks.contains(" 16 steps per token") && remarks.contains(" 3 steps per token"), "{remarks}");
    let counts = prompt_tokens(&remarks);
    assert!(counts[1] > counts[0], "states of another depth were reused: {counts:?}");
    for wrong in ["/steps 0", "/steps x", "/steps 70000", "/steps -1"] {
        let (_, remarks) = said(&script(&[], &format!("{wrong}\n")), 2);
        assert!(remarks.contains("/steps needs a"), "{wrong}: {remarks}");
    }
}

#[trial]
fn regenerate_uses_next_seed() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let (a, b) = (file("a"), file("b"));
    said(&script(&loose(&[]), &format!("Ball in C.\n/regenerate\n/save {}\n", a.display())), 0);
    said(&script(&loose(&["-q"]), &format!("Ball in C.\n/save {}\n", b.display())), 0);
    assert_ne!(saved(&a), saved(&b));
    assert_eq!(saved(&a).as_array().map(Vec::len), Some(2), "the old answer is still there");
    assert!(said(&script(&[], "/regenerate\n"), 2).1.contains("no answer yet"));
}

#[trial]
fn messages_of_several_lines_are_joined() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("chat.json");
    let lines = format!("one\\\ntwo\n\"\"\"\n/three\n\nfour\n\"\"\"\n//five\n/save {}\nsix\\", path.display());
    said(&script(&["-n", "1", "--steps", "1"], &lines), 0);
    let messages = saved(&path);
    let users: Vec<_> = (0..3).map(|turn| messages[2 * turn]["content"].clone()).collect();
    assert_eq!(users, ["one\ntwo", "/three\n\nfour", "/five"]);
}

#[trial]
fn save_overwrites_only_on_request_and_leaves_no_partial_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("chat.json");
    std::fs::write(&path, "mine").expect("the file is written");
    let (_, remarks) = said(&script(&[], &format!("/save {}\n", path.display())), 1);
    assert!(remarks.contains("exists; /save! replaces it"), "{remarks}");
    assert_eq!(std::fs::read(&path).expect("it is there"), b"mine");
    said(&script(&[], &format!("/save! {}\n", path.display())), 0);
    assert_eq!(saved(&path), json!([]));
    let nowhere = folder.path().join("no").join("chat.json");
    let (_, remarks) = said(&script(&[], &format!("/save {}\n", nowhere.display())), 1);
    assert!(remarks.contains("cannot write") && remarks.contains("chat.json"), "{remarks}");
    for content in ["[", "{}", "[{\"role\": 1}]"] {
        std::fs::write(&path, content).expect("the file is written");
        let (_, remarks) = said(&script(&[], &format!("/load {}\n", path.display())), 1);
        assert!(remarks.contains("expected a list of messages"), "{content}: {remarks}");
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "temporary files were left: {left:?}");
}

#[trial]
fn invalid_line_prints_error_and_chat_continues() {
    for wrong in ["/nothing", "/save", "/reset now", "/quit now", "/"] {
        let (answers, remarks) = said(&script(&["-n", "1", "--steps", "1"], &format!("{wrong}\nhello\n")), 2);
        assert!(remarks.starts_with("error: "), "{wrong}: {remarks}");
        assert!(!answers.is_empty(), "{wrong} ended the chat");
    }
    assert!(said(&script(&[], "/nothing\n"), 2).1.contains("unknown command /nothing; /help lists the commands"));
}

#[trial]
fn full_context_is_reported_with_advice() {
    let (_, remarks) =
        said(&script(&["-c", "20", "--steps", "1", "--temp", "0"], "Ball in C.\nBall in C.\n/reset\nBall in C.\n"), 1);
    assert!(
        remarks.contains("do not fit the context of 20; shorten the prompt or ask for a larger context"),
        "{remarks}"
    );
    let (answers, remarks) = said(&script(&["-q", "-c", "19", "--steps", "4", "--temp", "2"], "Ball in C.\n"), 0);
    assert!(
        !answers.is_empty() && remarks.contains("the context of 19 positions is full") && remarks.contains("/reset"),
        "{answers:?} {remarks}"
    );
}

#[trial]
fn model_without_chat_template_is_refused_with_alternative() {
    let folder = tempfile::tempdir().expect("a folder");
    let Source::Embedded(files) = ruminate::demo::source() else { panic!("the demo is embedded") };
    for (name, content) in files.iter().filter(|(name, _)| *name != "tokenizer_config.json") {
        std::fs::write(folder.path().join(name), content).expect("the file is written");
    }
    let model = folder.path().to_str().expect("the path is UTF-8");
    let (answers, remarks) = said(&script(&["-m", model], "hello\n"), 4);
    assert!(
        answers.is_empty() && remarks.contains("no chat template") && remarks.contains("ruminate run"),
        "{remarks}"
    );
}

#[trial]
fn line_with_invalid_utf8_is_refused_with_its_position() {
    let mut child = chat(&["-n", "1", "--steps", "1"]).spawn().expect("the program starts");
    child.stdin.take().expect("stdin is piped").write_all(b"hello\nab\xff\n").expect("the program reads its stdin");
    let (_, remarks) = said(&child.wait_with_output().expect("the program ends"), 2);
    assert!(remarks.contains("line 2 of stdin is not valid UTF-8: byte 2"), "{remarks}");
}

/// Flags that make each token take about a second, so that it can be interrupted.
#[cfg(unix)]
const SLOWLY: [&str; 4] = ["--steps", "3000", "--temp", "0"];

#[cfg(unix)]
fn interrupt(child: &std::process::Child) {
    let done = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill starts");
    assert!(done.success());
}

#[trial]
#[cfg(unix)]
fn first_interrupt_stops_answer_and_second_exits() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("chat.json");
    let mut child = chat(&SLOWLY).spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let mut stdout = child.stdout.take().expect("stdout is piped");
    writeln!(stdin, "hi").expect("the program reads its stdin");
    let mut first = [0];
    stdout.read_exact(&mut first).expect("an answer begins");
    interrupt(&child);
    // The line break marks the end of the answer.
    let mut answer = vec![first[0]];
    while answer.last() != Some(&b'\n') {
        stdout.read_exact(&mut first).expect("the answer ends");
        answer.push(first[0]);
    }
    writeln!(stdin, "/save {}", path.display()).expect("the program still reads its stdin");
    while !path.exists() {
        assert!(child.try_wait().expect("the program is there").is_none(), "the first interrupt ended the program");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let messages = saved(&path);
    assert_eq!(
        messages[1]["content"],
        text(&answer).trim_end_matches('\n'),
        "the stopped answer is not in the history"
    );
    interrupt(&child);
    drop(stdout);
    let (_, remarks) = said(&child.wait_with_output().expect("the program ends"), 130);
    assert!(remarks.contains("(stopped)"), "{remarks}");
}

#[trial]
#[cfg(unix)]
fn interrupt_before_first_token_discards_message() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("chat.json");
    // The first token takes minutes on the CPU reference.
    let mut child = chat(&["--steps", "60000", "--overcommit", "-c", "64"]).spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let mut stderr = child.stderr.take().expect("stderr is piped");
    writeln!(stdin, "/steps").expect("the program reads its stdin");
    stderr.read_exact(&mut [0]).expect("the command was read");
    writeln!(stdin, "hi").expect("the program reads its stdin");
    std::thread::sleep(std::time::Duration::from_secs(2));
    interrupt(&child);
    writeln!(stdin, "/save {}", path.display()).expect("the program reads its stdin");
    drop(stdin);
    let mut remarks = String::new();
    stderr.read_to_string(&mut remarks).expect("remarks are UTF-8");
    let output = child.wait_with_output().expect("the program ends");
    assert!(remarks.contains("stopped before the answer began"), "{remarks}");
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), ""));
    assert_eq!(saved(&path), json!([]), "the message is still there");
}

#[trial]
#[cfg(unix)]
fn interrupt_while_idle_exits() {
    let mut child = chat(&[]).spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    writeln!(stdin, "/steps").expect("the program reads its stdin");
    let mut stderr = child.stderr.take().expect("stderr is piped");
    stderr.read_exact(&mut [0]).expect("the command was read");
    interrupt(&child);
    assert_eq!(child.wait().expect("the program ends").code(), Some(130));
}
