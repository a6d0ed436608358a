//! What an operator chooses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How a server is started.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// Address and port to listen on; port 0 takes a free one.
    pub address: SocketAddr,
    /// Keys of which a request must show one, as `Authorization: Bearer KEY`; none: no request needs a key.
    pub api_keys: Vec<String>,
    /// Names of the host that requests may be addressed to, beside IP addresses and `localhost`; `*` allows all.
    pub hosts: Vec<String>,
    /// Origins whose pages may read answers, as `https://example.org`; `*` allows all. A page that the server itself has served may always.
    pub origins: Vec<String>,
    /// Steps of requests that say nothing; by default the model's.
    pub steps: Option<u32>,
    /// Largest number of steps that a request may ask for; by default as many as the library allows.
    pub max_steps: Option<u32>,
    /// Largest number of tokens that a request may ask for; by default as many as the context holds.
    pub max_tokens: Option<u32>,
    /// Largest number of tokens of a prompt; by default as many as the context holds.
    pub max_prompt: Option<u32>,
    /// Sequences that may wait for their turn, beside those that are computed.
    pub queue: u32,
    /// Largest body of a request, in bytes.
    pub max_body: usize,
    /// Largest head of a request, in bytes, at least 8,192.
    pub max_header: usize,
    /// Connections at a time.
    pub connections: usize,
    /// Time for a client to send the head of a request, or the body; also how long a connection may be idle.
    pub receive_timeout: Duration,
    /// Time that a client may leave the server waiting to send.
    pub send_timeout: Duration,
    /// Time for running requests to finish once the server has been asked to stop.
    pub drain: Duration,
    /// Whether prompts and answers are logged.
    pub log_prompts: bool,
    /// Whether kernels are compiled before the first request is served, instead of in the first requests.
    pub warm_up: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            api_keys: Vec::new(),
            hosts: Vec::new(),
            origins: Vec::new(),
            steps: None,
            max_steps: None,
            max_tokens: None,
            max_prompt: None,
            queue: 256,
            max_body: 4 << 20,
            max_header: 16 << 10,
            connections: 1024,
            receive_timeout: Duration::from_secs(20),
            send_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(30),
            log_prompts: false,
            warm_up: true,
        }
    }
}

/// An option that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value}; it must be {allowed}")]
pub struct InvalidOption {
    /// Name of the option.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// What would be accepted.
    pub allowed: &'static str,
}

impl Options {
    /// Checks what can be said before a model is loaded.
    ///
    /// # Errors
    /// [`InvalidOption`] names the first value that makes no sense.
    pub fn validate(&self) -> Result<(), InvalidOption> {
        let wrong = |name, value: String, allowed| Err(InvalidOption { name, value, allowed });
        let visible = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if self.api_keys.iter().any(|key| !visible(key)) {
            // Keys are secrets, also those that do not work.
            return wrong("api_keys", "a key that is not shown".to_owned(), "visible ASCII characters, at least one");
        }
        for (name, limit) in
            [("max_steps", self.max_steps), ("max_tokens", self.max_tokens), ("max_prompt", self.max_prompt)]
        {
            if limit == Some(0) {
                return wrong(name, "0".to_owned(), "at least 1");
            }
        }
        let most = self.max_steps.unwrap_or(ruminate::MAX_STEPS);
        if most > ruminate::MAX_STEPS {
            return wrong("max_steps", most.to_string(), "at most 65536");
        }
        if let Some(steps) = self.steps.filter(|&steps| steps == 0 || steps > most) {
            return wrong("steps", steps.to_string(), "at least 1, and at most max_steps");
        }
        if self.max_header < 8192 {
            return wrong("max_header", self.max_header.to_string(), "at least 8192 bytes");
        }
        if self.connections == 0 {
            return wrong("connections", "0".to_owned(), "at least 1");
        }
        let host = |name: &&String| *name != "*" && (name.contains(['/', ':']) || !visible(name));
        if let Some(name) = self.hosts.iter().find(host) {
            return wrong("hosts", name.clone(), "a name without scheme and port, or *");
        }
        let origin = |text: &&String| *text != "*" && crate::gate::Origin::parse(text).is_none();
        if let Some(text) = self.origins.iter().find(origin) {
            return wrong("origins", text.clone(), "scheme, name and perhaps port, as https://example.org, or *");
        }
        Ok(())
    }
}
