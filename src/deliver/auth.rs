//! How we show a vendor who we are: what configuration can say, and the one place that puts it onto a request.
//!
//! Must not: let a secret into an error, a log line or a URL that is shown; keep one where it is not needed; or ask for
//! two tokens at once.

mod digest;

mod fixed;

mod hmac;

mod jwt;

mod login;

mod oauth2;

mod place;

mod state;

mod token;

use std::time::Duration;

pub use self::digest::DigestLogin;
use self::digest::Digester;
use self::fixed::Fixed;
use self::hmac::Signer;
pub use self::hmac::{Algorithm, Code, Hmac, HmacKey, Part, Stamp};
pub use self::jwt::{Assertion, JwtAlgorithm};
use self::login::Logins;
pub use self::login::{Format, Life, Login, TokenAt};
use self::oauth2::OAuthState;
pub use self::oauth2::{ClientAuth, Grant, OAuth2};
pub use self::place::Placement;
use super::exchange::{self, Answer, Draft, Wire};

use crate::deliver::{Error, Outcome};
use crate::event::UtcMicros;
use crate::secret::SecretSource;

/// A clock that differs from the server's by more than this breaks signatures at common vendors (they allow five minutes
/// or less), seconds.
const SKEW: u64 = 60;

/// `auth = { type = … }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    None,
    /// `Authorization: Bearer TOKEN` (RFC 6750).
    Bearer {
        /// The token.
        token: SecretSource,
    },
    /// `Authorization: Basic …` (RFC 7617).
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: SecretSource,
    },
    /// The same for vendors where the key is the user and the password is any word.
    BasicKey {
        /// The key.
        key: SecretSource,
        /// The word.
        password: String,
    },
    /// A header of the vendor's own.
    ApiKey {
        /// Header name.
        header: String,
        /// Its value.
        key: SecretSource,
    },
    /// Any number of headers, secret or not, the prefix exactly as written.
    Headers(Vec<(String, Words)>),
    /// A parameter of the query.
    Query {
        /// The parameter's name.
        name: String,
        /// Its value.
        value: SecretSource,
    },
    /// A field of the body.
    Body {
        /// JSON pointer, or the field's name in a form.
        pointer: String,
        /// Its value.
        value: SecretSource,
    },
    /// A login gives a token.
    Login(Box<Login>),
    /// OAuth 2.0 (RFC 6749).
    OAuth2(Box<OAuth2>),
    /// Each request is signed.
    Hmac(Box<Hmac>),
    /// `Authorization: Digest …` (RFC 7616).
    Digest(DigestLogin),
}

impl Auth {
    /// The headers that it puts onto a request, as people may see them: every secret is `***`.
    pub fn shown(&self) -> Vec<(String, String)> {
        let one = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        match self {
            Self::None | Self::Query { .. } | Self::Body { .. } => Vec::new(),
            Self::Bearer { .. } => one("authorization", "Bearer ***"),
            Self::Basic { .. } | Self::BasicKey { .. } => one("authorization", "Basic ***"),
            Self::ApiKey { header, .. } => one(header, "***"),
            Self::Headers(headers) => {
                let shown = |words: &Words| match words {
                    Words::Plain(text) => text.clone(),
                    Words::Secret { prefix, .. } => format!("{prefix}***"),
                };
                headers.iter().map(|(name, words)| (name.clone(), shown(words))).collect()
            }
            Self::Digest(_) => one("authorization", "Digest ***"),
            Self::Login(login) => login.place.shown(),
            Self::OAuth2(oauth2) => oauth2.place.shown(),
            Self::Hmac(hmac) => {
                let times = hmac.timestamp.iter().map(|(name, _)| name);
                let names = times.chain(&hmac.nonce).chain(&hmac.id).chain([&hmac.signature]);
                let own = hmac.headers.iter().map(|(name, _)| name);
                names.chain(own).map(|name| (name.clone(), "***".to_owned())).collect()
            }
        }
    }

    /// Where else it stands on a request.
    pub fn beside(&self) -> Beside<'_> {
        const fn of(place: &Placement) -> Beside<'_> {
            match place {
                Placement::Query { name } => Beside::Query(name.as_str()),
                Placement::Body { pointer } => Beside::Body(pointer.as_str()),
                Placement::Header { .. } | Placement::Cookie { .. } => Beside::No,
            }
        }
        match self {
            Self::Query { name, .. } => Beside::Query(name),
            Self::Body { pointer, .. } => Beside::Body(pointer),
            Self::Login(login) => of(&login.place),
            Self::OAuth2(oauth2) => of(&oauth2.place),
            _ => Beside::No,
        }
    }
}

