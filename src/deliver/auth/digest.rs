//! HTTP digest (RFC 7616): the password never leaves, each request carries a hash of it with the server's nonce.
//!
//! Must not: try the same password twice after a refusal, take a weaker hash where the server offers a stronger one, or put
//! the password into an error.

use reqwest::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Digest as _;
use tokio::time::Instant;

use super::fixed::READ_AGAIN;
use crate::deliver::Outcome;
use crate::deliver::exchange::{Answer, Draft, hex, percent_encoded};
use crate::secret::SecretSource;

/// `auth = { type = "digest" }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestLogin {
    /// User name.
    pub user: String,
    /// Password.
    pub password: SecretSource,
}

/// The hash, better ones last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hash {
    Md5,
    Sha256,
}

impl Hash {
    fn hex(self, text: &str) -> String {
        match self {
            Self::Md5 => hex(&md5::Md5::digest(text.as_bytes())),
            Self::Sha256 => hex(&sha2::Sha256::digest(text.as_bytes())),
        }
    }
}

/// What a server asks to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) hash: Hash,
    /// As the server wrote it; `None`: it named none, which is MD5.
    algorithm: Option<String>,
    /// The password's hash is bound to the first nonces of a session.
    session: bool,
    realm: String,
    pub(super) nonce: String,
    opaque: Option<String>,
    /// `qop=auth`; without it as in RFC 2069.
    qop: bool,
    pub(super) stale: bool,
}

/// The state of a digest login.
pub(in crate::deliver) struct Digester {
    config: DigestLogin,
    password: Option<SecretString>,
    challenge: Option<Challenge>,
    /// How often the nonce was used.
    count: u32,
    /// What binds a session: the client nonce of its first request.
    session: Option<(String, String)>,
    /// The last answer was no refusal of what we showed.
    proven: bool,
    renewed_at: Option<Instant>,
    random: fastrand::Rng,
}

impl Digester {
    pub(super) fn new(config: DigestLogin) -> Self {
        Self {
            config,
            password: None,
            challenge: None,
            count: 0,
            session: None,
            proven: false,
            renewed_at: None,
            random: fastrand::Rng::new(),
        }
    }

    /// Answers the challenge that is known; before the first one nothing is shown.
    pub(super) fn sign(&mut self, draft: &mut Draft) -> Result<(), String> {
        let client_nonce = format!("{:032x}", self.random.u128(..));
        self.sign_with(draft, &client_nonce)
    }

    pub(super) fn sign_with(&mut self, draft: &mut Draft, client_nonce: &str) -> Result<(), String> {
        let Some(challenge) = self.challenge.clone() else { return Ok(()) };
        let password = match self.password.take() {
            Some(password) => password,
            None => self.config.password.read().map_err(|e| e.to_string())?,
        };
        let password = self.password.insert(password);
        self.count = self.count.saturating_add(1);
        let uri = match draft.url.query() {
            Some(query) => format!("{}?{query}", draft.url.path()),
            None => draft.url.path().to_owned(),
        };
        let (first, bound) =
            self.session.get_or_insert_with(|| (challenge.nonce.clone(), client_nonce.to_owned())).clone();
        let asked = Asked { method: draft.method.as_str(), uri: &uri, count: self.count, client_nonce };
        let text = challenge.answer(&self.config.user, password.expose_secret(), &asked, (&first, &bound));
        let unfit = |_| "the user of the sink's auth cannot stand in a header".to_owned();
        let mut value = HeaderValue::from_str(&text).map_err(unfit)?;
        value.set_sensitive(true);
        draft.headers.insert(AUTHORIZATION, value);
        Ok(())
    }

    /// What an answer says of the next request: a nonce that comes after this one.
    pub(super) fn heard(&mut self, reply: &Answer) {
        if reply.status == 401 || self.challenge.is_none() {
            return;
        }
        self.proven = true;
        let info = reply.headers.get("authentication-info").and_then(|v| std::str::from_utf8(v.as_bytes()).ok());
        let info = info.unwrap_or_default();
        let next = parameters(info).into_iter().find(|(name, _)| name == "nextnonce").map(|(_, value)| value);
        if let (Some(next), Some(challenge)) = (next, &mut self.challenge)
            && next != challenge.nonce
        {
            challenge.nonce = next;
            self.count = 0;
        }
    }

