//! HTTP requests to a server with OpenAI's API.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderValue, Response, Uri, header};
use ureq::{Agent, Body, Proxy};

/// Connection timeout.
const CONNECT: Duration = Duration::from_secs(15);
/// Longest time without data: the server may have a queue, and then a long prompt to process.
const SILENCE: Duration = Duration::from_secs(10 * 60);
/// Maximum size of a response that is not a stream, and of one line of a stream, in bytes.
const MOST: u64 = 16 << 20;
/// Maximum number of events that wait to be printed.
const WAITING: usize = 64;

/// Error of a server; the conversation continues.
#[derive(Debug)]
pub(crate) struct ServerError(pub(crate) String);

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ServerError {}

/// Server address, with key and HTTP agent.
pub(super) struct Address {
    /// URL without `/v1` or a trailing slash.
    url: String,
    authorization: Option<HeaderValue>,
    agent: Agent,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl Address {
    /// Parses the address of a server, with or without `/v1` at its end.
    ///
    /// # Errors
    /// If the address or the key is invalid; the message does not show the key.
    pub(super) fn new(url: &str, key: Option<&str>) -> Result<Self, String> {
        let bare = url.trim_end_matches('/');
        let bare = bare.strip_suffix("/v1").unwrap_or(bare).trim_end_matches('/');
        let uri = bare.parse::<Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
        let uri =
            uri.filter(|uri| uri.query().is_none() && uri.authority().is_some_and(|it| !it.as_str().contains('@')));
        let Some(host) = uri.as_ref().and_then(Uri::host).filter(|host| !host.is_empty()) else {
            return Err(format!("--server {url}: expected an address such as http://127.0.0.1:8080"));
        };
        let authorization = key.map(|key| {
            let value = HeaderValue::from_str(&format!("Bearer {key}")).ok();
            let value = value.filter(|value| !key.is_empty() && value.to_str().is_ok());
            value.ok_or_else(|| {
                "the API key is empty or contains a character that is not allowed in a header".to_owned()
            })
        });
        let mut authorization = authorization.transpose()?;
        authorization.iter_mut().for_each(|value| value.set_sensitive(true));
        // Servers on this machine are reached without a proxy.
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let here = name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let config = Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(SILENCE))
            .proxy(if here { None } else { Proxy::try_from_env() })
            .user_agent(concat!("ruminate/", env!("CARGO_PKG_VERSION")));
        Ok(Self { url: bare.to_owned(), authorization, agent: config.build().into() })
    }

