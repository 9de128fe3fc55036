//! `auth = { type = … }`: how a sink shows who we are, and the client certificate.
//!
//! Must not: read or repeat a secret.

use std::time::Duration;

use super::address::{self, is_loopback};
use super::answers::{is_pointer, pairs};
use super::reader::{Reader, as_text};
use super::secrets;
use super::tree::{Node, Value};
use crate::deliver::api::PemSource;
use crate::deliver::api::auth::{
    Algorithm, Auth, ClientAuth, Code, Format, Grant, Hmac, HmacKey, Life, Login, OAuth2, Part, Placement, Stamp,
    TokenAt, Words,
};
use crate::secret::SecretSource;

const TABLE: &str = "a table such as { type = \"bearer\", token = { credential = \"NAME\" } }";

const PLACE: &str = "\"header:NAME\", \"query:NAME\", \"body:/POINTER\" or \"cookie:NAME\"";

const TOKEN: &str = "a JSON pointer such as \"/access_token\", \"header:NAME\" or \"cookie:NAME\"";

const LIFETIME: &str = "seconds (3600), a pointer to seconds (\"/expires_in\"), or { until = \"/POINTER\" } for a time";

const KEY: &str = "{ id = \"KEY_ID\", secret = { credential = \"NAME\" } }";

#[derive(Clone, Copy)]
enum Type {
    None,
    Bearer,
    Basic,
    ApiKey,
    Headers,
    Query,
    Body,
    Login,
    OAuth2,
    Hmac,
    StandardWebhook,
}

const TYPES: &[(&str, Type)] = &[
    ("none", Type::None),
    ("bearer", Type::Bearer),
    ("basic", Type::Basic),
    ("api_key", Type::ApiKey),
    ("headers", Type::Headers),
    ("query", Type::Query),
    ("body", Type::Body),
    ("login", Type::Login),
    ("oauth2", Type::OAuth2),
    ("hmac", Type::Hmac),
    ("standard_webhook", Type::StandardWebhook),
];

/// Keys that belong to one type, for whoever writes them beside another.
const ELSEWHERE: &[(&str, &str)] = &[
    ("user", "auth type basic"),
    ("password", "auth type basic"),
    ("fixed_password", "auth type basic"),
    ("header", "auth type api_key"),
    ("key", "auth type api_key"),
    ("headers", "auth type headers, login or hmac"),
    ("value", "auth type query or body"),
    ("pointer", "auth type body"),
    ("fields", "auth type login"),
    ("token", "auth type bearer or login"),
    ("client_id", "auth type oauth2"),
    ("client_secret", "auth type oauth2"),
    ("secret", "auth type hmac or standard_webhook"),
    ("keys", "auth type hmac"),
    ("parts", "auth type hmac"),
];

/// `auth` of a sink; the outer `None` means that it is wrong.
pub(super) fn auth(reader: &Reader<'_>) -> Option<Auth> {
    let node = reader.get("auth")?;
    if !matches!(node.value, Value::Table(_)) {
        // Whoever writes a text here may well write the token itself.
        reader.refuse("auth", &node.place, "something that is no table (not shown)", TABLE);
        return None;
    }
    let auth = reader.child("auth", TABLE)?;
    if auth.get("type").is_none() {
        auth.missing("type", &super::reader::one_of(TYPES.iter().map(|t| t.0)));
        return None;
    }
    let read = match auth.word("type", TYPES)? {
        Type::None => Some(Auth::None),
        Type::Bearer => secrets::needed(&auth, "token").map(|token| Auth::Bearer { token }),
        Type::Basic => basic(&auth),
        Type::ApiKey => {
            let header = auth.need_text("header", "the header's name, for example \"X-API-Key\"").map(str::to_owned);
            let key = secrets::needed(&auth, "key");
            (|| Some(Auth::ApiKey { header: header?, key: key? }))()
        }
        Type::Headers => {
            if auth.get("headers").is_none() {
                auth.missing("headers", "headers = { NAME = { credential = \"NAME\", prefix = \"token \" } }");
            }
            worded(&auth, "headers").map(Auth::Headers)
        }
        Type::Query => {
            let name = auth.need_text("name", "the parameter's name, for example \"access_token\"").map(str::to_owned);
            let value = secrets::needed(&auth, "value");
            (|| Some(Auth::Query { name: name?, value: value? }))()
        }
        Type::Body => {
            let pointer = auth.need_text("pointer", "a JSON pointer, for example \"/params/token\"").map(str::to_owned);
            let value = secrets::needed(&auth, "value");
            (|| Some(Auth::Body { pointer: pointer?, value: value? }))()
        }
        Type::Login => login(&auth, reader).map(|login| Auth::Login(Box::new(login))),
        Type::OAuth2 => oauth2(&auth).map(|oauth2| Auth::OAuth2(Box::new(oauth2))),
        Type::Hmac => hmac(&auth).map(|hmac| Auth::Hmac(Box::new(hmac))),
        Type::StandardWebhook => standard_webhook(&auth),
    };
    auth.finish(ELSEWHERE);
    read
}

