//! URLs as configuration writes them, and which hosts are this machine.
//!
//! Must not: resolve names (a configuration is checked without a network, I8).

/// The parts of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url<'a> {
    pub(super) scheme: &'a str,
    pub(super) user: Option<&'a str>,
    pub(super) has_password: bool,
    /// Without the brackets of an IPv6 address; may be empty (a Unix socket for PostgreSQL).
    pub(super) host: &'a str,
    pub(super) port: Option<u16>,
    /// From the first `/`, without the query.
    pub(super) path: &'a str,
    /// After the `?`.
    pub(super) query: Option<&'a str>,
}

/// Cuts a URL into its parts; `None` if it isn't one.
pub(super) fn parse(text: &str) -> Option<Url<'_>> {
    let (scheme, rest) = text.split_once("://")?;
    if scheme.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return None;
    }
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(r, q)| (r, Some(q)));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let (login, place) = authority.rsplit_once('@').map_or((None, authority), |(l, p)| (Some(l), p));
    let (user, has_password) = match login {
        Some(login) => login.split_once(':').map_or((Some(login), false), |(user, _)| (Some(user), true)),
        None => (None, false),
    };
    let (host, port) = match place.strip_prefix('[') {
        Some(bracketed) => {
            let (host, after) = bracketed.split_once(']')?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        Some(port) => Some(port.parse().ok().filter(|p| *p != 0)?),
        None => None,
    };
    if host.contains(':') && !place.starts_with('[') {
        return None;
    }
    Some(Url { scheme, user: user.filter(|u| !u.is_empty()), has_password, host, port, path, query })
}

/// Whether a host is this machine: `localhost`, a loopback address, or none (a Unix socket).
pub(super) fn is_loopback(host: &str) -> bool {
    host.is_empty()
        || host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_cut_where_they_should_be() {
        let url = parse("postgresql://portero:x@[::1]:5432/attendance?a=b").expect("a URL");
        assert_eq!((url.scheme, url.user, url.has_password, url.host), ("postgresql", Some("portero"), true, "::1"));
        assert_eq!((url.port, url.path, url.query), (Some(5432), "/attendance", Some("a=b")));
        assert_eq!(parse("mqtt://broker.site").map(|u| (u.host, u.port)), Some(("broker.site", None)));
        assert_eq!(parse("http://a b/"), None);
        assert_eq!(parse("http://host:99999/"), None);
        assert_eq!(parse("127.0.0.1:1883"), None);
    }

    #[test]
    fn only_this_machine_is_loopback() {
        assert!(is_loopback("localhost") && is_loopback("127.0.0.9") && is_loopback("::1"));
        assert!(!is_loopback("10.0.0.1") && !is_loopback("localhost.example.com"));
    }
}
