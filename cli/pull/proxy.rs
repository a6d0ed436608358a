//! Proxy selection, from the same variables as curl and Python: `http_proxy` for http, `https_proxy` for https, `all_proxy` for either, and
//! `no_proxy` for servers that are reached directly. Lower case takes precedence over upper case.

use std::ffi::OsString;
use std::net::IpAddr;

use ureq::Proxy;
use ureq::http::Uri;

use super::failure::Failure;
use super::remote::port;
use crate::hub::environment::Variables;

/// Values of the proxy variables.
#[derive(Debug, Default)]
pub(super) struct Proxies {
    http: Option<Named>,
    https: Option<Named>,
    all: Option<Named>,
    /// Servers that are reached directly, from `no_proxy`.
    none: String,
}

/// Value of a variable, and its name.
#[derive(Clone, Debug)]
struct Named {
    variable: String,
    value: String,
}

/// Proxy selected for a request.
#[derive(Clone)]
pub(super) struct Chosen {
    pub(super) proxy: Proxy,
    /// Its address without user and password, and the variable that sets it, for messages.
    pub(super) shown: String,
}

impl Proxies {
    /// Reads the variables.
    pub(super) fn read(variables: Variables<'_>) -> Self {
        let text = |value: OsString| value.to_string_lossy().trim().to_owned();
        let named = |name: &str| {
            // A variable that is set to nothing means no proxy.
            [name.to_owned(), name.to_ascii_uppercase()]
                .into_iter()
                .find_map(|variable| variables(&variable).map(|value| Named { value: text(value), variable }))
        };
        let none = named("no_proxy").map(|named| named.value).unwrap_or_default();
        Self { http: named("http_proxy"), https: named("https_proxy"), all: named("all_proxy"), none }
    }

    /// Proxy for an address, or `None` if the server is reached directly.
    ///
    /// # Errors
    /// If a variable's value is not the address of a proxy.
    pub(super) fn of(&self, url: &Uri) -> Result<Option<Chosen>, Failure> {
        let own = if url.scheme_str() == Some("https") { &self.https } else { &self.http };
        let Some(Named { variable, value }) = own.as_ref().or(self.all.as_ref()) else { return Ok(None) };
        if value.is_empty() || self.is_direct(url) {
            return Ok(None);
        }
        let address = value.rsplit_once('@').map_or(value.as_str(), |(_, address)| address);
        let scheme = value.split_once("://").map(|(scheme, _)| format!("{scheme}://")).unwrap_or_default();
        let address = address.strip_prefix(&scheme).unwrap_or(address);
        let wrong = |_| {
            Failure::Final(format!(
                "{variable} is `{scheme}{address}`, which is not the address of a proxy: expected one like http://host:8080, https:// or socks5://; \
                 fix or unset it"
            ))
        };
        let proxy = Proxy::new(value).map_err(wrong)?;
        Ok(Some(Chosen { proxy, shown: format!("{scheme}{address} (from {variable})") }))
    }

    /// Whether `no_proxy` matches a server: by name, including subdomains; by address or network; with or without a port; or by `*`, which matches all.
    fn is_direct(&self, url: &Uri) -> bool {
        let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        let entries = self.none.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
        entries.map(str::to_ascii_lowercase).any(|entry| {
            if let (Ok(network), Some(address)) = (entry.parse::<ipnet::IpNet>(), address) {
                return network.contains(&address);
            }
            let (name, asked) = with_port(&entry);
            if asked.is_some_and(|asked| Some(asked) != port(url)) {
                return false;
            }
            if let (Ok(known), Some(address)) = (name.parse::<IpAddr>(), address) {
                return known == address;
            }
            let name = name.trim_start_matches('*').trim_start_matches('.');
            let below = host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
            entry == "*" || (!name.is_empty() && (host == name || below))
        })
    }
}

/// Splits an entry into host and optional port. IPv6 addresses contain colons themselves.
fn with_port(entry: &str) -> (&str, Option<u16>) {
    if let Some((host, rest)) = entry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, rest.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match entry.split_once(':') {
        Some((host, port)) if !port.contains(':') => port.parse().map_or((entry, None), |port| (host, Some(port))),
        _ => (entry, None),
    }
}

#[cfg(test)]
mod tests {
    use super::Proxies;
    use std::ffi::OsString;

    fn chosen(set: &[(&str, &str)], url: &str) -> String {
        let variables = |name: &str| {
            let found = set.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        match Proxies::read(&variables).of(&url.parse().expect("an address")) {
            Ok(chosen) => chosen.map_or_else(|| "direct".to_owned(), |chosen| chosen.shown),
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn specific_variables_take_precedence_over_all_proxy() {
        let both = [("HTTP_PROXY", "http://a:1"), ("HTTPS_PROXY", "b:2"), ("ALL_PROXY", "socks5://c:3")];
        assert_eq!(chosen(&both, "http://hub/x"), "http://a:1 (from HTTP_PROXY)");
        assert_eq!(chosen(&both, "https://hub/x"), "b:2 (from HTTPS_PROXY)");
        assert_eq!(chosen(&both[1..2], "http://hub/x"), "direct");
        assert_eq!(chosen(&both[1..], "http://hub/x"), "socks5://c:3 (from ALL_PROXY)");
        assert_eq!(chosen(&[("http_proxy", ""), ("HTTP_PROXY", "http://a:1")], "http://hub/x"), "direct");
        let secret = [("all_proxy", "http://me:pass@word@a:1")];
        assert_eq!(chosen(&secret, "http://hub/x"), "http://a:1 (from all_proxy)");
    }

    #[test]
    fn no_proxy_matches_as_in_curl_and_python() {
        let direct =
            |list: &str, url: &str| chosen(&[("ALL_PROXY", "http://a:1"), ("NO_PROXY", list)], url) == "direct";
        for (list, url) in [
            ("one, hub.org", "https://hub.org/x"),
            ("one hub.org", "https://cdn.hub.org/x"),
            (".hub.org", "https://hub.org/x"),
            ("*.hub.org", "https://cdn.hub.org/x"),
            ("HUB.org:443", "https://hub.ORG/x"),
            ("10.0.0.0/8", "http://10.9.8.7/x"),
            ("10.0.0.1", "http://10.0.0.1:80/x"),
            ("fd00::/8", "http://[fd00::1]:80/x"),
            ("[::1]:80", "http://[::1]/x"),
            ("one,*", "https://hub.org/x"),
        ] {
            assert!(direct(list, url), "{list} {url}");
        }
        for (list, url) in [
            ("", "https://hub.org/x"),
            ("ub.org", "https://hub.org/x"),
            ("hub.org:80", "https://hub.org/x"),
            ("10.0.0.0/8", "http://11.0.0.1/x"),
            ("10.0.0.1:81", "http://10.0.0.1/x"),
        ] {
            assert!(!direct(list, url), "{list} {url}");
        }
    }

    #[test]
    fn invalid_proxies_are_reported_with_their_variable() {
        for value in ["quic://a:1", ":::", "http://"] {
            let said = chosen(&[("HTTP_PROXY", value)], "http://hub/x");
            assert!(said.contains("HTTP_PROXY is"), "{value}: {said}");
        }
    }
}