/// `client_cert` and `client_key`.
pub(super) fn client(reader: &Reader<'_>) -> Option<(PemSource, SecretSource)> {
    const CERTIFICATE: &str = "the absolute path of a PEM file, or { credential = \"NAME\" }";
    let key = secrets::source(reader, "client_key");
    let certificate = match reader.get("client_cert") {
        Some(node) if matches!(node.value, Value::Table(_)) => {
            secrets::source(reader, "client_cert").map(PemSource::Secret)
        }
        Some(_) => {
            let path = reader.path_to("client_cert", CERTIFICATE);
            super::brokers::missing_file(reader, "client_cert", path.as_deref());
            path.map(PemSource::Path)
        }
        None => None,
    };
    match (reader.get("client_cert").is_some(), reader.get("client_key").is_some()) {
        (true, false) => reader.missing("client_key", "client_key = { credential = \"NAME\" } beside client_cert"),
        (false, true) => reader.missing("client_cert", &format!("{CERTIFICATE}, beside client_key")),
        _ => {}
    }
    Some((certificate?, key?))
}

fn basic(auth: &Reader<'_>) -> Option<Auth> {
    const USER: &str = "a user name, or (with fixed_password) { credential = \"NAME\" }";
    match auth.get("user") {
        Some(node) if matches!(node.value, Value::Table(_)) => {
            let key = secrets::source(auth, "user");
            let password = auth.text("fixed_password", "the word that the vendor wants as password, for example \"x\"");
            Some(Auth::BasicKey { key: key?, password: password.unwrap_or("x").to_owned() })
        }
        _ => {
            let user = auth.need_text("user", USER).map(str::to_owned);
            let password = secrets::needed(auth, "password");
            Some(Auth::Basic { user: user?, password: password? })
        }
    }
}

/// A table of names and texts, of which some are secrets.
fn worded(reader: &Reader<'_>, key: &'static str) -> Option<Vec<(String, Words)>> {
    let table = reader.child(key, "a table such as { X-Key = { credential = \"NAME\" }, X-Client = \"portero\" }")?;
    let mut all = Vec::new();
    let mut good = true;
    for (name, place, node) in table.entries() {
        match as_text(node) {
            Some(_) if may_be_secret(name) => {
                let expected = "{ credential = \"NAME\" } or { file = \"/absolute/path\" }: secrets are never written into the file";
                table.refuse(name, place, "a text (not shown)", expected);
                good = false;
            }
            Some(text) => all.push((name.to_owned(), Words::Plain(text.to_owned()))),
            None => match secrets::at(&table, name, node, true) {
                Some((prefix, source)) => all.push((name.to_owned(), Words::Secret { prefix, source })),
                None => good = false,
            },
        }
    }
    good.then_some(all)
}

/// Names under which secrets travel.
fn may_be_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["token", "secret", "key", "pass", "auth", "session"].iter().any(|word| name.contains(word))
}

