//! What happens to every request before its endpoint sees it: it gets an id, must be addressed to this host, must not come from a foreign page, and must show a
//! key where one is needed.
//!
//! A page of another site can make a browser send requests to a server on the user's machine. It cannot read the answers unless CORS allows it, but it need not:
//! with DNS rebinding its own host name comes to stand for 127.0.0.1, and then the browser takes the server for a part of that site. So requests
//! whose Host is a name that the server does not know are refused; IP addresses and `localhost` cannot be rebound. Requests of foreign pages to the right
//! address carry an Origin, and are refused by that.

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

/// The header that names a request in logs, and in its answer.
const REQUEST_ID: &str = "x-request-id";

/// Paths that need no key: nothing that they say is secret, and probes and browsers cannot show one.
const OPEN: [&str; 3] = ["/", "/health", "/openapi.json"];

/// Id and time of a request, for those who work on it.
#[derive(Clone)]
pub(crate) struct Arrival {
    pub(crate) id: String,
    pub(crate) at: Instant,
}

/// Scheme, host and port of a page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: String,
    authority: String,
}

impl Origin {
    /// Reads an origin as browsers send it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let known = ["http", "https"].contains(&scheme.to_ascii_lowercase().as_str());
        let whole: Authority = authority.parse().ok()?;
        let bare = known && whole.as_str() == authority && !authority.contains('@');
        bare.then(|| Self { scheme: scheme.to_ascii_lowercase(), authority: authority.to_ascii_lowercase() })
    }

    /// The host and port that a request of a page to its own server would name.
    fn is_of(&self, host: &str) -> bool {
        let usual = if self.scheme == "https" { ":443" } else { ":80" };
        let host = host.to_ascii_lowercase();
        self.authority.strip_suffix(usual).unwrap_or(&self.authority) == host.strip_suffix(usual).unwrap_or(&host)
    }
}

/// Gives a request its id, and writes it down with the outcome.
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
        // A balancer's pooled connections go elsewhere.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let endpoint = route.unwrap_or_else(|| "other".to_owned());
    app.metrics.answered.get_or_create(&Answered { endpoint, status: status.as_u16() }).inc();
    let millis = at.elapsed().as_secs_f64() * 1e3;
    let path: String = path.chars().take(100).collect();
    tracing::info!(request_id = %id, %method, %path, status = status.as_u16(), millis, "answered");
    response
}

/// Refuses what is not addressed to this server, or comes from a foreign page.
pub(crate) async fn address(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match check_host(&app, &request).and_then(|host| check_origin(&app, request.headers(), host.as_deref())) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// The host that a request is addressed to, if that is this one. Only clients of HTTP/1.0 name none, which browsers are not.
fn check_host(app: &App, request: &Request) -> Result<Option<String>, ApiError> {
    let bad = || ApiError::invalid("the request must have one Host header that names a host, and perhaps a port");
    let mut named = Vec::new();
    for value in request.headers().get_all(HOST) {
        named.push(value.to_str().map_err(|_| bad())?.to_owned());
    }
    // The address of a request in absolute form counts instead of its header; here both must be right.
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
                "the host {name:?} is not served here, against DNS rebinding; if it should be, start the server with --allowed-host {name}"
            );
            return Err(ApiError::status(StatusCode::FORBIDDEN, message).with_code("host_not_allowed"));
        }
    }
    match named.into_iter().next() {
        None if request.version() >= Version::HTTP_11 => Err(bad()),
        host => Ok(host),
    }
}

/// Refuses pages of other sites, unless the operator allows theirs.
fn check_origin(app: &App, headers: &HeaderMap, host: Option<&str>) -> Result<(), ApiError> {
    let Some(value) = headers.get(ORIGIN) else { return Ok(()) };
    let text = value.to_str().unwrap_or_default();
    let allowed =
        |known: &String| known == "*" || Origin::parse(known).is_some_and(|known| Some(known) == Origin::parse(text));
    let own = || Origin::parse(text).is_some_and(|origin| host.is_some_and(|host| origin.is_of(host)));
    if app.options.origins.iter().any(allowed) || own() {
        return Ok(());
    }
    let message = "pages of this origin may not use this server; if they should, start it with --cors-origin";
    Err(ApiError::status(StatusCode::FORBIDDEN, message).with_code("origin_not_allowed"))
}

/// Asks for a key where one is needed.
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

/// Compares with every key, each in the same time, whatever was sent.
fn check_key(keys: &[String], headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Err(ApiError::unauthorized("an API key is needed: send it as Authorization: Bearer KEY"));
    };
    let shown = match value.as_bytes().split_at_checked(7) {
        Some((scheme, shown)) if scheme.eq_ignore_ascii_case(b"bearer ") => shown.trim_ascii(),
        _ => return Err(ApiError::unauthorized("the API key must be sent as Authorization: Bearer KEY")),
    };
    // Digests have one length, so not even the length of a key shows.
    let shown = Sha256::digest(shown);
    let equal = |key: &String| Sha256::digest(key.as_bytes()).ct_eq(&shown);
    let found = keys.iter().fold(Choice::from(0), |found, key| found | equal(key));
    if bool::from(found) { Ok(()) } else { Err(ApiError::unauthorized("the API key is wrong")) }
}

#[cfg(test)]
mod tests {
    use super::Origin;

    #[test]
    fn origins_are_of_the_host_that_served_them() {
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
