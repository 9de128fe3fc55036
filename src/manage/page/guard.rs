//! Who may read the page, and what every answer carries.
//!
//! A browser can be made to call this machine by any name that its owner points here (DNS rebinding); the `Host` header
//! gives that away. A token is asked for by HTTP's basic login, which every browser has, or as a bearer for machines.
//!
//! Must not: let anything through that changes something, or say how a wrong token was wrong.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};

use super::Error;
use crate::manage::config::PageConfig;

/// Bytes of a token that a network may try: 16 letters and digits are some 95 bits.
const SHORTEST: usize = 16;

/// What is let through.
pub(super) struct Guard {
    listen: IpAddr,
    hosts: Vec<String>,
    /// SHA-256 of the token: what is compared says nothing of it by the time that it takes.
    token: Option<[u8; 32]>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Guard {
    pub(super) fn new(config: &PageConfig, policy: &str) -> Result<Self, Error> {
        let token = match &config.token {
            Some(source) => {
                let token = source.read()?;
                if token.expose_secret().len() < SHORTEST && !config.address.ip().is_loopback() {
                    return Err(Error::ShortToken);
                }
                Some(digest(token.expose_secret().as_bytes()))
            }
            None => None,
        };
        let policy = HeaderValue::from_str(policy).map_err(|_| Error::Policy)?;
        let fixed = HeaderValue::from_static;
        let headers = vec![
            (header::CONTENT_SECURITY_POLICY, policy),
            (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
            (header::X_FRAME_OPTIONS, fixed("DENY")),
            (header::REFERRER_POLICY, fixed("no-referrer")),
            (header::CACHE_CONTROL, fixed("no-store")),
            (header::CONNECTION, fixed("close")),
            (HeaderName::from_static("cross-origin-resource-policy"), fixed("same-origin")),
            (HeaderName::from_static("cross-origin-opener-policy"), fixed("same-origin")),
        ];
        Ok(Self { listen: config.address.ip(), hosts: config.hosts.clone(), token, headers })
    }

    /// Whether somebody who means us would call us so. The port is not looked at: a tunnel has another one.
    fn is_ours(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split_once(']').map_or("", |(address, _)| address),
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        if let Ok(address) = name.parse::<IpAddr>() {
            // Rebinding needs a name; on all addresses any of them is right.
            let listed = self.hosts.iter().any(|host| host == name);
            return address.is_loopback() || address == self.listen || self.listen.is_unspecified() || listed;
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        name.eq_ignore_ascii_case("localhost") || self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some((scheme, rest)) = given.and_then(|text| text.split_once(' ')) else { return false };
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return digest(rest.as_bytes()) == *token;
        }
        // The user's name says nothing; a browser wants one.
        let login = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(rest).ok()).flatten();
        let colon = login.as_ref().and_then(|login| login.iter().position(|b| *b == b':'));
        login.zip(colon).is_some_and(|(login, colon)| digest(&login[colon + 1..]) == *token)
    }

    /// The refusal, if it is one.
    fn refuse(&self, method: &Method, headers: &HeaderMap) -> Option<Response> {
        let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or("");
        if !self.is_ours(host) {
            let words = "403: called by a name that is not this gateway's; add it to [manage] hosts if it is right\n";
            return Some((StatusCode::FORBIDDEN, words).into_response());
        }
        if method != Method::GET && method != Method::HEAD {
            let allow = [(header::ALLOW, "GET, HEAD")];
            return Some((StatusCode::METHOD_NOT_ALLOWED, allow, "405: this page is for reading\n").into_response());
        }
        if !self.knows(headers) {
            let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"portero\", charset=\"UTF-8\"")];
            let words = "401: the password is the token of [manage] token, the user may be anything\n";
            return Some((StatusCode::UNAUTHORIZED, ask, words).into_response());
        }
        None
    }
}

/// Lets a request through, or answers itself.
pub(super) async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = match guard.refuse(request.method(), request.headers()) {
        None => next.run(request).await,
        Some(refusal) => refusal,
    };
    for (name, value) in &guard.headers {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(listen: &str, hosts: &[&str]) -> Guard {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Guard::new(
            &PageConfig { address: listen.parse().unwrap(), token: None, hosts, people: false },
            "default-src 'none'",
        )
        .unwrap()
    }

    #[test]
    fn only_names_of_ours_are_let_through() {
        let loopback = guard("127.0.0.1:8787", &["gw-1.site.example"]);
        for host in
            ["127.0.0.1:8787", "localhost", "LOCALHOST:9000", "[::1]:8787", "gw-1.Site.example:80", "localhost."]
        {
            assert!(loopback.is_ours(host), "{host}");
        }
        for host in
            ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.7", "[::1", "[]", ":80"]
        {
            assert!(!loopback.is_ours(host), "{host}");
        }
        assert!(
            guard("10.0.0.7:8787", &[]).is_ours("10.0.0.7:8787") && !guard("10.0.0.7:8787", &[]).is_ours("10.0.0.8")
        );
        let everywhere = guard("0.0.0.0:8787", &[]);
        assert!(everywhere.is_ours("192.168.1.4:8787") && !everywhere.is_ours("evil.example:8787"));
    }

    #[test]
    fn a_token_is_taken_as_a_bearer_or_as_the_password_of_a_login() {
        let mut guard = guard("127.0.0.1:1", &[]);
        guard.token = Some(digest(b"s:ecret"));
        let knows = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(text).unwrap());
            guard.knows(&headers)
        };
        assert!(knows("Bearer s:ecret") && knows("bearer  s:ecret"));
        assert!(knows(&format!("Basic {}", STANDARD.encode("anybody:s:ecret"))));
        for wrong in ["Bearer s:ecre", "Bearer", "Basic", "Basic ???", "Basic czplY3JldA==x", "Digest s:ecret", ""] {
            assert!(!knows(wrong), "{wrong}");
        }
        assert!(!guard.knows(&HeaderMap::new()));
    }
}