/// A place on a request, with the prefix beside it.
fn placement(auth: &Reader<'_>) -> Option<Placement> {
    let prefix = match auth.get("prefix") {
        Some(node) => match as_text(node) {
            Some(text) => Some(text.to_owned()),
            None => {
                auth.wrong("prefix", node, "text in quotes, for example \"Bearer \"");
                return None;
            }
        },
        None => None,
    };
    let Some(node) = auth.get("place") else {
        let prefix = prefix.unwrap_or_else(|| "Bearer ".to_owned());
        return Some(Placement::Header { name: "authorization".to_owned(), prefix });
    };
    let placed = as_text(node).and_then(|text| text.split_once(':')).filter(|(_, name)| !name.is_empty());
    let placement = placed.and_then(|(kind, name)| {
        let name = name.to_owned();
        Some(match kind {
            "header" => {
                let usual = if name.eq_ignore_ascii_case("authorization") { "Bearer " } else { "" };
                Placement::Header { name, prefix: prefix.unwrap_or_else(|| usual.to_owned()) }
            }
            "query" => Placement::Query { name },
            "body" if is_pointer(&name) && !name.is_empty() => Placement::Body { pointer: name },
            "cookie" => Placement::Cookie { name },
            _ => return None,
        })
    });
    if placement.is_none() {
        auth.wrong("place", node, PLACE);
    }
    placement
}

/// A URL to log in at; a path is one of the sink's own origin.
fn login_url(auth: &Reader<'_>, sink: Option<&Reader<'_>>) -> Option<String> {
    let expected = "an address, for example \"https://login.example/oauth/token\"";
    let expected =
        if sink.is_some() { "a path of the sink's own origin, for example \"/api/login\"" } else { expected };
    let text = auth.need_text("url", expected)?;
    let node = auth.get("url")?;
    let own = sink.and_then(|sink| sink.get("url")).and_then(as_text);
    let elsewhere = if sink.is_some() { auth.boolean("elsewhere").unwrap_or(false) } else { true };
    let full = match (text.starts_with('/'), own) {
        (true, Some(own)) => format!("{}{text}", origin(own)),
        _ => text.to_owned(),
    };
    let Some(url) = address::parse(&full).filter(|url| !url.host.is_empty() && url.user.is_none()) else {
        auth.wrong("url", node, expected);
        return None;
    };
    if url.has_password || !(url.scheme == "https" || (url.scheme == "http" && is_loopback(url.host))) {
        auth.wrong("url", node, "https:// without a login in it: a credential travels encrypted");
        return None;
    }
    if !elsewhere && own.is_some_and(|own| origin(own) != origin(&full)) {
        let expected = "an address on the sink's own host, or elsewhere = true beside it to send the credential there";
        auth.wrong("url", node, expected);
        return None;
    }
    Some(full)
}

/// Scheme, host and port as written.
fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    &url[..end]
}

fn login(auth: &Reader<'_>, sink: &Reader<'_>) -> Option<Login> {
    let url = login_url(auth, Some(sink));
    let method = auth.word("method", &[("POST", "POST"), ("PUT", "PUT")]).unwrap_or("POST");
    let format = auth.word("format", &[("json", Format::Json), ("form", Format::Form)]).unwrap_or_default();
    if auth.get("fields").is_none() {
        auth.missing("fields", "fields = { \"/user\" = \"NAME\", \"/password\" = { credential = \"NAME\" } }");
    }
    let fields = worded(auth, "fields").map(|fields| {
        let name = |name: String| if name.starts_with('/') { name } else { format!("/{name}") };
        fields.into_iter().map(|(field, words)| (name(field), words)).collect()
    });
    let headers = match auth.get("headers") {
        Some(_) => worded(auth, "headers"),
        None => Some(Vec::new()),
    };
    let token = auth.need_text("token", TOKEN).and_then(|text| {
        let found = match text.split_once(':') {
            Some(("header", name)) if !name.is_empty() => Some(TokenAt::Header(name.to_owned())),
            Some(("cookie", name)) if !name.is_empty() => Some(TokenAt::Cookie(name.to_owned())),
            _ if is_pointer(text) => Some(TokenAt::Body(text.to_owned())),
            _ => None,
        };
        if let (None, Some(node)) = (&found, auth.get("token")) {
            auth.refuse("token", &node.place, "something else (not shown)", TOKEN);
        }
        found
    });
    let life = life(auth);
    let place = placement(auth);
    Some(Login {
        url: url?,
        method: method.to_owned(),
        format,
        fields: fields?,
        headers: headers?,
        token: token?,
        life: life?,
        place: place?,
    })
}

