//! `[[sink]]`: `type = "api"` or `type = "postgres"`.
//!
//! Must not: know how a sink delivers.

use std::time::Duration;

use super::address::{self, Url, is_loopback};
use super::brokers::missing_file;
use super::filters::filter;
use super::mapping::mapping;
use super::plain::name;
use super::reader::{Reader, as_text};
use super::request;
use super::tree::Place;
use super::{answers, auth, database, presets, proxy, questions};
use crate::deliver::relay::{Flow, Order};
use crate::deliver::{self, Kind, UnknownPerson, api};
use crate::journal::Start;
use crate::tls::TlsMode;

/// Most bytes of one request body to a vendor's API.
const MAX_BODY_BYTES: u64 = 1 << 20;

const API_KEYS: &[&str] = &[
    "method",
    "auth",
    "headers",
    "max_body_bytes",
    "preset",
    "client_cert",
    "client_key",
    "proxy",
    "on_ambiguous",
    "answer",
    "answer_format",
    "unwrap",
    "items",
    "counts",
    "wait",
    "poll",
    "lookup",
    "open",
    "request",
    "map",
    "map_correction",
];
const POSTGRES_KEYS: &[&str] = &["password"];

const UNKNOWN_PERSON: &[(&str, UnknownPerson)] =
    &[("send", UnknownPerson::Send), ("quarantine", UnknownPerson::Quarantine)];

/// A sink as read, with what a comparison with the others needs.
pub(super) struct Sink {
    pub(super) path: String,
    pub(super) name: Option<(String, Place)>,
    pub(super) config: Option<deliver::Config>,
}

/// What the rest of the file says that a sink needs.
pub(super) struct Around<'s> {
    /// `[gateway] zone`.
    pub(super) site_zone: Option<&'s str>,
    /// The names of the terminals.
    pub(super) terminals: Vec<&'s str>,
    /// There is a `[directory]`.
    pub(super) directory: bool,
}

/// One `[[sink]]`.
pub(super) fn sink(reader: Reader<'_>, around: &Around<'_>) -> Sink {
    let path = reader.path.clone();
    let name = name(&reader, "name", "a name for this sink, for example \"vendor\"");
    let name_place = reader.get("name").map_or_else(|| reader.place.clone(), |n| n.place.clone());
    let start = reader.word("start", &[("all", Start::All), ("now", Start::Now)]).unwrap_or_default();
    let filter = filter(&reader, &around.terminals);
    let unknown = reader.word("unknown_person", UNKNOWN_PERSON).unwrap_or_default();
    if unknown == UnknownPerson::Quarantine
        && !around.directory
        && let Some(node) = reader.get("unknown_person")
    {
        reader.wrong("unknown_person", node, "\"send\", or a table [directory] that knows people");
    }
    let flow = flow(&reader);
    if reader.get("type").is_none() {
        reader.missing("type", "type = \"api\" or type = \"postgres\"");
    }
    let kind = match reader.word("type", &[("api", true), ("postgres", false)]) {
        Some(true) => {
            let kind = api(&reader, around.site_zone).map(Kind::Api);
            let elsewhere: Vec<_> =
                POSTGRES_KEYS.iter().map(|k| (*k, "a sink of type postgres; here: auth = { … }")).collect();
            reader.finish(&elsewhere);
            kind
        }
        Some(false) => {
            let kind = database::postgres(&reader).map(Kind::Postgres);
            let elsewhere: Vec<_> = API_KEYS.iter().map(|k| (*k, "a sink of type api")).collect();
            reader.finish(&elsewhere);
            kind
        }
        None => None,
    };
    let config =
        (|| Some(deliver::Config { name: name.clone()?, start, filter, unknown_person: unknown, flow, kind: kind? }))();
    Sink { path, name: name.map(|n| (n, name_place)), config }
}

/// How fast, and in which order.
fn flow(reader: &Reader<'_>) -> Flow {
    let number = |key, expected| reader.number(key, 1..=1_000_000, expected).and_then(|n| u32::try_from(n).ok());
    Flow {
        requests_per_minute: number("max_requests_per_minute", "a whole number of requests a minute, for example 60"),
        catch_up_per_minute: number("catch_up_per_minute", "a whole number of events a minute, for example 600"),
        order: reader.word("order", &[("strict", Order::Strict), ("live-first", Order::LiveFirst)]).unwrap_or_default(),
    }
}

pub(super) fn batch(reader: &Reader<'_>, most: u64, default: usize) -> usize {
    let batch = reader.number("batch", 1..=most, "a whole number of events, for example 100");
    batch.and_then(|b| usize::try_from(b).ok()).unwrap_or(default)
}

pub(super) fn timeout(reader: &Reader<'_>) -> Duration {
    let seconds = reader.number("timeout_seconds", 1..=600, "a whole number of seconds, for example 30");
    Duration::from_secs(seconds.unwrap_or(30))
}