    /// After a 401: takes the challenge in it. True if it can be answered with anything that was not refused already.
    pub(super) fn renewed(&mut self, reply: &Answer) -> Result<bool, Outcome> {
        let written =
            reply.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|v| std::str::from_utf8(v.as_bytes()).ok());
        let challenges: Vec<Vec<(String, String)>> = written.flat_map(digests).collect();
        let best = challenges.iter().filter_map(|c| Challenge::read(c)).max_by_key(|c| c.hash);
        let Some(challenge) = best else {
            let reason = if challenges.is_empty() {
                "the server answered 401 and asks for no digest; check the type in the sink's auth"
            } else {
                "the server answered 401 and asks for a digest that we do not make (SHA-256 or MD5, qop=auth)"
            };
            return Err(Outcome::Blocked { reason: reason.to_owned() });
        };
        // The same password is shown again only if it was not the password that was refused.
        let fresh = self.challenge.is_none() || challenge.stale || std::mem::take(&mut self.proven);
        self.challenge = Some(challenge);
        (self.count, self.session) = (0, None);
        Ok(fresh | self.changed())
    }

    /// Whether the password is another one now.
    fn changed(&mut self) -> bool {
        if self.renewed_at.is_some_and(|at| at.elapsed() < READ_AGAIN) {
            return false;
        }
        self.renewed_at = Some(Instant::now());
        let Ok(read) = self.config.password.read() else { return false };
        let old = self.password.replace(read);
        let (old, new) = (old.as_ref(), self.password.as_ref());
        old.is_some() && old.map(|o| o.expose_secret()) != new.map(|n| n.expose_secret())
    }

    pub(super) fn secrets(&self) -> Vec<&str> {
        self.password.iter().map(SecretString::expose_secret).collect()
    }
}

/// What is asked for, and how often this nonce was used for it.
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    pub(super) uri: &'a str,
    pub(super) count: u32,
    pub(super) client_nonce: &'a str,
}

impl Challenge {
    /// `None` for one that we can't answer.
    pub(super) fn read(parameters: &[(String, String)]) -> Option<Self> {
        let get = |name: &str| parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        let algorithm = get("algorithm");
        let (hash, session) = match algorithm.as_deref().map(str::to_ascii_uppercase).as_deref() {
            None | Some("MD5") => (Hash::Md5, false),
            Some("MD5-SESS") => (Hash::Md5, true),
            Some("SHA-256") => (Hash::Sha256, false),
            Some("SHA-256-SESS") => (Hash::Sha256, true),
            Some(_) => return None,
        };
        let qop = match get("qop") {
            None => false,
            Some(offered) if offered.split(',').any(|q| q.trim().eq_ignore_ascii_case("auth")) => true,
            Some(_) => return None,
        };
        let stale = get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true"));
        Some(Self {
            hash,
            algorithm,
            session,
            realm: get("realm")?,
            nonce: get("nonce")?,
            opaque: get("opaque"),
            qop,
            stale,
        })
    }

    /// The header (RFC 7616 §3.4). `bound` are the nonces of the session's first request.
    pub(super) fn answer(&self, user: &str, password: &str, asked: &Asked<'_>, bound: (&str, &str)) -> String {
        let hash = |text: String| self.hash.hex(&text);
        let Asked { method, uri, count, client_nonce } = asked;
        let mut who = hash(format!("{user}:{}:{password}", self.realm));
        if self.session {
            who = hash(format!("{who}:{}:{}", bound.0, bound.1));
        }
        let what = hash(format!("{method}:{uri}"));
        let response = if self.qop {
            hash(format!("{who}:{}:{count:08x}:{client_nonce}:auth:{what}", self.nonce))
        } else {
            hash(format!("{who}:{}:{what}", self.nonce))
        };
        let user = if user.is_ascii() {
            format!("username=\"{}\"", quoted(user))
        } else {
            format!("username*=UTF-8''{}", percent_encoded(user))
        };
        let mut text = format!(
            "Digest {user}, realm=\"{}\", nonce=\"{}\", uri=\"{uri}\", response=\"{response}\"",
            quoted(&self.realm),
            quoted(&self.nonce)
        );
        let mut more = |piece: String| {
            text.push_str(", ");
            text.push_str(&piece);
        };
        if let Some(algorithm) = &self.algorithm {
            more(format!("algorithm={algorithm}"));
        }
        if let Some(opaque) = &self.opaque {
            more(format!("opaque=\"{}\"", quoted(opaque)));
        }
        if self.qop {
            more(format!("qop=auth, nc={count:08x}, cnonce=\"{client_nonce}\""));
        }
        text
    }
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// The parameters of each `Digest` challenge in a header, which may hold challenges of several schemes (RFC 9110 §11.6.1).
pub(super) fn digests(header: &str) -> Vec<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut current: Option<Vec<(String, String)>> = None;
    for (scheme, name, value) in pieces(header) {
        if let Some(scheme) = scheme {
            found.extend(current.take());
            current = scheme.eq_ignore_ascii_case("digest").then(Vec::new);
        }
        if let (Some(current), false) = (&mut current, name.is_empty()) {
            current.push((name, value));
        }
    }
    found.extend(current);
    found
}