fn life(auth: &Reader<'_>) -> Option<Life> {
    let Some(node) = auth.get("lifetime") else { return Some(Life::Unlimited) };
    let life = match &node.value {
        Value::Integer(Some(n), _) => {
            u64::try_from(*n).ok().filter(|n| *n > 0).map(|n| Life::Fixed(Duration::from_secs(n)))
        }
        Value::Table(_) => {
            let table = auth.child("lifetime", LIFETIME)?;
            let until = table.need_text("until", "a JSON pointer to the time").filter(|text| is_pointer(text));
            let life = until.map(|until| Life::Absolute(until.to_owned()));
            table.finish(&[]);
            life
        }
        _ => as_text(node).filter(|text| is_pointer(text)).map(|text| Life::Relative(text.to_owned())),
    };
    if life.is_none() {
        auth.wrong("lifetime", node, LIFETIME);
    }
    life
}

fn oauth2(auth: &Reader<'_>) -> Option<OAuth2> {
    let url = login_url(auth, None);
    let client_id = match auth.get("client_id") {
        Some(node) if matches!(node.value, Value::Table(_)) => {
            secrets::source(auth, "client_id").map(|source| Words::Secret { prefix: String::new(), source })
        }
        _ => auth.need_text("client_id", "the client's id").map(|id| Words::Plain(id.to_owned())),
    };
    let client_secret = secrets::source(auth, "client_secret");
    let client_auth = auth.word("client_auth", &[("basic", ClientAuth::Basic), ("body", ClientAuth::Body)]);
    let refreshes = auth.word("grant", &[("client_credentials", false), ("refresh_token", true)]).unwrap_or(false);
    let grant = if refreshes {
        let first = secrets::needed(auth, "refresh_token");
        if auth.get("state_file").is_none() {
            auth.missing("state_file", "state_file = \"/var/lib/portero/NAME.token\", where a rotated token is kept");
        }
        let state = auth.path_to("state_file", "where a rotated refresh token is kept");
        (|| Some(Grant::RefreshToken { first: first?, state: state? }))()
    } else {
        if auth.get("client_secret").is_none() {
            auth.missing("client_secret", "client_secret = { credential = \"NAME\" }");
        }
        Some(Grant::ClientCredentials)
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
        client_auth: client_auth.unwrap_or_default(),
        scope,
        audience,
        lifetime: lifetime.map(Duration::from_secs),
        place: place?,
    })
}

/// `secret = …`, or `keys = [{ id = …, secret = … }]`.
fn keys(auth: &Reader<'_>) -> Option<Vec<HmacKey>> {
    if auth.get("keys").is_some() {
        let mut keys = Vec::new();
        let mut good = true;
        for key in auth.children("keys", &format!("a list of {KEY}")) {
            let id = key.text("id", "what the vendor calls the key").unwrap_or_default().to_owned();
            match secrets::needed(&key, "secret") {
                Some(secret) => keys.push(HmacKey { id, secret }),
                None => good = false,
            }
            key.finish(&[]);
        }
        return (good && !keys.is_empty()).then_some(keys);
    }
    let id = auth.text("key_id", "what the vendor calls the key").unwrap_or_default().to_owned();
    secrets::needed(auth, "secret").map(|secret| vec![HmacKey { id, secret }])
}

fn standard_webhook(auth: &Reader<'_>) -> Option<Auth> {
    let keys = keys(auth)?;
    Some(Auth::Hmac(Box::new(Hmac::standard_webhook(keys.into_iter().map(|key| key.secret).collect()))))
}