/// Where a credential stands that is in no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside<'a> {
    /// Nowhere.
    No,
    /// A parameter of the query.
    Query(&'a str),
    /// A JSON pointer into the body, or the field's name in a form.
    Body(&'a str),
}

/// A text, or a secret with a text before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Words {
    /// No secret.
    Plain(String),
    /// A secret.
    Secret {
        /// What stands before it, for example `"token "`, case and blank as the vendor wants them.
        prefix: String,
        /// Where it is read from.
        source: SecretSource,
    },
}

/// Who we are, at run time.
pub(super) enum Authority {
    Fixed(Fixed),
    Login(Box<Logins>),
    OAuth2(Box<OAuthState>),
    Hmac(Box<Signer>),
    Digest(Box<Digester>),
}

impl Authority {
    /// Reads no secret yet.
    pub(super) fn new(auth: Auth) -> Result<Self, Error> {
        Ok(match auth {
            Auth::Login(login) => Self::Login(Box::new(Logins::new(*login)?)),
            Auth::OAuth2(oauth2) => Self::OAuth2(Box::new(OAuthState::new(*oauth2)?)),
            Auth::Hmac(hmac) => Self::Hmac(Box::new(Signer::new(*hmac)?)),
            Auth::Digest(login) => Self::Digest(Box::new(Digester::new(login))),
            other => Self::Fixed(Fixed::new(other)?),
        })
    }

    /// Puts who we are onto a request; fetches a token first where one is needed.
    pub(super) async fn sign(&mut self, wire: &Wire, draft: &mut Draft) -> Result<(), Outcome> {
        let blocked = |reason| Outcome::Blocked { reason };
        match self {
            Self::Fixed(fixed) => fixed.sign(draft).map_err(blocked),
            Self::Hmac(signer) => signer.sign(draft, wire.clock.now().wall).map_err(blocked),
            Self::Digest(digester) => digester.sign(draft).map_err(blocked),
            Self::Login(logins) => logins.sign(wire, draft).await,
            Self::OAuth2(oauth2) => oauth2.sign(wire, draft).await,
        }
    }

    /// What an answer says about the next request.
    pub(super) fn heard(&mut self, reply: &Answer) {
        if let Self::Digest(digester) = self {
            digester.heard(reply);
        }
    }

    /// When what a person gave us ends, as the server has said.
    pub(super) fn ends(&self) -> Option<UtcMicros> {
        match self {
            Self::OAuth2(oauth2) => oauth2.ends,
            _ => None,
        }
    }

    /// After an answer that says that we are not known: reads the secrets again, answers its challenge, or fetches another
    /// token. True if there is anything new to be tried.
    pub(super) async fn renew(&mut self, wire: &Wire, reply: &Answer) -> Result<bool, Outcome> {
        match self {
            Self::Digest(digester) => digester.renewed(reply),
            Self::Fixed(fixed) => Ok(fixed.renewed()),
            Self::Hmac(signer) => Ok(signer.renewed()),
            Self::Login(logins) => logins.renew(wire).await,
            Self::OAuth2(oauth2) => oauth2.renew(wire).await,
        }
    }

    /// The secrets in use, so that they can be masked where a server echoes them.
    pub(super) fn secrets(&self) -> Vec<&str> {
        match self {
            Self::Fixed(fixed) => fixed.secrets(),
            Self::Hmac(signer) => signer.secrets(),
            Self::Digest(digester) => digester.secrets(),
            Self::Login(logins) => logins.secrets(),
            Self::OAuth2(oauth2) => oauth2.secrets(),
        }
    }

    /// What to say besides where a signature was not accepted and the two clocks differ.
    pub(super) fn skew(&self, wire: &Wire, reply: &Answer) -> Option<String> {
        if matches!(self, Self::Hmac(_)) { skew(wire, reply) } else { None }
    }
}

/// How far our clock is from the server's, where that breaks what we sign.
fn skew(wire: &Wire, reply: &Answer) -> Option<String> {
    let theirs = reply.date.as_deref().and_then(exchange::http_date)?;
    let ours = wire.clock.now().wall.0;
    let apart = Duration::from_micros(theirs.abs_diff(ours)).as_secs();
    let side = if ours < theirs { "behind" } else { "ahead of" };
    (apart > SKEW).then(|| {
        format!("this gateway's clock is {apart} s {side} the server's, which breaks the signature: set the clock")
    })
}

/// When a JSON Web Token ends (`exp`, RFC 7519 §4.1.4), if this is one. It is not verified: the server does that.
pub(super) fn token_end(token: &str) -> Option<UtcMicros> {
    let claims = jwt::claims(token)?;
    let seconds = claims.get("exp")?.as_f64().filter(|seconds| (0.0..4e12).contains(seconds))?;
    Some(UtcMicros((seconds * 1e6) as i64))
}

#[cfg(test)]
mod tests;
