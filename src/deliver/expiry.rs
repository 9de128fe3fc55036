//! When that by which a server knows us ends, as far as it can be known: what a person declared, the `exp` of a JSON Web
//! Token, the end of a client certificate.
//!
//! Must not: keep a secret, or take a token that renews itself for one that ends.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::ExposeSecret as _;
use x509_cert::der::Decode as _;

use super::auth::{self, Auth, Words};
use super::directory::Source;
use super::exchange::PemSource;
use super::{Kind, api};
use crate::event::UtcMicros;
use crate::secret::SecretSource;

/// So many days before the end it is said for the first time, and then each day.
pub const WARN_DAYS: i64 = 14;

const DAY: i64 = 86_400_000_000;

/// Something that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// What: for example `the client certificate`.
    pub what: String,
    /// When.
    pub at: UtcMicros,
}

/// How near the end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearness {
    /// Past; so many whole days.
    Past(i64),
    /// In so many whole days, at most [`WARN_DAYS`].
    Soon(i64),
    /// Far.
    Far,
}

impl Nearness {
    /// In one word, for `status`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Past(_) => "past",
            Self::Soon(_) => "soon",
            Self::Far => "good",
        }
    }
}

impl Expiry {
    /// How near the end is.
    pub fn nearness(&self, now: UtcMicros) -> Nearness {
        let left = self.at.0.saturating_sub(now.0);
        match left.div_euclid(DAY) {
            _ if left <= 0 => Nearness::Past(left.saturating_neg() / DAY),
            days if days < WARN_DAYS => Nearness::Soon(days),
            _ => Nearness::Far,
        }
    }

    /// For people; `None` while it is far.
    pub fn said(&self, now: UtcMicros) -> Option<String> {
        let what = &self.what;
        Some(match self.nearness(now) {
            Nearness::Far => return None,
            Nearness::Soon(0) => format!("{what} ends within a day; renew it"),
            Nearness::Soon(1) => format!("{what} ends in 1 day; renew it"),
            Nearness::Soon(days) => format!("{what} ends in {days} days; renew it"),
            Nearness::Past(_) => format!("{what} has ended; renew it"),
        })
    }
}

/// What is known of a sink, as its secrets are now.
pub fn of_sink(kind: &Kind) -> Vec<Expiry> {
    match kind {
        Kind::Api(api::Config { auth, client, .. }) => of_client(auth, client.as_ref()),
        Kind::Postgres(_) => Vec::new(),
    }
}

/// What is known of a directory, as its secrets are now.
pub fn of_source(source: &Source) -> Vec<Expiry> {
    match source {
        Source::Http(http) => of_client(&http.auth, http.client.as_ref()),
        Source::File { .. } | Source::Database(_) => Vec::new(),
    }
}

fn of_client(auth: &Auth, client: Option<&(PemSource, SecretSource)>) -> Vec<Expiry> {
    let mut found: Vec<Expiry> = Vec::new();
    let mut token = |source: &SecretSource| {
        // A secret that can't be read is a trouble of its own, which the sink names.
        let ends = source.read().ok().and_then(|secret| auth::token_end(secret.expose_secret()));
        found.extend(ends.map(|at| Expiry { what: format!("the token in {source}"), at }));
    };
    match auth {
        Auth::Bearer { token: source } | Auth::ApiKey { key: source, .. } => token(source),
        Auth::Query { value, .. } | Auth::Body { value, .. } => token(value),
        Auth::Headers(headers) => headers.iter().for_each(|(_, words)| {
            if let Words::Secret { source, .. } = words {
                token(source);
            }
        }),
        // A password has no end of its own, and a token that was fetched is fetched again.
        _ => {}
    }
    let ends = client.and_then(|(certificate, _)| certificate_end(&certificate.read().ok()?));
    found.extend(ends.map(|at| Expiry { what: "the client certificate".to_owned(), at }));
    found
}

/// `notAfter` of our own certificate, the first in the file.
fn certificate_end(pem: &[u8]) -> Option<UtcMicros> {
    let der = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
    let certificate = x509_cert::Certificate::from_der(&der).ok()?;
    let end = certificate.tbs_certificate.validity.not_after.to_unix_duration();
    Some(UtcMicros(i64::try_from(end.as_micros()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_said_from_fourteen_days_before() {
        let expiry = |at| Expiry { what: "the token".to_owned(), at: UtcMicros(at) };
        let now = UtcMicros(1_000 * DAY);
        let near = |days: i64, more: i64| expiry((1_000 + days) * DAY + more).nearness(now);
        assert_eq!(near(15, 0), Nearness::Far);
        assert_eq!(near(14, 0), Nearness::Far);
        assert_eq!(near(14, -1), Nearness::Soon(13));
        assert_eq!(near(0, 1), Nearness::Soon(0));
        assert_eq!(near(0, 0), Nearness::Past(0));
        assert_eq!(near(-3, -1), Nearness::Past(3));
        assert_eq!(expiry(0).nearness(UtcMicros(i64::MAX)), Nearness::Past(i64::MAX / DAY));
        assert!(Nearness::Past(3) < Nearness::Soon(0) && Nearness::Soon(13) < Nearness::Far);
        assert_eq!(expiry(i64::MAX).said(now), None);
    }
}
