//! `ruminate chat --server` against a mock server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use ruminate_tests::trial;
use serde_json::{Value, json};

use crate::call::{piped, ruminate, text};

/// Mock server, which answers on its own threads during the test.
struct Mock {
    url: String,
    /// Heads and bodies of the requests to `/v1/chat/completions`.
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Mock {
    /// Starts a server. `reply` writes the answers and gets the number of the request, from 0.
    fn start(reply: impl Fn(usize, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, reply) = (Arc::clone(&asked), Arc::new(reply));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, reply) = (Arc::clone(&seen), Arc::clone(&reply));
                std::thread::spawn(move || serve(stream, &seen, &*reply));
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<(String, Value)> {
        self.asked.lock().expect("no panic").clone()
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<(String, Value)>>, reply: &dyn Fn(usize, &mut TcpStream)) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut head = String::new();
    while reader.read_line(&mut head).is_ok_and(|count| count > 2) {}
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).expect("a body");
    if head.starts_with("GET /v1/models ") {
        let model = json!({"data": [{"id": "ouro", "max_model_len": 64, "meta": {"steps": {"default": 4, "max": 9}, "chat": true}}]});
        let model = model.to_string();
        let _ =
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{model}", model.len());
        return;
    }
    let number = {
        let mut seen = seen.lock().expect("no panic");
        seen.push((head, serde_json::from_slice(&body).expect("a JSON body")));
        seen.len() - 1
    };
    reply(number, &mut stream);
}

fn begin(stream: &mut TcpStream) {
    let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n");
}

fn event(stream: &mut TcpStream, event: &Value) -> std::io::Result<()> {
    write!(stream, ": a comment\r\ndata: {event}\r\n\r\n")?;
    stream.flush()
}

fn part(text: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}], "usage": null})
}

fn end(stream: &mut TcpStream, reason: &str) {
    let _ = event(stream, &json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}));
    let usage = json!({"prompt_tokens": 5, "completion_tokens": 3, "steps_per_token": 2.5, "core_passes": 7});
    let _ = event(stream, &json!({"choices": [], "usage": usage}));
    let _ = write!(stream, "data: [DONE]\n\n");
}

fn refuse(stream: &mut TcpStream, status: &str, header: &str, message: &str) {
    let body = json!({"error": {"message": message}}).to_string();
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\n{header}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
}

#[trial]
fn flags_become_request_fields_and_answer_is_streamed() {
    let mock = Mock::start(|number, stream| {
        begin(stream);
        let _ = event(stream, &part(&format!("answer {number} ")));
        let _ = event(stream, &part("ä→😀"));
        end(stream, "stop");
    });
    let flags = [
        "chat",
        "--server",
        &mock.url,
        "--api-key",
        "secret",
        "--stats",
        "--system",
        "Be brief.",
        "--temp",
        "0",
        "--seed",
        "7",
        "-n",
        "9",
        "--exit",
        "latent-diff",
        "--min-steps",
        "2",
        "--stop",
        "\\n",
    ];
    let done = piped(&flags, b"first\n/steps\n/steps 3\nsecond\n/regenerate\n");
    let (said, notes) = (text(&done.stdout), text(&done.stderr));
    assert_eq!(said, "answer 0 ä→😀\nanswer 1 ä→😀\nanswer 2 ä→😀\n", "{notes}");
    assert!(
        notes.contains("4 steps per token") && notes.contains("2.5 steps per token") && notes.contains("7 core passes"),
        "{notes}"
    );
    assert_eq!(done.status.code(), Some(0));
    let asked = mock.asked();
    assert!(asked.iter().all(|(head, _)| head.to_ascii_lowercase().contains("authorization: bearer secret")));
    let first = &asked[0].1;
    assert_eq!(
        first["messages"],
        json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "first"}])
    );
    for (name, value) in [
        ("model", json!("ouro")),
        ("temperature", json!(0.0)),
        ("seed", json!(7)),
        ("max_tokens", json!(9)),
        ("stop", json!(["\n"])),
        ("stream", json!(true)),
    ] {
        assert_eq!(first[name], value, "{name} in {first}");
    }
    assert!(first.get("steps").is_none() && first.get("top_k").is_none(), "{first}");
    assert_eq!((&first["exit"]["criterion"], &first["exit"]["min_steps"]), (&json!("latent-diff"), &json!(2)));
    let second = &asked[1].1;
    assert_eq!((second["steps"].as_u64(), second["messages"].as_array().map(Vec::len)), (Some(3), Some(4)));
    assert_eq!(second["messages"][2], json!({"role": "assistant", "content": "answer 0 ä→😀"}));
    assert_eq!((asked[2].1["seed"].as_u64(), &asked[2].1["messages"]), (Some(8), &second["messages"]));
}

