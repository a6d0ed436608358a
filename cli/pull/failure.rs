//! Turns HTTP statuses and connection errors into messages with advice.

use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode, header};

use super::settings::Settings;
use crate::exit_code::NoModel;
use crate::hub::ModelName;

/// Failure of a request.
#[derive(Debug)]
pub(super) enum Failure {
    /// The model, revision or file does not exist.
    Missing(String),
    /// Retrying does not help.
    Final(String),
    /// Retrying may help: the connection broke, or the server is overloaded.
    Passing(String),
    /// The server asks to retry after `wait`.
    Busy { text: String, wait: Duration },
}

impl From<Failure> for anyhow::Error {
    /// I/O errors are already text here: a broken pipe of a network connection must not be taken for a broken pipe of stdout, which is not an error.
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Missing(text) => NoModel(text).into(),
            Failure::Final(text) | Failure::Passing(text) | Failure::Busy { text, .. } => anyhow::anyhow!(text),
        }
    }
}

/// Failure for a status of the hub itself.
pub(super) fn status(settings: &Settings, name: &ModelName, status: StatusCode, headers: &HeaderMap) -> Failure {
    let word = |header: &str| headers.get(header).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (code, words) = (word("x-error-code"), word("x-error-message"));
    let (endpoint, repo) = (&settings.endpoint, name.repo());
    let login = "a private model needs a token: set HF_TOKEN, or log in with `hf auth login`";
    let absent = || {
        let access = match &settings.token {
            None => login.to_owned(),
            Some(token) => format!("for a private model, check that the token in {} may read it", token.origin),
        };
        Failure::Missing(format!("{endpoint} has no model `{repo}`: check owner and name; {access}"))
    };
    match (status.as_u16(), code) {
        (_, "RevisionNotFound") => Failure::Missing(format!(
            "`{repo}` has no revision `{}`: see the branches and commits at {endpoint}/{repo}/tree/main",
            name.revision()
        )),
        (_, "EntryNotFound") => {
            Failure::Missing(format!("`{name}` lists a file that the server does not have: {words}"))
        }
        (_, "GatedRepo") | (403, _) => Failure::Final(format!(
            "{endpoint} does not let you read `{repo}`{}: accept its license at {endpoint}/{repo}, then {}",
            said(words),
            match &settings.token {
                None => "set HF_TOKEN, or log in with `hf auth login`".to_owned(),
                Some(token) =>
                    format!("check that the token in {} belongs to that account and may read it", token.origin),
            }
        )),
        // Without a token the hub answers 401 for a model that does not exist, so as not to tell which private ones do.
        (404, _) | (_, "RepoNotFound") => absent(),
        (401, _) => Failure::Final(match &settings.token {
            None => format!("{endpoint} requires authentication for `{repo}`: check owner and name; {login}"),
            Some(token) => format!(
                "{endpoint} does not accept the token in {}{}: it may have expired; create a new one at {endpoint}/settings/tokens, \
                 or check owner and name of `{repo}`",
                token.origin,
                said(words)
            ),
        }),
        _ => other(endpoint, status, words, headers),
    }
}

/// Failure for a status of any server.
pub(super) fn other(server: &str, status: StatusCode, words: &str, headers: &HeaderMap) -> Failure {
    let text = format!("{server} answered {status}{}", said(words));
    match status.as_u16() {
        408 | 429 | 500..=599 => match retry_after(headers) {
            Some(wait) => Failure::Busy { text, wait },
            None => Failure::Passing(text),
        },
        _ => Failure::Final(text),
    }
}

/// Time that a server asks to wait: in seconds, or until a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    Some(until.duration_since(std::time::SystemTime::now()).unwrap_or_default())
}

fn said(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(" ({words})") }
}

/// Failure of a connection without a response. `proxy` is the proxy in use, if any.
pub(super) fn connection(server: &str, proxy: Option<&str>, timeout: Duration, error: ureq::Error) -> Failure {
    let offline = match proxy {
        Some(_) => "check that proxy; NO_PROXY can name servers to reach directly",
        None => "check the connection; HF_ENDPOINT can name a mirror, HTTPS_PROXY a proxy",
    };
    let through = proxy.map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default();
    match error {
        ureq::Error::HostNotFound => {
            Failure::Passing(format!("cannot find the address of {server}{through}: {offline}"))
        }
        ureq::Error::Timeout(ureq::Timeout::Global) => {
            Failure::Passing(format!("{server} did not finish its answer in time{through}"))
        }
        ureq::Error::Timeout(_) => Failure::Passing(format!(
            "{server} was silent for {} s{through}; HF_HUB_DOWNLOAD_TIMEOUT sets how many seconds to wait",
            timeout.as_secs()
        )),
        // rustls reports an untrusted certificate this way.
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => Failure::Final(format!(
            "cannot trust {server}{through} ({error}): if a proxy signs with its own certificate, set SSL_CERT_FILE to that certificate"
        )),
        ureq::Error::Io(error) => Failure::Passing(format!("cannot reach {server}{through} ({error}): {offline}")),
        ureq::Error::ConnectionFailed => Failure::Passing(format!("cannot reach {server}{through}: {offline}")),
        ureq::Error::ConnectProxyFailed(reason) => {
            Failure::Passing(format!("cannot reach {server}{through} ({reason}): {offline}"))
        }
        ureq::Error::BadUri(_) => Failure::Final(format!(
            "cannot send a request to {server} ({error}): HF_ENDPOINT must be an address like https://huggingface.co"
        )),
        error => Failure::Final(format!("cannot communicate with {server}{through}: {error}")),
    }
}
