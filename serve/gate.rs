//! Checks before every endpoint. Each request gets an id, must be addressed to this host, must not come from a foreign page, and must carry a key if the
//! server requires one.
//!
//! A page of another site can make a browser send requests to a server on the user's machine. CORS prevents it from reading the answers, but not with DNS
//! rebinding: the site's own host name then resolves to 127.0.0.1, and the browser treats the server as part of that site. Therefore, requests with an
//! unknown name in Host are refused; IP addresses and `localhost` cannot be rebound. Requests of foreign pages to the right address carry an Origin, and
//! are refused for it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{AUTHORIZATION, CONNECTION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::app::{App, Phase};
use crate::error::ApiError;
use crate::metrics::Answered;

/// Header with the request id, which also appears in the log.
const REQUEST_ID: &str = "x-request-id";

/// Paths without authentication: they reveal no secrets, and probes and browsers cannot send a key.
const OPEN: [&str; 3] = ["/", "/health", "/openapi.json"];

/// Id and arrival time of a request.
#[derive(Clone)]
pub(crate) struct Arrival {
    pub(crate) id: String,
    pub(crate) at: Instant,
}

/// Origin of a page: scheme, host and port.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: String,
    authority: String,
}

impl Origin {
    /// Parses an origin as sent by browsers.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let known = ["http", "https"].contains(&scheme.to_ascii_lowercase().as_str());
        let whole: Authority = authority.parse().ok()?;
        let bare = known && whole.as_str() == authority && !authority.contains('@');
        bare.then(|| Self { scheme: scheme.to_ascii_lowercase(), authority: authority.to_ascii_lowercase() })
    }

    /// Whether a page of this origin was served by `host`.
    fn is_of(&self, host: &str) -> bool {
        let usual = if self.scheme == "https" { ":443" } else { ":80" };
        let host = host.to_ascii_lowercase();
        self.authority.strip_suffix(usual).unwrap_or(&self.authority) == host.strip_suffix(usual).unwrap_or(&host)
    }
}

/// Assigns the request id, and logs the request with its outcome.
pub(crate) async fn record(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let at = Instant::now();
    let given = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let fits = |id: &&str| (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    let id = given.filter(fits).map_or_else(|| format!("req-{:016x}", fastrand::u64(..)), str::to_owned);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    request.extensions_mut().insert(Arrival { id: id.clone(), at });
    let mut response = next.run(request).await;
    let status = response.status();
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    if app.phase() != Phase::Ready {
        // Makes a balancer move its pooled connections to other servers.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let endpoint = route.unwrap_or_else(|| "other".to_owned());
    app.metrics.answered.get_or_create(&Answered { endpoint, status: status.as_u16() }).inc();
    let millis = at.elapsed().as_secs_f64() * 1e3;
    let path: String = path.chars().take(100).collect();
    tracing::info!(request_id = %id, %method, %path, status = status.as_u16(), millis, "answered");
    response
}

/// Refuses requests that are not addressed to this server, or come from a foreign page.
pub(crate) async fn address(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match check_host(&app, &request).and_then(|host| check_origin(&app, request.headers(), host.as_deref())) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Returns the host that a request is addressed to, if it is this one. Only HTTP/1.0 clients, which browsers are not, may omit it.
fn check_host(app: &App, request: &Request) -> Result<Option<String>, ApiError> {
    let bad = || ApiError::invalid("the request must have exactly one Host header, with a host and an optional port");
    let mut named = Vec::new();
    for value in request.headers().get_all(HOST) {
        named.push(value.to_str().map_err(|_| bad())?.to_owned());
    }
    // In absolute form, the address of the request overrides the header; here both must be valid.
    named.extend(request.uri().authority().map(|authority| authority.as_str().to_owned()));
    if request.headers().get_all(HOST).iter().count() > 1 {
        return Err(bad());
    }
    for host in &named {
        let authority: Authority = host.parse().map_err(|_| bad())?;
        let name = authority.host().trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        let known = |known: &String| known == "*" || known.eq_ignore_ascii_case(name);
        let here = name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost");
        if !here && !app.options.hosts.iter().any(known) {
            let message = format!(
                "the host {name:?} is not allowed, to prevent DNS rebinding; to allow it, start the server with --allowed-host {name}"
            );
            return Err(ApiError::status(StatusCode::FORBIDDEN, message).with_code("host_not_allowed"));
        }
    }
    match named.into_iter().next() {
        None if request.version() >= Version::HTTP_11 => Err(bad()),
        host => Ok(host),
    }
}

/// Refuses pages of other sites, unless the operator allows their origin.
fn check_origin(app: &App, headers: &HeaderMap, host: Option<&str>) -> Result<(), ApiError> {
    let Some(value) = headers.get(ORIGIN) else { return Ok(()) };
    let text = value.to_str().unwrap_or_default();
    let allowed =
        |known: &String| known == "*" || Origin::parse(known).is_some_and(|known| Some(known) == Origin::parse(text));
    let own = || Origin::parse(text).is_some_and(|origin| host.is_some_and(|host| origin.is_of(host)));
    if app.options.origins.iter().any(allowed) || own() {
        return Ok(());
    }
    let message = "pages of this origin are not allowed; to allow them, start the server with --cors-origin";
    Err(ApiError::status(StatusCode::FORBIDDEN, message).with_code("origin_not_allowed"))
}

/// Checks the API key, if the server requires one.
pub(crate) async fn key(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let open = OPEN.contains(&request.uri().path()) || request.method() == Method::OPTIONS;
    if open || app.options.api_keys.is_empty() {
        return next.run(request).await;
    }
    match check_key(&app.options.api_keys, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Compares the key with every configured key in constant time.
fn check_key(keys: &[String], headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Err(ApiError::unauthorized("an API key is needed: send it as Authorization: Bearer KEY"));
    };
    let shown = match value.as_bytes().split_at_checked(7) {
        Some((scheme, shown)) if scheme.eq_ignore_ascii_case(b"bearer ") => shown.trim_ascii(),
        _ => return Err(ApiError::unauthorized("the API key must be sent as Authorization: Bearer KEY")),
    };
    // Digests have equal lengths, so that the comparison does not reveal the length of a key.
    let shown = Sha256::digest(shown);
    let equal = |key: &String| Sha256::digest(key.as_bytes()).ct_eq(&shown);
    let found = keys.iter().fold(Choice::from(0), |found, key| found | equal(key));
    if bool::from(found) { Ok(()) } else { Err(ApiError::unauthorized("the API key is wrong")) }
}

#[cfg(test)]
mod tests {
    use super::Origin;

    #[test]
    fn origins_match_the_host_that_served_them() {
        let cases = [
            ("http://127.0.0.1:8080", "127.0.0.1:8080", true),
            ("http://localhost", "localhost:80", true),
            ("https://Example.org", "example.org", true),
            ("http://evil.example", "127.0.0.1:8080", false),
            ("http://127.0.0.1:9090", "127.0.0.1:8080", false),
            ("null", "127.0.0.1:8080", false),
            ("http://user@127.0.0.1", "127.0.0.1", false),
            ("file://", "127.0.0.1", false),
        ];
        for (origin, host, same) in cases {
            assert_eq!(Origin::parse(origin).is_some_and(|origin| origin.is_of(host)), same, "{origin} at {host}");
        }
    }
}