fn api(reader: &Reader<'_>, site_zone: Option<&str>) -> Option<api::Config> {
    presets::named(reader);
    let method = reader.word("method", &[("POST", "POST"), ("PUT", "PUT"), ("PATCH", "PATCH")]).unwrap_or("POST");
    let batch = batch(reader, 10_000, 1);
    let body = reader.number("max_body_bytes", 1024..=64 << 20, "a whole number of bytes, for example 1048576");
    let max_body_bytes = usize::try_from(body.unwrap_or(MAX_BODY_BYTES)).ok()?;
    let timeout = timeout(reader);
    let request = request::request(reader, batch, site_zone);
    let scope = request::scope(request.as_deref(), site_zone);
    let (map, map_correction) = (mapping(reader, "map", scope), mapping(reader, "map_correction", scope));
    request::together(reader, request.as_deref(), map.is_some());
    let headers = headers(reader);
    let ca_file = reader.path_to("ca_file", "the path of a PEM file with CA certificates");
    missing_file(reader, "ca_file", ca_file.as_deref());
    let tls = reader.word("tls", super::TLS_WORDS);
    let (auth, auth_fails) = match reader.get("auth") {
        Some(_) => {
            let auth = auth::auth(reader);
            let fails = auth.is_none();
            (auth.unwrap_or(api::Auth::None), fails)
        }
        None => (api::Auth::None, false),
    };
    let client = auth::client(reader);
    let client_fails = client.is_none() && reader.get("client_cert").is_some();
    let proxy = proxy::proxy(reader);
    let answering = answers::answering(reader);
    let beside = questions::Beside {
        site_zone,
        map: map.as_ref(),
        request: request.as_deref(),
        on_ambiguous: answering.on_ambiguous,
        lookup: answering.lookup.as_ref(),
    };
    let open = questions::open(reader, &beside);
    answers::check(reader, &answering, (!auth_fails).then_some(&auth));
    const URL: &str = "the address of the API, for example \"https://vendor.example/api/v1/events\"";
    let text = reader.need_text("url", URL)?;
    let node = reader.get("url")?;
    let url = match address::parse(text) {
        Some(url) if url.user.is_some() || url.has_password => {
            reader.refuse(
                "url",
                &node.place,
                "a URL with a login (not shown)",
                "auth = { type = \"basic\", … } and a URL without login",
            );
            return None;
        }
        Some(url) if matches!(url.scheme, "http" | "https") && !url.host.is_empty() => url,
        _ => {
            reader.wrong("url", node, URL);
            return None;
        }
    };
    let tls = api_tls(reader, &url, tls, node)?;
    if reader.get("auth").is_none() && !is_loopback(url.host) {
        let expected = "auth = { type = \"bearer\", token = { credential = \"NAME\" } }, or auth = { type = \"none\" }";
        reader.doubt("auth", &reader.place, "nothing", expected);
    }
    if auth_fails || client_fails {
        return None;
    }
    Some(api::Config {
        url: text.to_owned(),
        method: method.to_owned(),
        batch,
        max_body_bytes,
        auth,
        headers,
        timeout,
        tls,
        ca_file,
        client,
        proxy: proxy?,
        answers: answering.rules,
        answers_written: answers::written(reader),
        poll: answering.poll,
        lookup: answering.lookup,
        open,
        on_ambiguous: answering.on_ambiguous,
        request,
        map,
        map_correction,
    })
}

/// `tls` as it goes with the url.
pub(super) fn api_tls(
    reader: &Reader<'_>,
    url: &Url<'_>,
    tls: Option<TlsMode>,
    node: &super::tree::Node,
) -> Option<TlsMode> {
    match (url.scheme, tls, is_loopback(url.host)) {
        ("https", None | Some(TlsMode::Require), _) => Some(TlsMode::Require),
        ("https", Some(TlsMode::Insecure), _) => {
            warn_insecure(reader);
            Some(TlsMode::Insecure)
        }
        ("http", None | Some(TlsMode::Disable), true) => Some(TlsMode::Disable),
        ("http", _, false) => {
            reader.wrong("url", node, "https://: unencrypted delivery is allowed on this machine (loopback) only");
            None
        }
        _ => {
            let tls = reader.get("tls")?;
            reader.wrong(
                "tls",
                tls,
                "what the url says: https:// with \"require\" or \"insecure\", http:// with \"disable\"",
            );
            None
        }
    }
}

pub(super) fn warn_insecure(reader: &Reader<'_>) {
    if let Some(node) = reader.get("tls") {
        let found = "an encrypted connection to a server that nobody verifies";
        reader.doubt("tls", &node.place, found, "tls = \"require\", with ca_file for an own CA");
    }
}

/// `headers = { X-Site = "…" }`.
pub(super) fn headers(reader: &Reader<'_>) -> Vec<(String, String)> {
    let Some(table) = reader.child("headers", "a table such as { X-Site = \"obra-norte\" }") else { return Vec::new() };
    let mut headers = Vec::new();
    for (name, place, node) in table.entries() {
        let value = as_text(node).filter(|v| v.chars().all(|c| c == '\t' || (' '..='~').contains(&c)));
        if !header_name(&table, name, place) {
            continue;
        }
        if let Some(value) = value {
            headers.push((name.to_owned(), value.to_owned()));
        } else {
            table.refuse(name, &node.place, "a value that no HTTP header can have", "printable ASCII text");
        }
    }
    headers
}

/// Whether a header of this name may be configured; says so if not.
pub(super) fn header_name(table: &Reader<'_>, name: &str, place: &Place) -> bool {
    let token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    if name.eq_ignore_ascii_case("authorization") || name.eq_ignore_ascii_case("proxy-authorization") {
        let expected = "auth = { type = \"bearer\", token = { credential = \"NAME\" } }";
        table.refuse(name, place, "a credential (not shown)", expected);
    } else if ["content-type", "content-length", "idempotency-key", "host", "transfer-encoding"]
        .iter()
        .any(|own| name.eq_ignore_ascii_case(own))
    {
        table.refuse(name, place, "a header that the gateway sets itself", "no such header");
    } else if !token {
        table.refuse(name, place, "a name that no HTTP header can have", "letters, digits and hyphens");
    } else {
        return true;
    }
    false
}
