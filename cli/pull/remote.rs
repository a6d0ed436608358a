//! HTTP requests to the hub.
//!
//! The crate `hf-hub` knows the layout of the cache. This module requests the files, as Python does: HEAD at the hub returns size and hash, GET follows
//! redirects. The token is sent only to the scheme, host and port of the hub, even after redirects.

use std::time::Duration;

use serde::Deserialize;
use sha1::{Digest, Sha1};
use ureq::config::Config;
use ureq::http::{HeaderMap, HeaderValue, Response, Uri, header};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body, Proxy, ProxyProtocol};

use super::failure::{self, Failure};
use super::forward;
use super::hash::hex;
use super::proxy::Proxies;
use super::settings::Settings;
use crate::hub::{ModelName, is_commit};

/// Maximum number of redirects to follow.
const HOPS: usize = 10;

/// Maximum size of the list of files, in bytes.
const LIST: u64 = 32 << 20;

/// Time limit for headers or the list of files, in multiples of the read timeout.
const PATIENCE: u32 = 6;

/// Client for one model on the hub.
pub(super) struct Remote<'a> {
    settings: &'a Settings,
    name: &'a ModelName,
    hub: Uri,
    authorization: Option<HeaderValue>,
    agent: Agent,
    config: Config,
    proxies: Proxies,
}

/// Response of the hub about a model.
#[derive(Debug, Deserialize)]
pub(super) struct Listing {
    /// Commit that the revision refers to.
    pub(super) sha: String,
    /// Files of the commit.
    pub(super) siblings: Vec<Sibling>,
}

/// Entry of the list of files.
#[derive(Debug, Deserialize)]
pub(super) struct Sibling {
    /// File name, with folders.
    pub(super) rfilename: String,
}

/// File on the hub.
#[derive(Clone, Debug)]
pub(super) struct RemoteFile {
    /// Name, without folders.
    pub(super) name: String,
    /// Name in the cache: the hash of the content if the hub sends it (SHA-256 for large files, git's SHA-1 for the rest), else a made-up name.
    pub(super) blob: String,
    /// Whether `blob` is the hash of the content.
    pub(super) hashed: bool,
    /// Size in bytes.
    pub(super) size: u64,
}

/// Kind of request.
enum Ask {
    /// List of files.
    List,
    /// Headers of the first response with size and hash.
    Head,
    /// Content from a byte offset to the end.
    From(u64),
    /// Content between two byte offsets, excluding the second.
    Part(u64, u64),
}

