//! Requests to http servers through a proxy, with the full address in the request line (RFC 9112, section 3.2.2), as curl and Python send them. ureq
//! can only open tunnels, which many proxies refuse for http.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport};
use ureq::{Agent, Error, Proxy};

/// Agent that sends all requests to one proxy.
pub(super) fn agent(config: Config, proxy: &Proxy) -> Agent {
    let connector = ().chain(TcpConnector::default()).chain(Forwarding { authorization: authorization(proxy) });
    Agent::with_parts(config, connector, ToProxy { proxy: proxy.uri().clone(), inner: DefaultResolver::default() })
}

/// Header that authenticates the user to a proxy.
fn authorization(proxy: &Proxy) -> String {
    let Some(user) = proxy.username() else { return String::new() };
    let secret = format!("{user}:{}", proxy.password().unwrap_or_default());
    format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(secret))
}

/// Resolves every name to the address of the proxy.
#[derive(Debug)]
struct ToProxy {
    proxy: Uri,
    inner: DefaultResolver,
}

impl Resolver for ToProxy {
    fn resolve(&self, _: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        self.inner.resolve(&self.proxy, config, timeout)
    }
}

#[derive(Debug)]
struct Forwarding {
    authorization: String,
}

impl<In: Transport> Connector<In> for Forwarding {
    type Out = Forwarded<In>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let authority = details.uri.authority().map_or("", |authority| authority.as_str());
        let server = format!("http://{authority}");
        Ok(chained.map(|inner| Forwarded { inner, server, authorization: self.authorization.clone() }))
    }
}

/// Connection to the proxy.
#[derive(Debug)]
struct Forwarded<T> {
    inner: T,
    /// Scheme and authority of the server.
    server: String,
    authorization: String,
}

impl<T: Transport> Transport for Forwarded<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    /// Requests have no body here, so each write is the head of a request.
    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let output = self.inner.buffers().output();
        let head = rewritten(&output[..amount], &self.server, &self.authorization);
        let Some(room) = output.get_mut(..head.len()) else {
            return Err(Error::LargeResponseHeader(head.len(), output.len()));
        };
        room.copy_from_slice(&head);
        self.inner.transmit_output(head.len(), timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}

/// Rewrites the head of a request: the full address in its first line, followed by the proxy's authorization header.
fn rewritten(head: &[u8], server: &str, authorization: &str) -> Vec<u8> {
    let end = head.windows(2).position(|pair| pair == b"\r\n").map(|at| at + 2);
    let path = head.iter().position(|&byte| byte == b' ').map(|at| at + 1);
    match (path, end) {
        (Some(path), Some(end)) if path < end && head[path] == b'/' => {
            [&head[..path], server.as_bytes(), &head[path..end], authorization.as_bytes(), &head[end..]].concat()
        }
        _ => head.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::rewritten;

    #[test]
    fn the_request_line_has_the_whole_address() {
        let head = rewritten(b"GET /a?b HTTP/1.1\r\nhost: x\r\n\r\n", "http://x:80", "P: q\r\n");
        assert_eq!(head, b"GET http://x:80/a?b HTTP/1.1\r\nP: q\r\nhost: x\r\n\r\n");
    }
}
