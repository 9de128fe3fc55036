//! Who may connect.
//!
//! Must not: keep a password (digests are enough), or tell by its timing how much of one was right.

use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};

use crate::terminal::{Error, ListenConfig};

/// What CONNACK answers (MQTT 3.1.1, table 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 0
    Accepted,
    /// 4
    BadCredentials,
    /// 5
    NotAuthorised,
}

/// Users and digests of their passwords.
pub(super) struct Access {
    users: Vec<([u8; 32], [u8; 32])>,
    anonymous: bool,
}

impl Access {
    /// Reads the passwords once.
    pub(super) fn read(config: &ListenConfig) -> Result<Self, Error> {
        let mut users = Vec::with_capacity(config.users.len());
        for (user, secret) in &config.users {
            users.push((digest(user), digest(secret.read()?.expose_secret())));
        }
        Ok(Self { users, anonymous: config.anonymous })
    }

    /// Judges user and password of a CONNECT.
    pub(super) fn judge(&self, login: Option<(&str, &str)>) -> Verdict {
        let Some((user, password)) = login else {
            return if self.anonymous { Verdict::Accepted } else { Verdict::NotAuthorised };
        };
        if self.users.is_empty() && self.anonymous {
            return Verdict::Accepted;
        }
        let (user, password) = (digest(user), digest(password));
        // Every user is compared in full: the time says nothing about where a difference stands.
        let known = self.users.iter().fold(0u8, |known, (u, p)| known | (same(u, &user) & same(p, &password)));
        if known == 1 { Verdict::Accepted } else { Verdict::BadCredentials }
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// 1 if equal, else 0, in constant time.
fn same(a: &[u8; 32], b: &[u8; 32]) -> u8 {
    let difference = a.iter().zip(b).fold(0u8, |d, (x, y)| d | (x ^ y));
    u8::from(std::hint::black_box(difference) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_password_is_refused_and_anonymity_only_where_configured() {
        let users = vec![(digest("yard"), digest("secret"))];
        let closed = Access { users, anonymous: false };
        assert_eq!(closed.judge(Some(("yard", "secret"))), Verdict::Accepted);
        assert_eq!(closed.judge(Some(("yard", "Secret"))), Verdict::BadCredentials);
        assert_eq!(closed.judge(Some(("gate", "secret"))), Verdict::BadCredentials);
        assert_eq!(closed.judge(None), Verdict::NotAuthorised);
        let open = Access { users: Vec::new(), anonymous: true };
        assert_eq!(open.judge(None), Verdict::Accepted);
        assert_eq!(open.judge(Some(("anybody", "x"))), Verdict::Accepted);
        let nobody = Access { users: Vec::new(), anonymous: false };
        assert_eq!(nobody.judge(Some(("anybody", "x"))), Verdict::BadCredentials);
    }
}
