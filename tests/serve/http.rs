//! Minimal HTTP client, and a server to test.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ruminate::{BatchOptions, Device, Error, LoadOptions, Model, SessionOptions};
use ruminate_serve::{Failure, Handle, Options, Ready, Server};
use serde_json::{Value, json};

/// Problem that the demo solves with many steps, and its answer.
pub(crate) const PUZZLE: (&str, &str) = ("The ball is under cup B. Swap AC CD AC AB AB AB CD CE CD DE", " A.");

/// Prompt that the demo continues with long texts.
pub(crate) const LONG: &str = "The dial";

/// Timeout of a test.
const PATIENCE: Duration = Duration::from_secs(120);

/// Response of a server.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Reply {
    /// Body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// JSON of a response that must have status 200.
    #[track_caller]
    pub(crate) fn good(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// Message, field and code of an error that must have `status`.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16) -> (String, Value, Value) {
        assert_eq!(self.status, status, "{self:?}");
        let error = self.json()["error"].take();
        assert!(error["type"].is_string() && error.as_object().is_some_and(|map| map.len() == 4), "{error}");
        (error["message"].as_str().expect("a message").to_owned(), error["param"].clone(), error["code"].clone())
    }

    /// Chunks of a streamed answer, and whether it ended with `[DONE]`.
    #[track_caller]
    pub(crate) fn chunks(&self) -> (Vec<Value>, bool) {
        assert_eq!(self.status, 200, "{self:?}");
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: "));
        let mut chunks: Vec<&str> = data.collect();
        let done = chunks.pop_if(|last| *last == "[DONE]").is_some();
        (chunks.iter().map(|chunk| serde_json::from_str(chunk).expect("a chunk is JSON")).collect(), done)
    }
}

/// Client with a server address and an API key.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) key: Option<String>,
}

impl Client {
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    /// Requests a completion of a text, with further fields.
    pub(crate) fn complete(&self, prompt: &str, more: &Value) -> Reply {
        let mut body = json!({ "prompt": prompt, "max_tokens": 4, "temperature": 0 });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.post("/v1/completions", &body)
    }

    /// Sends a request and reads the complete response.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        read_reply(self.open(method, path, headers, body))
    }

    /// Sends a request, and leaves the response to the caller.
    pub(crate) fn open(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> TcpStream {
        let mut head = format!("{method} {path} HTTP/1.1\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "host") {
            head.push_str(&format!("host: {}\r\n", self.address));
        }
        if let Some(key) = &self.key {
            head.push_str(&format!("authorization: Bearer {key}\r\n"));
        }
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        let mut stream = self.connect();
        // A server that refuses the request may close the connection early.
        let _ = stream.write_all(format!("{head}\r\n").as_bytes());
        let _ = stream.write_all(body);
        stream
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        stream
    }

    /// Value of a metric.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        let value = line.and_then(|line| line.split(' ').nth(1)?.parse().ok());
        value.unwrap_or_else(|| panic!("no metric {name} in\n{text}"))
    }

    /// Waits until the value of a metric satisfies a condition.
    #[track_caller]
    pub(crate) fn wait_for(&self, name: &str, right: impl Fn(f64) -> bool) {
        let begin = Instant::now();
        while !right(self.metric(name)) {
            assert!(begin.elapsed() < PATIENCE, "{name} is still {}", self.metric(name));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Reads a complete response.
pub(crate) fn read_reply(stream: TcpStream) -> Reply {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("an answer");
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("not an answer: {line:?}"));
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("headers");
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_some_and(|value| value == "chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("the length of a chunk");
            // An interrupted connection has no last chunk.
            let Ok(length) = usize::from_str_radix(line.trim_end(), 16) else { break };
            let mut chunk = vec![0; length + 2];
            if reader.read_exact(&mut chunk).is_err() || length == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..length]);
        }
    } else {
        let _ = reader.read_to_end(&mut body);
    }
    Reply { status, headers, body: String::from_utf8(body).expect("the server writes UTF-8") }
}

/// Server in this process.
pub(crate) struct Running {
    pub(crate) client: Client,
    pub(crate) handle: Handle,
    thread: JoinHandle<Result<(), Failure<Error>>>,
}

/// Default options with a free port and without a warm-up.
pub(crate) fn options() -> Options {
    let mut options = Options::default();
    options.address.set_port(0);
    options.warm_up = false;
    options
}

/// Batch options of tests: number of sequences and planned depth.
pub(crate) fn batch() -> BatchOptions {
    BatchOptions {
        sequences: 4,
        session: SessionOptions { steps: Some(8), state_seed: Some(0), ..SessionOptions::default() },
        ..BatchOptions::default()
    }
}

impl Running {
    /// Serves the demo on the CPU reference.
    pub(crate) fn start(options: Options) -> Self {
        Self::on(&Device::cpu(), options, batch())
    }

    /// Serves the demo on a device.
    pub(crate) fn on(device: &Device, options: Options, batch: BatchOptions) -> Self {
        let device = device.clone();
        let loading = move || Model::demo(&device, LoadOptions::default());
        let running = Self::loading(options, batch, loading);
        let begin = Instant::now();
        while running.client.get("/health").status != 200 {
            assert!(begin.elapsed() < PATIENCE, "the server does not get ready");
            std::thread::sleep(Duration::from_millis(5));
        }
        running
    }

    /// Starts a server that loads the model with `load`.
    pub(crate) fn loading(
        options: Options,
        batch: BatchOptions,
        load: impl FnOnce() -> Result<Model, Error> + Send + 'static,
    ) -> Self {
        let key = options.api_keys.first().cloned();
        let server = Server::bind(options).expect("a free port");
        let client = Client { address: server.address(), key };
        let handle = server.handle();
        let thread =
            std::thread::spawn(move || server.run(|| Ok(Ready { model: load()?, name: "demo".to_owned(), batch })));
        Self { client, handle, thread }
    }

    /// Drains the server and returns its outcome.
    pub(crate) fn stop(self) -> Result<(), Failure<Error>> {
        self.handle.drain();
        self.outcome()
    }

    /// Waits until the server ends.
    pub(crate) fn outcome(self) -> Result<(), Failure<Error>> {
        self.thread.join().expect("the server does not panic")
    }
}
