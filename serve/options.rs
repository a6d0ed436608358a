//! Options of the server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Options of a server.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// Address and port to listen on; port 0 takes a free one.
    pub address: SocketAddr,
    /// API keys; a request must send one as `Authorization: Bearer KEY`. If empty, requests need no key.
    pub api_keys: Vec<String>,
    /// Host names that requests may be addressed to, in addition to IP addresses and `localhost`; `*` allows all.
    pub hosts: Vec<String>,
    /// Origins of pages that may read answers, such as `https://example.org`; `*` allows all. Pages served by the server itself are always allowed.
    pub origins: Vec<String>,
    /// Default steps per token of requests; if `None`, the model's.
    pub steps: Option<u32>,
    /// Maximum steps per token of a request; if `None`, the library's maximum.
    pub max_steps: Option<u32>,
    /// Maximum tokens that a request may generate; if `None`, limited by the context.
    pub max_tokens: Option<u32>,
    /// Maximum tokens of a prompt; if `None`, limited by the context.
    pub max_prompt: Option<u32>,
    /// Sequences that may wait in the queue, in addition to those being computed.
    pub queue: u32,
    /// Maximum size of a request body, in bytes.
    pub max_body: usize,
    /// Maximum size of a request head, in bytes; at least 8,192.
    pub max_header: usize,
    /// Maximum number of open connections.
    pub connections: usize,
    /// Time for a client to send the head of a request, or the body; also the maximum idle time of a connection.
    pub receive_timeout: Duration,
    /// Time that a client may leave an answer unread.
    pub send_timeout: Duration,
    /// Time to compile the constraint of a request, and to wait for other requests' constraints.
    pub constraint_timeout: Duration,
    /// Time for running requests to finish after the server was asked to stop.
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
            constraint_timeout: Duration::from_secs(10),
            drain: Duration::from_secs(30),
            log_prompts: false,
            warm_up: true,
        }
    }
}

/// Invalid option.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value}; it must be {allowed}")]
pub struct InvalidOption {
    /// Name of the option.
    pub name: &'static str,
    /// Invalid value.
    pub value: String,
    /// Allowed values; if another option limits them, its name is in parentheses.
    pub allowed: String,
}

impl Options {
    /// Checks the options that do not depend on the model.
    ///
    /// # Errors
    /// [`InvalidOption`] for the first invalid value.
    pub fn validate(&self) -> Result<(), InvalidOption> {
        let wrong =
            |name, value: String, allowed: &str| Err(InvalidOption { name, value, allowed: allowed.to_owned() });
        let visible = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if self.api_keys.iter().any(|key| !visible(key)) {
            // Keys are secrets, even invalid ones.
            return wrong("api_keys", "not shown".to_owned(), "visible ASCII characters, at least one");
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
            let limit = if self.max_steps.is_some() { " (max_steps)" } else { "" };
            return wrong("steps", steps.to_string(), &format!("from 1 to {most}{limit}"));
        }
        if self.max_header < 8192 {
            return wrong("max_header", self.max_header.to_string(), "at least 8192 bytes");
        }
        if self.connections == 0 {
            return wrong("connections", "0".to_owned(), "at least 1");
        }
        let host = |name: &&String| *name != "*" && (name.contains(['/', ':']) || !visible(name));
        if let Some(name) = self.hosts.iter().find(host) {
            return wrong("hosts", name.clone(), "a host name without scheme and port, or *");
        }
        let origin = |text: &&String| *text != "*" && crate::gate::Origin::parse(text).is_none();
        if let Some(text) = self.origins.iter().find(origin) {
            return wrong(
                "origins",
                text.clone(),
                "a scheme, a host and an optional port, such as https://example.org, or *",
            );
        }
        Ok(())
    }
}
