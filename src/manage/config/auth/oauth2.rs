//! `auth = { type = "oauth2" }`: grants, client authentication, assertions.
//!
//! Must not: read or repeat a secret.

use std::time::Duration;

use super::{login_url, placement};
use crate::deliver::auth::{Assertion, ClientAuth, Grant, JwtAlgorithm, OAuth2, Words};
use crate::manage::config::reader::{Reader, as_text};
use crate::manage::config::secrets;
use crate::manage::config::tree::Value;

const ASSERTION: &str = "a table such as { algorithm = \"RS256\", key = { credential = \"NAME\" } }";

const ALGORITHMS: &[(&str, JwtAlgorithm)] =
    &[("HS256", JwtAlgorithm::Hs256), ("RS256", JwtAlgorithm::Rs256), ("ES256", JwtAlgorithm::Es256)];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Credentials,
    Refresh,
    Jwt,
}

const GRANTS: &[(&str, Asked)] =
    &[("client_credentials", Asked::Credentials), ("refresh_token", Asked::Refresh), ("jwt_bearer", Asked::Jwt)];

const CLIENTS: &[(&str, ClientAuth)] =
    &[("basic", ClientAuth::Basic), ("body", ClientAuth::Body), ("assertion", ClientAuth::Assertion)];

pub(super) fn oauth2(auth: &Reader<'_>) -> Option<OAuth2> {
    let url = login_url(auth, None);
    let client_auth = auth.word("client_auth", CLIENTS).unwrap_or_default();
    let asked = auth.word("grant", GRANTS).unwrap_or(Asked::Credentials);
    let asserts = client_auth == ClientAuth::Assertion || asked == Asked::Jwt;
    let client_id = match auth.get("client_id") {
        Some(node) if matches!(node.value, Value::Table(_)) => {
            secrets::source(auth, "client_id").map(|source| Words::Secret { prefix: String::new(), source })
        }
        // Who signs for itself may be no client: its assertion says who it is.
        None if asked == Asked::Jwt => Some(Words::Plain(String::new())),
        _ => auth.need_text("client_id", "the client's id").map(|id| Words::Plain(id.to_owned())),
    };
    let client_secret = secrets::source(auth, "client_secret");
    if let (ClientAuth::Assertion, Some(node)) = (client_auth, auth.get("client_secret")) {
        auth.refuse("client_secret", &node.place, "a secret (not shown)", "none beside client_auth = \"assertion\"");
    }
    let grant = match asked {
        Asked::Refresh => {
            let first = secrets::needed(auth, "refresh_token");
            if auth.get("state_file").is_none() {
                auth.missing(
                    "state_file",
                    "state_file = \"/var/lib/portero/NAME.token\", where a rotated token is kept",
                );
            }
            let state = auth.path_to("state_file", "where a rotated refresh token is kept");
            if let (Some(path), Some(node)) = (&state, auth.get("state_file")) {
                auth.report.state_files.borrow_mut().push((auth.key("state_file"), path.clone(), node.place.clone()));
            }
            (|| Some(Grant::RefreshToken { first: first?, state: state? }))()
        }
        Asked::Credentials => {
            if client_auth != ClientAuth::Assertion && auth.get("client_secret").is_none() {
                auth.missing("client_secret", "client_secret = { credential = \"NAME\" }");
            }
            Some(Grant::ClientCredentials)
        }
        Asked::Jwt => Some(Grant::JwtBearer),
    };
    // Not asked for where nothing sends it: it is no key of the other grants.
    let there = auth.entries().any(|(name, ..)| name == "assertion");
    let assertion = match (asserts, if asserts || there { auth.get("assertion") } else { None }) {
        (true, None) => {
            auth.missing("assertion", ASSERTION);
            None
        }
        (true, Some(_)) => assertion(auth, asked).map(|assertion| Some(Box::new(assertion))),
        (false, Some(node)) => {
            let expected = "grant = \"jwt_bearer\" or client_auth = \"assertion\" beside it";
            auth.refuse("assertion", &node.place, "an assertion that nothing sends", expected);
            None
        }
        (false, None) => Some(None),
    };
    let text = |key| auth.text(key, "text as the vendor's documents have it").map(str::to_owned);
    let (scope, audience) = (text("scope"), text("audience"));
    let lifetime = auth.number("lifetime", 1..=31_536_000, "seconds, where the vendor does not say: for example 3600");
    let place = placement(auth);
    if auth.get("client_secret").is_some() && client_secret.is_none() {
        return None;
    }
    Some(OAuth2 {
        url: url?,
        grant: grant?,
        client_id: client_id?,
        client_secret,
        client_auth,
        assertion: assertion?,
        scope,
        audience,
        lifetime: lifetime.map(Duration::from_secs),
        place: place?,
    })
}

/// `assertion = { … }`.
fn assertion(auth: &Reader<'_>, asked: Asked) -> Option<Assertion> {
    let table = auth.child("assertion", ASSERTION)?;
    if table.get("algorithm").is_none() {
        table.missing("algorithm", "one of \"HS256\", \"RS256\", \"ES256\"");
    }
    let algorithm = table.word("algorithm", ALGORITHMS);
    let key = secrets::needed(&table, "key");
    let text = |key, expected: &str| table.text(key, expected).map(str::to_owned);
    let key_id = text("key_id", "what the vendor calls the key");
    let issuer = text("issuer", "who signs, where it is not the client_id");
    let subject = text("subject", "for whom, where it is not the issuer");
    let audience = text("audience", "for whom it is meant, where it is not the url");
    let lifetime = table.number("lifetime", 10..=3600, "seconds, for example 300").unwrap_or(300);
    let mut claims = Vec::new();
    if let Some(more) = table.child("claims", "a table such as { scope = \"punch\" }") {
        for (name, place, node) in more.entries() {
            let own = ["iss", "sub", "aud", "exp", "iat", "nbf", "jti"].contains(&name);
            match as_text(node) {
                Some(text) if !own => claims.push((name.to_owned(), text.to_owned())),
                Some(_) => more.refuse(name, place, "a claim that the gateway sets itself", "no such claim"),
                None => more.wrong(name, node, "text in quotes"),
            }
        }
    }
    if asked == Asked::Jwt && issuer.is_none() && auth.get("client_id").is_none() {
        table.missing("issuer", "issuer = \"…\", or client_id beside the assertion");
    }
    table.finish(&[]);
    Some(Assertion {
        algorithm: algorithm?,
        key: key?,
        key_id,
        issuer,
        subject,
        audience,
        lifetime: Duration::from_secs(lifetime),
        claims,
    })
}
