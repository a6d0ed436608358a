//! Trusted certificates for TLS connections.

use std::path::Path;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::failure::Failure;
use crate::hub::environment::{self, Variables};

/// Variables that name a file of certificates, as in Python's `requests` and `httpx`.
const VARIABLES: [&str; 3] = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"];

/// TLS configuration with Mozilla's root certificates, which are built in, or with the file that a variable names, for proxies with their own
/// certificate.
///
/// # Errors
/// If that file cannot be read or holds no certificate.
pub(super) fn tls(variables: Variables<'_>) -> Result<TlsConfig, Failure> {
    let named = VARIABLES.iter().find_map(|name| Some((*name, environment::path(variables, name)?)));
    // `requests` also accepts a folder, which is ignored here.
    let roots = match named.filter(|(_, path)| !path.is_dir()) {
        Some((name, path)) => RootCerts::new_with_certs(&certificates(name, &path)?),
        None => RootCerts::WebPki,
    };
    Ok(TlsConfig::builder().root_certs(roots).build())
}

fn certificates(name: &str, path: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let shown = path.display();
    let text = std::fs::read(path).map_err(|error| Failure::Final(format!("{name} names {shown}: {error}")))?;
    let found: Vec<_> = parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Err(Failure::Final(format!("{name} names {shown}, which contains no certificate in PEM format")));
    }
    Ok(found)
}