/// The parameters of a header without a scheme.
fn parameters(header: &str) -> Vec<(String, String)> {
    pieces(header).into_iter().map(|(_, name, value)| (name, value)).collect()
}

/// `[scheme] name=value`, names in lower case, values without their quotes. What is no such thing is passed over.
fn pieces(header: &str) -> Vec<(Option<String>, String, String)> {
    let mut pieces = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return pieces;
        }
        let (word, after) = token(rest);
        let after = after.trim_start_matches([' ', '\t']);
        if let Some(value) = after.strip_prefix('=') {
            let (value, next) = self::value(value.trim_start_matches([' ', '\t']));
            pieces.push((None, word.to_ascii_lowercase(), value));
            rest = next;
            continue;
        }
        // A scheme; what follows it, if anything, is its first parameter.
        let (name, beyond) = token(after);
        match beyond.trim_start_matches([' ', '\t']).strip_prefix('=') {
            Some(value) if !name.is_empty() => {
                let (value, next) = self::value(value.trim_start_matches([' ', '\t']));
                pieces.push((Some(word.to_owned()), name.to_ascii_lowercase(), value));
                rest = next;
            }
            _ => {
                pieces.push((Some(word.to_owned()), String::new(), String::new()));
                // Something must be taken off, or a strange character would hold us here.
                rest = if word.is_empty() { rest.get(1..).unwrap_or_default() } else { after };
            }
        }
    }
}

fn token(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))).unwrap_or(text.len());
    text.split_at(end)
}

/// A token or a quoted string, and what follows.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            _ if std::mem::take(&mut escaped) => value.push(c),
            '\\' => escaped = true,
            '"' => return (value, &quoted[at + 1..]),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616 §3.9.1.
    #[test]
    fn both_hashes_answer_as_the_specification_does() {
        let header = "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm=SHA-256, \
                      nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\", \
                      Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm=MD5, \
                      nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";
        let challenges: Vec<Challenge> = digests(header).iter().filter_map(|c| Challenge::read(c)).collect();
        assert_eq!(challenges.len(), 2);
        for challenge in challenges {
            let expected = match challenge.hash {
                Hash::Sha256 => "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
                Hash::Md5 => "8ca523f5e9506fed4657c9700eebdbec",
            };
            let client_nonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
            let asked = Asked { method: "GET", uri: "/dir/index.html", count: 1, client_nonce };
            let answer = challenge.answer("Mufasa", "Circle of Life", &asked, ("", ""));
            assert!(answer.contains(&format!("response=\"{expected}\"")), "{answer}");
            assert!(answer.contains("qop=auth, nc=00000001"), "{answer}");
        }
    }

    #[test]
    fn a_challenge_is_found_among_others_and_strange_headers_end() {
        let header =
            "Basic realm=\"a, Digest realm=b\", Negotiate, Digest realm=\"x \\\"y\\\"\",nonce=n , stale=TRUE, Bearer";
        let found = digests(header);
        assert_eq!(found.len(), 1);
        let challenge = Challenge::read(&found[0]).expect("a challenge");
        assert_eq!((challenge.realm.as_str(), challenge.nonce.as_str(), challenge.stale), ("x \"y\"", "n", true));
        assert_eq!((challenge.hash, challenge.qop), (Hash::Md5, false));
        for strange in
            ["", ",,,", "=", "Digest", "Digest realm", "Digest =\"", "é€, \u{7f}", "Digest realm=\"open", "\"\"\""]
        {
            assert!(digests(strange).iter().all(|c| Challenge::read(c).is_none()), "{strange}");
        }
        let only_int = digests("Digest realm=r, nonce=n, qop=\"auth-int\"");
        assert_eq!(Challenge::read(&only_int[0]), None);
    }
}