fn hmac(auth: &Reader<'_>) -> Option<Hmac> {
    const HEADER: &str = "a header's name, for example \"X-Signature\"";
    let keys = keys(auth);
    let algorithm = auth.word("algorithm", &[("sha256", Algorithm::Sha256), ("sha1", Algorithm::Sha1)]);
    let code = auth.word("key_encoding", &[("raw", Code::Raw), ("base64", Code::Base64), ("hex", Code::Hex)]);
    let output = auth.word("output", &[("base64", Code::Base64), ("hex", Code::Hex)]);
    let keep_absent = auth.word("absent", &[("keep", true), ("drop", false)]).unwrap_or(false);
    let parts = parts(auth);
    let joiner = match auth.get("join") {
        Some(node) => match as_text(node) {
            Some(text) => text.to_owned(),
            None => {
                auth.wrong("join", node, "text in quotes, for example \"\\n\"");
                return None;
            }
        },
        None => "\n".to_owned(),
    };
    let timestamp =
        auth.child("timestamp", "a table such as { header = \"X-Timestamp\", unit = \"s\" }").and_then(|time| {
            let header = time.need_text("header", HEADER).map(str::to_owned);
            let units = [("s", Stamp::Seconds), ("ms", Stamp::Millis), ("http_date", Stamp::Date)];
            let unit = time.word("unit", &units).unwrap_or(Stamp::Seconds);
            time.finish(&[]);
            Some((header?, unit))
        });
    let header = |key| auth.text(key, HEADER).map(str::to_owned);
    let (nonce, id) = (header("nonce"), header("id"));
    let signature = auth.need_text("signature", HEADER).map(str::to_owned);
    let text = auth.text("text", "a text with {signature} in it").unwrap_or("{signature}").to_owned();
    if let (false, Some(node)) = (text.contains("{signature}"), auth.get("text")) {
        auth.wrong("text", node, "a text with {signature} in it");
    }
    let headers = pairs(auth, "headers", "a table such as { X-Key = \"{key_id}\" }");
    Some(Hmac {
        algorithm: algorithm.unwrap_or_default(),
        keys: keys?,
        key_code: code.unwrap_or(Code::Raw),
        parts: parts?,
        joiner,
        keep_absent,
        output: output.unwrap_or(Code::Hex),
        timestamp,
        nonce,
        id,
        signature: signature?,
        text,
        headers,
    })
}

fn parts(auth: &Reader<'_>) -> Option<Vec<Part>> {
    const EXPECTED: &str = "a list of \"method\", \"path\", \"query\", \"path_and_query\", \"body\", \"body_digest:hex\", \
                            \"timestamp\", \"nonce\", \"key_id\", \"header:NAME\", \"line:NAME\", \"text:TEXT\"";
    let Some(node) = auth.get("parts") else {
        auth.missing("parts", EXPECTED);
        return None;
    };
    let Value::Array(items) = &node.value else {
        auth.wrong("parts", node, EXPECTED);
        return None;
    };
    let read: Option<Vec<Part>> = items.iter().map(|item| part(auth, item, EXPECTED)).collect();
    if read.as_ref().is_some_and(Vec::is_empty) {
        auth.wrong("parts", node, EXPECTED);
        return None;
    }
    read
}

fn part(auth: &Reader<'_>, node: &Node, expected: &str) -> Option<Part> {
    let text = as_text(node).unwrap_or_default();
    let part = match text.split_once(':') {
        Some(("header", name)) if !name.is_empty() => Some(Part::Header(name.to_owned())),
        Some(("line", name)) if !name.is_empty() => Some(Part::HeaderLine(name.to_owned())),
        Some(("text", text)) => Some(Part::Literal(text.to_owned())),
        Some(("body_digest", "hex")) => Some(Part::BodyDigest(Code::Hex)),
        Some(("body_digest", "base64")) => Some(Part::BodyDigest(Code::Base64)),
        _ => match text {
            "method" => Some(Part::Method),
            "path" => Some(Part::Path),
            "query" => Some(Part::Query),
            "path_and_query" => Some(Part::PathAndQuery),
            "body" => Some(Part::Body),
            "timestamp" => Some(Part::Timestamp),
            "nonce" => Some(Part::Nonce),
            "key_id" => Some(Part::KeyId),
            _ => None,
        },
    };
    if part.is_none() {
        auth.wrong("parts", node, expected);
    }
    part
}