#[trial]
fn server_errors_are_printed_and_chat_continues() {
    let mock = Mock::start(|number, stream| match number {
        0 => refuse(stream, "429 Too Many Requests", "Retry-After: 3\r\n", "the queue is full"),
        1 => refuse(stream, "401 Unauthorized", "", "an API key is needed"),
        2 => {
            begin(stream);
            let _ = event(stream, &part("half an ans"));
            let _ = event(stream, &json!({"error": {"message": "the device has failed"}}));
        }
        3 => {
            begin(stream);
            let _ = event(stream, &part("cut"));
        }
        _ => {
            begin(stream);
            let _ = event(stream, &part("well"));
            end(stream, "length");
        }
    });
    let done = piped(&["chat", "--server", &format!("{}/v1", mock.url)], b"a\nb\nc\nd\ne\n/steps 10\n");
    let (said, notes) = (text(&done.stdout), text(&done.stderr));
    assert_eq!(said, "half an ans\ncut\nwell\n", "{notes}");
    for words in [
        "the queue is full; try again in 3 s",
        "an API key is needed; give it with --api-key-file, or in RUMINATE_API_KEY",
        "the device has failed",
        "ended the connection within the answer",
        "stopped by the limit on tokens",
        "at most 9",
    ] {
        assert!(notes.contains(words), "{words:?} is not in {notes}");
    }
    assert_eq!(done.status.code(), Some(1));
    // Messages without an answer are not in the history.
    let messages: Vec<Value> =
        mock.asked().last().expect("a request").1["messages"].as_array().expect("messages").clone();
    let contents: Vec<&str> = messages.iter().filter_map(|message| message["content"].as_str()).collect();
    assert_eq!(contents, ["c", "half an ans", "d", "cut", "e"]);
}

#[trial]
fn unreachable_invalid_and_foreign_servers_are_distinguished() {
    let refused = |url: &str, flags: &[&str], words: &str, code: i32| {
        let done = piped(&[&["chat", "--server", url], flags].concat(), b"a\n");
        let notes = text(&done.stderr);
        assert!(notes.contains(words), "{words:?} is not in {notes}");
        assert_eq!(done.status.code(), Some(code), "{notes}");
    };
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    refused(&format!("http://{free}"), &[], "cannot be reached", 1);
    refused("localhost:8080", &[], "expected an address such as http://", 2);
    refused("http://127.0.0.1:1", &["-m", "demo"], "cannot be used with", 2);
    refused("http://127.0.0.1:1", &["--kv-dtype", "q8"], "cannot be used with", 2);
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = other.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in other.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
        }
    });
    refused(&format!("http://{address}"), &[], "does not answer in JSON", 1);
}

#[trial]
#[cfg(unix)]
fn ctrl_c_stops_answer_and_closes_connection() {
    let (gone, heard) = std::sync::mpsc::channel();
    let mock = Mock::start(move |number, stream| {
        begin(stream);
        if number > 0 {
            let _ = event(stream, &part("again"));
            return end(stream, "stop");
        }
        // Until the client disconnects.
        while event(stream, &part("on ")).is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let _ = gone.send(());
    });
    let mut command = ruminate(&["chat", "--server", &mock.url]);
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    child.stdin.as_mut().expect("stdin is piped").write_all(b"go\n").expect("the program reads its stdin");
    let mut begun = [0; 3];
    child.stdout.as_mut().expect("stdout is piped").read_exact(&mut begun).expect("an answer");
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).expect("a signal");
    heard.recv_timeout(std::time::Duration::from_secs(20)).expect("the connection ends");
    child.stdin.take().expect("stdin is piped").write_all(b"more\n").expect("the program reads its stdin");
    let done = child.wait_with_output().expect("the program ends");
    let (said, notes) = (text(&done.stdout), text(&done.stderr));
    assert!(
        said.ends_with("\nagain\n") && notes.contains("(stopped)") && done.status.code() == Some(0),
        "{said}{notes}"
    );
}

/// A byte order mark is not part of the key. If the server refuses the key, the message does not ask for one.
#[trial]
fn key_is_read_from_a_file_with_byte_order_mark() {
    let mock = Mock::start(|_, stream| refuse(stream, "401 Unauthorized", "", "the API key is wrong"));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys");
    std::fs::write(&path, "\u{feff}secret\r\nother\n").expect("it is written");
    let path = path.to_str().expect("a path in UTF-8");
    let done = piped(&["chat", "--server", &mock.url, "--api-key-file", path], b"hi\n");
    let notes = text(&done.stderr);
    assert!(mock.asked()[0].0.to_ascii_lowercase().contains("authorization: bearer secret\r\n"), "{notes}");
    assert!(notes.contains("the server refused the key of --api-key"), "{notes}");
}
