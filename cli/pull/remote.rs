//! Requests to the hub.
//!
//! `hf-hub` knows the addresses, the list of files and the layout of the cache. It does not check hashes, resumes a file wherever the
//! last attempt ended without looking at the answer, and sends the token on to the server that a file is redirected to. So files are
//! asked for here, the way Python does: HEAD at the hub says size and hash, GET follows the redirect, and the token stays with the hub.

use hf_hub::api::RepoInfo;
use hf_hub::api::sync::{Api, ApiBuilder, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use ureq::http::{HeaderMap, Response, Uri, header};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body};

use super::failure::{self, Failure};
use super::settings::Settings;
use crate::hub::{ModelName, is_commit};

/// Redirects to follow at most.
const HOPS: usize = 10;

/// Bytes of the list of files at most.
const LIST: u64 = 32 << 20;

/// A model on the hub.
pub(super) struct Remote<'a> {
    settings: &'a Settings,
    name: &'a ModelName,
    api: Api,
    agent: Agent,
    tls: TlsConfig,
}

/// What the hub says of a file.
#[derive(Clone, Debug)]
pub(super) struct RemoteFile {
    /// Its name, without any folder.
    pub(super) name: String,
    /// Hash of its content, which names it in the cache: SHA-256 of large files, git's SHA-1 of others.
    pub(super) etag: String,
    /// Bytes.
    pub(super) size: u64,
}

/// Where to ask and how far to go.
enum Ask {
    /// For headers, of the first answer that does not stay with the hub.
    Head,
    /// For content from a byte on.
    From(u64),
}

impl<'a> Remote<'a> {
    /// Asks nothing yet.
    pub(super) fn new(settings: &'a Settings, name: &'a ModelName, tls: TlsConfig) -> Result<Self, Failure> {
        let api = ApiBuilder::from_cache(Cache::new(settings.cache.clone()))
            .with_endpoint(settings.endpoint.clone())
            .with_token(settings.token.as_ref().map(|token| token.value.clone()))
            .with_user_agent("ruminate", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|error| Failure::Final(format!("cannot prepare requests: {error}")))?;
        let agent = Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(settings.timeout))
            .timeout_per_read(Some(settings.timeout))
            .tls_config(tls.clone())
            .user_agent(concat!("ruminate/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Ok(Self { settings, name, api, agent, tls })
    }

    /// The commit that the revision means, and its files.
    pub(super) fn list(&self) -> Result<RepoInfo, Failure> {
        let (settings, server) = (self.settings, &self.settings.endpoint);
        let request = self.api.repo(self.name.to_repo()).info_request();
        let configured = request
            .config()
            .http_status_as_error(false)
            .timeout_connect(Some(settings.timeout))
            .timeout_per_read(Some(settings.timeout))
            .tls_config(self.tls.clone())
            .build();
        let lost = |error| failure::connection(server, settings.timeout, error);
        let mut response = configured.call().map_err(lost)?;
        if !response.status().is_success() {
            return Err(failure::status(settings, self.name, response.status(), response.headers()));
        }
        let text = response.body_mut().with_config().limit(LIST).read_to_vec().map_err(lost)?;
        let strange =
            |what: &dyn std::fmt::Display| Failure::Final(format!("{server} does not answer like a hub: {what}"));
        let info: RepoInfo = serde_json::from_slice(&text).map_err(|error| strange(&error))?;
        if !is_commit(&info.sha) {
            return Err(strange(&format!("`{}` is no commit", info.sha)));
        }
        Ok(info)
    }

    /// Size and hash of a file.
    pub(super) fn head(&self, commit: &str, file: &str) -> Result<RemoteFile, Failure> {
        let response = self.ask(&self.at(commit).url(file), &Ask::Head)?;
        let headers = response.headers();
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let endpoint = &self.settings.endpoint;
        let size = text("x-linked-size").or_else(|| text("content-length")).and_then(|size| size.parse().ok());
        let size = size.ok_or_else(|| Failure::Final(format!("{endpoint} does not say the size of {file}")))?;
        let etag = text("x-linked-etag").or_else(|| text("etag")).unwrap_or_default();
        let etag = etag.trim_start_matches("W/").trim_matches('"');
        // It becomes part of a path.
        let hash = matches!(etag.len(), 40 | 64) && etag.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !hash {
            return Err(Failure::Final(format!(
                "{endpoint} gives no hash of {file} to check it by (ETag `{}`): this mirror cannot be used",
                etag.escape_default()
            )));
        }
        Ok(RemoteFile { name: file.to_owned(), etag: etag.to_owned(), size })
    }

    /// A file's content from a byte on, or from its beginning if the server cannot do better.
    pub(super) fn get(&self, commit: &str, file: &str, from: u64) -> Result<Response<Body>, Failure> {
        self.ask(&self.at(commit).url(file), &Ask::From(from))
    }

    /// The model at a commit, whatever happens to its branch meanwhile.
    fn at(&self, commit: &str) -> ApiRepo {
        self.api.repo(Repo::with_revision(self.name.repo().to_owned(), RepoType::Model, commit.to_owned()))
    }

    fn ask(&self, url: &str, ask: &Ask) -> Result<Response<Body>, Failure> {
        let settings = self.settings;
        let hub = parse(&settings.endpoint)?;
        let mut url = parse(url)?;
        for _ in 0..HOPS {
            let own = same_server(&hub, &url);
            let mut request = match ask {
                Ask::Head => self.agent.head(&url),
                Ask::From(_) => self.agent.get(&url),
            };
            // What is compressed on the way has neither the size nor the hash of the file.
            request = request.header(header::ACCEPT_ENCODING, "identity");
            if let Some(token) = settings.token.as_ref().filter(|_| own) {
                request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.value));
            }
            if let Ask::From(start @ 1..) = ask {
                request = request.header(header::RANGE, format!("bytes={start}-"));
            }
            let server = url.host().unwrap_or_default().to_owned();
            let response = request.call().map_err(|error| failure::connection(&server, settings.timeout, error))?;
            let status = response.status();
            if status.is_redirection() {
                let next = target(&url, response.headers())?;
                if matches!(ask, Ask::Head) && !same_server(&url, &next) {
                    return Ok(response);
                }
                url = next;
            } else if status.is_success() || status == 416 {
                return Ok(response);
            } else if own {
                return Err(failure::status(settings, self.name, status, response.headers()));
            } else {
                return Err(failure::other(&server, status, ""));
            }
        }
        Err(Failure::Final(format!("{} redirects in a circle", settings.endpoint)))
    }
}

fn parse(url: &str) -> Result<Uri, Failure> {
    let uri = url.parse::<Uri>().ok().filter(|uri| uri.scheme().is_some() && uri.authority().is_some());
    uri.ok_or_else(|| {
        Failure::Final(format!("{url} is no address; HF_ENDPOINT must be one like https://huggingface.co"))
    })
}

/// Whether the token may go there too.
fn same_server(a: &Uri, b: &Uri) -> bool {
    a.scheme() == b.scheme() && a.authority() == b.authority()
}

/// Where a redirect leads.
fn target(from: &Uri, headers: &HeaderMap) -> Result<Uri, Failure> {
    let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (scheme, authority) =
        (from.scheme_str().unwrap_or_default(), from.authority().map_or("", |host| host.as_str()));
    if location.starts_with("//") {
        parse(&format!("{scheme}:{location}"))
    } else if location.starts_with('/') {
        parse(&format!("{scheme}://{authority}{location}"))
    } else {
        parse(location)
    }
}
