//! What a failed TLS handshake means: our fault (a name or an authority that will never fit), or a matter of time.
//!
//! Must not: judge by the text of an error.

use std::error::Error as StdError;

use rustls::CertificateError;

use super::Outcome;

/// The certificate problem behind an error of any library, if there is one.
pub(super) fn certificate_problem<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e CertificateError> {
    let mut next = Some(error);
    while let Some(error) = next {
        match error.downcast_ref::<rustls::Error>() {
            Some(rustls::Error::InvalidCertificate(problem)) => return Some(problem),
            Some(_) => return None,
            None => {}
        }
        // `io::Error::source` skips the error that it carries and answers that error's own source.
        if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            return certificate_problem(inner);
        }
        next = error.source();
    }
    None
}

/// The outcome for a certificate that was not accepted. Before the clock is right a certificate may seem not yet valid or
/// expired: that mends itself.
pub(super) fn outcome(problem: &CertificateError, synchronised: bool) -> Outcome {
    use CertificateError as C;
    let blocked = |reason: &str| Outcome::Blocked { reason: reason.to_owned() };
    match problem {
        C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. } if !synchronised => {
            Outcome::Retry {
                reason: "the server's certificate is not valid at this time, and our clock is not right yet".to_owned(),
                after: None,
            }
        }
        C::Expired | C::ExpiredContext { .. } => blocked("the server's certificate has expired; have it renewed"),
        C::NotValidYet | C::NotValidYetContext { .. } => {
            blocked("the server's certificate is not valid yet; check both clocks")
        }
        C::NotValidForName | C::NotValidForNameContext { .. } => {
            blocked("the server's certificate is for another name; check the host in url")
        }
        C::UnknownIssuer => {
            blocked("the server's certificate is signed by an authority that we don't know; set ca_file")
        }
        other => Outcome::Blocked { reason: format!("the server's certificate is not acceptable: {other}") },
    }
}

/// What to say where a server's certificate is the reason of an error; `None`: it isn't.
pub fn certificate_words(error: &(dyn StdError + 'static)) -> Option<String> {
    match outcome(certificate_problem(error)?, true) {
        Outcome::Blocked { reason } | Outcome::Retry { reason, .. } => Some(reason),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("wrapped")]
    struct Wrapped(#[source] std::io::Error);

    #[test]
    fn the_problem_is_found_through_any_wrapping() {
        let inner = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let wrapped = Wrapped(std::io::Error::other(std::io::Error::other(inner)));
        assert_eq!(certificate_problem(&wrapped), Some(&CertificateError::UnknownIssuer));
        assert_eq!(certificate_problem(&Wrapped(std::io::Error::other("reset"))), None);
    }

    #[test]
    fn a_wrong_name_blocks_and_a_wrong_clock_waits() {
        assert!(matches!(outcome(&CertificateError::NotValidForName, false), Outcome::Blocked { .. }));
        assert!(matches!(outcome(&CertificateError::UnknownIssuer, true), Outcome::Blocked { .. }));
        assert!(matches!(outcome(&CertificateError::NotValidYet, false), Outcome::Retry { .. }));
        assert!(matches!(outcome(&CertificateError::Expired, true), Outcome::Blocked { .. }));
    }
}
