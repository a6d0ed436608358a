//! Mock hub: the list of files, HEAD and GET with the headers of the real hub, ranges, large files redirected to a second server on another port, and
//! injected faults.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub(crate) const REPO: &str = "maker/small-loop";
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Recorded request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Whether it was sent to the server of large files.
    pub(crate) cdn: bool,
    /// First byte requested.
    pub(crate) range: Option<u64>,
    /// End of the requested range, exclusive.
    pub(crate) end: Option<u64>,
    pub(crate) token: Option<String>,
}

/// Fault of a response.
pub(crate) enum Fault {
    /// Another status, with headers.
    Status(u16, &'static [(&'static str, &'static str)]),
    /// The body ends after this number of bytes, with the full length announced.
    Cut(usize),
    /// Other content, with its own length.
    Content(Vec<u8>),
    /// Other content, without a length.
    Unmeasured(Vec<u8>),
    /// Header with another value.
    Header(&'static str, String),
    /// The full file, regardless of the requested range.
    NoRange,
    /// Calls a function after this number of bytes, then sends nothing more.
    Stop(usize, Box<dyn FnOnce() + Send>),
    /// Calls a function after this number of bytes, then sends the rest.
    Pause(usize, Box<dyn FnOnce() + Send>),
}

type Faults = Box<dyn FnMut(&Request) -> Option<Fault> + Send>;

struct State {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    sha: Mutex<String>,
    faults: Mutex<Faults>,
    requests: Mutex<Vec<Request>>,
    cdn: SocketAddr,
    closing: AtomicBool,
}

pub(crate) struct Server {
    state: Arc<State>,
    hub: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(files: BTreeMap<String, Vec<u8>>) -> Self {
        let [hub, cdn] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let address = |listener: &TcpListener| listener.local_addr().expect("its address");
        let state = Arc::new(State {
            files: Mutex::new(files),
            sha: Mutex::new(COMMIT.to_owned()),
            faults: Mutex::new(Box::new(|_| None)),
            requests: Mutex::new(Vec::new()),
            cdn: address(&cdn),
            closing: AtomicBool::new(false),
        });
        let address = address(&hub);
        let threads = [(hub, false), (cdn, true)].map(|(listener, cdn)| {
            let state = Arc::clone(&state);
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if state.closing.load(Ordering::SeqCst) {
                        return;
                    }
                    let (state, stream) = (Arc::clone(&state), stream.expect("a connection"));
                    // Errors of disconnected clients are ignored.
                    std::thread::spawn(move || drop(state.answer(&stream, cdn)));
                }
            })
        });
        Self { state, hub: address, threads: threads.into() }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.hub)
    }

    /// Sets the faults of requests from now on.
    pub(crate) fn faults(&self, faults: impl FnMut(&Request) -> Option<Fault> + Send + 'static) {
        *self.state.faults.lock().expect("no panic") = Box::new(faults);
    }

    pub(crate) fn set(&self, name: &str, content: impl Into<Vec<u8>>) {
        self.state.files.lock().expect("no panic").insert(name.to_owned(), content.into());
    }

    pub(crate) fn remove(&self, name: &str) {
        self.state.files.lock().expect("no panic").remove(name);
    }

    pub(crate) fn set_commit(&self, sha: &str) {
        sha.clone_into(&mut self.state.sha.lock().expect("no panic"));
    }

    /// Requests since the last call.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.state.requests.lock().expect("no panic"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.closing.store(true, Ordering::SeqCst);
        for address in [self.hub, self.state.cdn] {
            // Wakes the accepting thread.
            drop(TcpStream::connect(address));
        }
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

/// Whether the real hub would store a file outside of git.
fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".bin")
}

/// Name of a content in the cache.
pub(crate) fn etag(name: &str, content: &[u8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    if is_large(name) {
        return hex(&Sha256::digest(content));
    }
    hex(&Sha1::new().chain_update(format!("blob {}\0", content.len())).chain_update(content).finalize())
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, headers: &[(&str, &str)]) -> Self {
        let owned = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self { status, headers: owned.collect(), body: Vec::new() }
    }

    fn header(&mut self, name: &str, value: impl Into<String>) {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
    }
}