impl<'a> Remote<'a> {
    /// Creates the client, without sending a request.
    pub(super) fn new(
        settings: &'a Settings,
        name: &'a ModelName,
        tls: TlsConfig,
        proxies: Proxies,
    ) -> Result<Self, Failure> {
        let config = Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(settings.timeout))
            .timeout_per_read(Some(settings.timeout))
            .tls_config(tls)
            // The proxy is chosen per address, in `ask`.
            .proxy(None)
            .user_agent(concat!("ruminate/", env!("CARGO_PKG_VERSION")))
            .build();
        let hub = parse(&settings.endpoint).ok_or_else(|| {
            let endpoint = &settings.endpoint;
            Failure::Final(format!(
                "HF_ENDPOINT is `{endpoint}`, which is not an address; expected one like https://huggingface.co"
            ))
        })?;
        let authorization = settings.token.as_ref().map(|token| {
            let value = HeaderValue::from_str(&format!("Bearer {}", token.value)).ok();
            value.filter(|value| value.to_str().is_ok()).ok_or_else(|| {
                Failure::Final(format!("the token in {} contains an invalid character; set it again", token.origin))
            })
        });
        let authorization = authorization.transpose()?;
        let agent = config.clone().into();
        Ok(Self { settings, name, hub, authorization, agent, config, proxies })
    }

    /// Requests the commit that the revision refers to, and its files.
    pub(super) fn list(&self) -> Result<Listing, Failure> {
        let server = &self.settings.endpoint;
        let url = format!("{server}/api/models/{}/revision/{}", self.name.repo(), escaped(self.name.revision()));
        let mut response = self.ask(&url, &Ask::List)?;
        let lost = |error| failure::connection(server, None, self.settings.timeout, error);
        let text = response.body_mut().with_config().limit(LIST).read_to_vec().map_err(lost)?;
        let strange =
            |what: &dyn std::fmt::Display| Failure::Final(format!("{server} does not answer like a hub: {what}"));
        let listing: Listing = serde_json::from_slice(&text).map_err(|error| strange(&error))?;
        if !is_commit(&listing.sha) {
            return Err(strange(&format!("`{}` is not a commit", listing.sha)));
        }
        Ok(listing)
    }

    /// Requests size and hash of a file.
    pub(super) fn head(&self, commit: &str, file: &str) -> Result<RemoteFile, Failure> {
        let response = self.ask(&self.url(commit, file), &Ask::Head)?;
        let headers = response.headers();
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let endpoint = &self.settings.endpoint;
        let size = text("x-linked-size").or_else(|| text("content-length")).and_then(|size| size.parse().ok());
        let size = size.ok_or_else(|| Failure::Final(format!("{endpoint} does not send the size of {file}")))?;
        let etag = text("x-linked-etag").or_else(|| text("etag")).unwrap_or_default();
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
        // The hash becomes part of a path, so it is validated.
        let hashed = matches!(etag.len(), 40 | 64) && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        // A file of a commit never changes, so these values also identify its content.
        let made = || {
            let place = format!("{} {commit} {file} {size}", self.name.repo());
            format!("unchecked-{}", hex(&Sha1::digest(place.as_bytes())))
        };
        Ok(RemoteFile { name: file.to_owned(), blob: if hashed { etag } else { made() }, hashed, size })
    }

    /// Requests a file's content from a byte offset. Servers without range support send it from the beginning.
    pub(super) fn get(&self, commit: &str, file: &str, from: u64) -> Result<Response<Body>, Failure> {
        self.ask(&self.url(commit, file), &Ask::From(from))
    }

    /// Requests part of a file's content. Servers without range support send all of it.
    pub(super) fn part(&self, commit: &str, file: &str, start: u64, end: u64) -> Result<Response<Body>, Failure> {
        self.ask(&self.url(commit, file), &Ask::Part(start, end))
    }

    /// Address of the hub.
    pub(super) fn endpoint(&self) -> &str {
        &self.settings.endpoint
    }

    /// Read timeout of a connection.
    pub(super) fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// Address of a file at a fixed commit, so that a moving branch does not change it.
    fn url(&self, commit: &str, file: &str) -> String {
        format!("{}/{}/resolve/{commit}/{}", self.settings.endpoint, self.name.repo(), escaped(file))
    }

    fn ask(&self, url: &str, ask: &Ask) -> Result<Response<Body>, Failure> {
        let settings = self.settings;
        let mut url = parse(url).ok_or_else(|| Failure::Final(format!("{url} is not an address")))?;
        for _ in 0..HOPS {
            let own = same_server(&self.hub, &url);
            let proxy = self.proxies.of(&url)?;
            let shown = proxy.as_ref().map(|proxy| proxy.shown.clone());
            let forwards = |proxy: &Proxy| url.scheme_str() == Some("http") && proxy.protocol() == ProxyProtocol::Http;
            let (agent, tunnel) = match proxy.map(|proxy| proxy.proxy) {
                Some(proxy) if forwards(&proxy) => (&forward::agent(self.config.clone(), &proxy), None),
                tunnel => (&self.agent, tunnel),
            };
            let mut request = match ask {
                Ask::Head => agent.head(&url),
                Ask::List | Ask::From(_) | Ask::Part(..) => agent.get(&url),
            };
            // A compressed transfer would have neither the size nor the hash of the file.
            request = request.header(header::ACCEPT_ENCODING, "identity");
            if let Some(authorization) = self.authorization.as_ref().filter(|_| own) {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            match ask {
                Ask::From(start @ 1..) => request = request.header(header::RANGE, format!("bytes={start}-")),
                Ask::Part(start, end) if end > start => {
                    request = request.header(header::RANGE, format!("bytes={start}-{}", end - 1));
                }
                _ => {}
            }
            // Content may take long; its reader checks the speed instead.
            let deadline: Option<Duration> =
                (!matches!(ask, Ask::From(_))).then(|| settings.timeout.saturating_mul(PATIENCE));
            let request = request.config().proxy(tunnel).timeout_global(deadline).build();
            let server = if own { settings.endpoint.clone() } else { url.host().unwrap_or_default().to_owned() };
            let lost = |error| failure::connection(&server, shown.as_deref(), settings.timeout, error);
            let response = request.call().map_err(lost)?;
            let status = response.status();
            if status.is_redirection() {
                let next = target(&url, response.headers())?;
                let told = ["x-linked-etag", "x-linked-size"].iter().all(|name| response.headers().contains_key(*name));
                if matches!(ask, Ask::Head) && told {
                    return Ok(response);
                }
                url = next;
            } else if status.is_success() || status == 416 {
                return Ok(response);
            } else if own {
                return Err(failure::status(settings, self.name, status, response.headers()));
            } else {
                return Err(failure::other(&server, status, "", response.headers()));
            }
        }
        Err(Failure::Final(format!("{} redirects more than {HOPS} times", settings.endpoint)))
    }
}

/// Escapes a part of a path.
fn escaped(text: &str) -> String {
    ["%", "/", "#", "?"]
        .iter()
        .zip(["%25", "%2F", "%23", "%3F"])
        .fold(text.to_owned(), |text, (c, code)| text.replace(c, code))
}

fn parse(url: &str) -> Option<Uri> {
    url.parse::<Uri>().ok().filter(|uri| uri.scheme().is_some() && uri.host().is_some_and(|host| !host.is_empty()))
}

/// Port of an address, or the default port of its scheme.
pub(super) fn port(uri: &Uri) -> Option<u16> {
    uri.port_u16().or(match uri.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    })
}

/// Whether two addresses belong to the same server, so that the token may be sent.
fn same_server(a: &Uri, b: &Uri) -> bool {
    let host = |uri: &Uri| uri.host().unwrap_or_default().to_ascii_lowercase();
    a.scheme() == b.scheme() && host(a) == host(b) && port(a) == port(b)
}

/// Target of a redirect.
fn target(from: &Uri, headers: &HeaderMap) -> Result<Uri, Failure> {
    let (scheme, authority) =
        (from.scheme_str().unwrap_or_default(), from.authority().map_or("", |host| host.as_str()));
    let server = from.host().unwrap_or_default();
    let Some(location) = headers.get(header::LOCATION) else {
        return Err(Failure::Final(format!("{server} redirects without saying where to (it sends no Location)")));
    };
    let location = location.to_str().unwrap_or_default().split('#').next().unwrap_or_default();
    let next = if location.starts_with("//") {
        parse(&format!("{scheme}:{location}"))
    } else if location.contains("://") {
        parse(location)
    } else if location.starts_with('/') {
        parse(&format!("{scheme}://{authority}{location}"))
    } else if location.is_empty() {
        None
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        parse(&format!("{scheme}://{authority}{folder}/{location}"))
    };
    next.ok_or_else(|| {
        Failure::Final(format!("{server} redirects to `{}`, which is not an address", location.escape_default()))
    })
}
