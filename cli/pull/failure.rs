//! What a server's refusal or a broken connection means, and what to do about it.

use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode, header};

use super::settings::Settings;
use crate::exit_code::NoModel;
use crate::hub::ModelName;

/// Why a request brought nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no such model, revision or file.
    Missing(String),
    /// It will not get better by itself.
    Final(String),
    /// It may get better: the connection broke, or the server is overloaded.
    Passing(String),
    /// The server says when to ask again.
    Busy { text: String, wait: Duration },
}

impl From<Failure> for anyhow::Error {
    /// The system's errors are turned into text before: a broken pipe of a network connection must not look like one of stdout, which
    /// is no error.
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Missing(text) => NoModel(text).into(),
            Failure::Final(text) | Failure::Passing(text) | Failure::Busy { text, .. } => anyhow::anyhow!(text),
        }
    }
}

/// What a status of the hub itself means.
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
            "{endpoint} does not let you read `{repo}`{}: accept its licence at {endpoint}/{repo}, then {}",
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
            None => format!("{endpoint} wants to know who asks for `{repo}`: check owner and name; {login}"),
            Some(token) => format!(
                "{endpoint} does not accept the token in {}{}: it may have expired; make another at {endpoint}/settings/tokens, \
                 or check owner and name of `{repo}`",
                token.origin,
                said(words)
            ),
        }),
        _ => other(endpoint, status, words, headers),
    }
}

/// What a status of any server means.
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

/// How long a server asks to wait: in seconds, or until a date.
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

/// What it means that there was no answer at all. `proxy` is the one that was to be asked.
pub(super) fn connection(server: &str, proxy: Option<&str>, timeout: Duration, error: ureq::Error) -> Failure {
    let offline = match proxy {
        Some(_) => "check that proxy; NO_PROXY can name servers that are asked directly",
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
        // How rustls says that a certificate is not to be believed.
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => Failure::Final(format!(
            "cannot trust {server}{through} ({error}): if a proxy signs with a certificate of its own, SSL_CERT_FILE must name that"
        )),
        ureq::Error::Io(error) => Failure::Passing(format!("cannot reach {server}{through} ({error}): {offline}")),
        ureq::Error::ConnectionFailed => Failure::Passing(format!("cannot reach {server}{through}: {offline}")),
        ureq::Error::ConnectProxyFailed(reason) => {
            Failure::Passing(format!("cannot reach {server}{through} ({reason}): {offline}"))
        }
        ureq::Error::BadUri(_) => Failure::Final(format!(
            "{server} cannot be asked ({error}): HF_ENDPOINT must be an address like https://huggingface.co"
        )),
        error => Failure::Final(format!("no talk with {server} is possible{through}: {error}")),
    }
}