    /// Requests a path and parses the response as JSON.
    pub(super) fn get(&self, path: &str) -> Result<Value, ServerError> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let response = request.call().map_err(|error| self.lost(&error))?;
        let bytes = self.checked(response)?.body_mut().with_config().limit(MOST).read_to_vec();
        let bytes = bytes.map_err(|error| self.lost(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            ServerError(format!("{self}{path} does not answer in JSON ({error}); is it a server with OpenAI's API?"))
        })
    }

    /// Sends a request and reads its events on a thread, so that the caller can stop waiting.
    pub(super) fn stream(&self, path: &str, body: &Value) -> Events {
        let (sender, events) = sync_channel(WAITING);
        let mut request = self.agent.post(format!("{}{path}", self.url));
        request = request.header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let (body, server) = (body.to_string(), self.clone_for_errors());
        std::thread::spawn(move || {
            let outcome = request.send(body).map_err(|error| server.lost(&error));
            let done = outcome.and_then(|response| server.read(server.checked(response)?, &sender));
            // If the receiver is gone, the result is no longer needed.
            let _ = sender.send(done.map_or_else(Event::Failed, |()| Event::End));
        });
        Events(events)
    }

    fn clone_for_errors(&self) -> Self {
        Self { url: self.url.clone(), authorization: self.authorization.clone(), agent: self.agent.clone() }
    }

    /// Reads events until the last one, or until the receiver is dropped.
    fn read(&self, response: Response<Body>, sender: &SyncSender<Event>) -> Result<(), ServerError> {
        let mut reader = BufReader::new(response.into_body().into_reader());
        let (mut line, mut data) = (Vec::new(), String::new());
        loop {
            line.clear();
            let lost = |error| ServerError(format!("{self}: the connection broke: {error}"));
            reader.by_ref().take(MOST).read_until(b'\n', &mut line).map_err(lost)?;
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']);
            if let Some(part) = text.strip_prefix("data:") {
                data.push_str(part.strip_prefix(' ').unwrap_or(part));
            }
            if data.len() as u64 > MOST || line.len() as u64 == MOST {
                return Err(ServerError(format!("{self} sends an event of more than {MOST} bytes")));
            }
            if !text.is_empty() {
                continue;
            }
            // An empty line ends an event; the end of the response ends the last one.
            match std::mem::take(&mut data).as_str() {
                "" => {}
                "[DONE]" => return Ok(()),
                event => {
                    let strange = |error| ServerError(format!("{self} sends an event that is not JSON: {error}"));
                    let chunk: Value = serde_json::from_str(event).map_err(strange)?;
                    if let Some(message) = chunk["error"]["message"].as_str() {
                        return Err(ServerError(format!("{self}: {message}")));
                    }
                    if sender.send(Event::Chunk(chunk)).is_err() {
                        return Ok(());
                    }
                }
            }
            if line.is_empty() {
                return Ok(());
            }
        }
    }

    /// Returns a successful response, or the server's message as an error.
    fn checked(&self, mut response: Response<Body>) -> Result<Response<Body>, ServerError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let wait = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = response.body_mut().with_config().limit(MOST).read_to_vec().unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let mut text = match body["error"]["message"].as_str() {
            Some(message) => format!("{self}: {message}"),
            None => format!("{self} answers {status}"),
        };
        match (status.as_u16(), wait) {
            (401, _) if self.authorization.is_some() => {
                text.push_str("; the server refused the key of --api-key, --api-key-file or RUMINATE_API_KEY");
            }
            (401, _) => text.push_str("; give it with --api-key-file, or in RUMINATE_API_KEY"),
            (429 | 503, Some(wait)) => text.push_str(&format!("; try again in {wait} s")),
            _ => {}
        }
        Err(ServerError(text))
    }

    /// Error of a failed connection. The I/O error becomes text, so that a broken connection is not taken for a broken pipe of stdout.
    fn lost(&self, error: &ureq::Error) -> ServerError {
        ServerError(format!("{self} cannot be reached: {error}"))
    }
}

/// Part of a server's streamed answer.
pub(super) enum Event {
    /// No event arrived within the time.
    Nothing,
    /// A part of the answer.
    Chunk(Value),
    /// End of the answer.
    End,
    /// The request failed.
    Failed(ServerError),
}

/// Events of an answer.
pub(super) struct Events(Receiver<Event>);

impl Events {
    /// Waits at most `time` for the next event.
    pub(super) fn next(&self, time: Duration) -> Event {
        match self.0.recv_timeout(time) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => Event::Nothing,
            Err(RecvTimeoutError::Disconnected) => Event::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn addresses_parse_with_and_without_v1() {
        for url in
            ["http://127.0.0.1:8080", "http://127.0.0.1:8080/", "http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1/"]
        {
            assert_eq!(Address::new(url, None).expect("an address").to_string(), "http://127.0.0.1:8080");
        }
        assert_eq!(Address::new("https://h/models/v1", Some("k")).expect("an address").to_string(), "https://h/models");
    }

    #[test]
    fn invalid_addresses_and_keys_are_rejected_without_showing_the_key() {
        for url in ["", "localhost:8080", "ftp://h", "http://", "http://user:secret@h", "http://h?x=1"] {
            let problem = Address::new(url, None).err().unwrap_or_else(|| panic!("{url} is accepted"));
            assert!(problem.contains("--server"), "{problem}");
        }
        for key in ["", "a\nb", "schlüssel"] {
            let problem = Address::new("http://h", Some(key)).err().unwrap_or_else(|| panic!("{key:?} is accepted"));
            assert!(problem.contains("API key") && (key.is_empty() || !problem.contains(key)), "{problem}");
        }
    }
}