impl State {
    fn answer(&self, mut stream: &TcpStream, cdn: bool) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream).lines();
        let Some(first) = lines.next().transpose()? else { return Ok(()) };
        let mut words = first.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        // Requests to a proxy contain the full address.
        let path = path
            .strip_prefix("http://")
            .and_then(|rest| rest.find('/').map(|at| rest[at..].to_owned()))
            .unwrap_or(path);
        let mut request = Request { method, path, cdn, range: None, end: None, token: None };
        for line in lines {
            let line = line?;
            let Some((name, value)) = line.split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "range" => {
                    let (start, last) = value.trim_start_matches("bytes=").split_once('-').expect("a range");
                    request.range = Some(start.parse().expect("ranges have a first byte"));
                    request.end = last.parse::<u64>().ok().map(|last| last + 1);
                }
                "authorization" => request.token = Some(value.to_owned()),
                _ => {}
            }
        }
        self.requests.lock().expect("no panic").push(request.clone());
        let mut fault = (self.faults.lock().expect("no panic"))(&request);
        let mut answer = match fault {
            Some(Fault::Status(status, headers)) => Answer::new(status, headers),
            _ => self.right(&request, &mut fault),
        };
        if let Some(Fault::Header(name, value)) = &fault {
            answer.header(name, value.clone());
        }
        let mut head = format!("HTTP/1.1 {} Said\r\nConnection: close\r\n", answer.status);
        let told = answer.headers.iter().any(|(name, _)| name == "Content-Length");
        if !told && !matches!(fault, Some(Fault::Unmeasured(_))) {
            answer.header("Content-Length", answer.body.len().to_string());
        }
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        if request.method == "HEAD" {
            return Ok(());
        }
        let (now, later) = match &fault {
            Some(Fault::Cut(most) | Fault::Stop(most, _) | Fault::Pause(most, _)) => {
                answer.body.split_at((*most).min(answer.body.len()))
            }
            _ => answer.body.split_at(answer.body.len()),
        };
        stream.write_all(now)?;
        stream.flush()?;
        match fault {
            Some(Fault::Stop(_, then)) => then(),
            Some(Fault::Pause(_, then)) => {
                then();
                stream.write_all(later)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Response of the real hub, with other content if that is the fault.
    fn right(&self, request: &Request, fault: &mut Option<Fault>) -> Answer {
        let files = self.files.lock().expect("no panic");
        let sha = self.sha.lock().expect("no panic").clone();
        let revisions = ["main", "v1", sha.as_str()];
        if let Some(revision) = request.path.strip_prefix(&format!("/api/models/{REPO}/revision/")) {
            if !revisions.contains(&revision) {
                return Answer::new(404, &[("X-Error-Code", "RevisionNotFound")]);
            }
            let siblings: Vec<_> = files.keys().map(|name| json!({ "rfilename": name })).collect();
            let mut answer = Answer::new(200, &[("Content-Type", "application/json")]);
            answer.body = json!({ "id": REPO, "sha": sha, "siblings": siblings }).to_string().into_bytes();
            return answer;
        }
        let place = if request.cdn { "/files/".to_owned() } else { format!("/{REPO}/resolve/{sha}/") };
        let Some(name) = request.path.strip_prefix(&place) else {
            return Answer::new(404, &[("X-Error-Code", "RepoNotFound")]);
        };
        let Some(content) = files.get(name) else { return Answer::new(404, &[("X-Error-Code", "EntryNotFound")]) };
        let (etag, large) = (etag(name, content), is_large(name) && !request.cdn);
        let mut answer = Answer::new(if large { 302 } else { 200 }, &[]);
        answer.header("X-Repo-Commit", sha.as_str());
        answer.header("ETag", format!("\"{etag}\""));
        if large {
            answer.header("X-Linked-Etag", format!("\"{etag}\""));
            answer.header("X-Linked-Size", content.len().to_string());
            answer.header("Location", format!("http://{}/files/{name}", self.cdn));
            return answer;
        }
        let content = match fault {
            Some(Fault::Content(other) | Fault::Unmeasured(other)) => other.clone(),
            _ => content.clone(),
        };
        if request.method == "HEAD" {
            answer.header("Content-Length", content.len().to_string());
            return answer;
        }
        let ranged = !matches!(fault, Some(Fault::NoRange));
        let start = request.range.filter(|_| ranged).unwrap_or(0) as usize;
        let end = request.end.filter(|_| ranged).map_or(content.len(), |end| content.len().min(end as usize));
        if start > 0 || end < content.len() {
            if start >= content.len() {
                return Answer::new(416, &[]);
            }
            answer.status = 206;
            answer.header("Content-Range", format!("bytes {start}-{}/{}", end - 1, content.len()));
        }
        answer.body = content[start..end].to_vec();
        answer
    }
}
