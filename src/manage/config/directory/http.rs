//! `[directory]` with an HTTP endpoint: the same keys as a sink's where they are the same thing, and paging.
//!
//! Must not: accept a credential that has no place on a request without a body.

use super::{Shape, records};
use crate::deliver::auth::{Auth, Placement};
use crate::deliver::directory::http::Format;
use crate::deliver::directory::{Http, Paging, Source};
use crate::manage::config::address::{self, is_loopback};
use crate::manage::config::answers::is_pointer;
use crate::manage::config::brokers::missing_file;
use crate::manage::config::reader::{Reader, one_of};
use crate::manage::config::sinks::{api_tls, headers, timeout};
use crate::manage::config::{TLS_WORDS, auth, proxy};

const POINTER: &str = "a JSON pointer, for example \"/next\"";

const NAME: &str = "the query parameter's name, for example \"page\"";

/// The keys of an endpoint.
pub(super) fn http(reader: &Reader<'_>) -> (Option<Source>, Shape) {
    let format = reader.word("format", &[("json", Format::Json), ("csv", Format::Csv)]).unwrap_or_default();
    let json = format == Format::Json;
    let records = records(reader, json, "a JSON pointer, in a directory of JSON");
    let paging = paging(reader, json);
    let timeout = timeout(reader);
    let ca_file = reader.path_to("ca_file", "the path of a PEM file with CA certificates");
    missing_file(reader, "ca_file", ca_file.as_deref());
    let tls = reader.word("tls", TLS_WORDS);
    let headers = headers(reader);
    let (auth, client) = (shown(reader), auth::client(reader));
    let proxy = proxy::proxy(reader);
    let client_fails = client.is_none() && reader.get("client_cert").is_some();
    let source = (|| {
        let node = reader.get("url")?;
        let text = reader.text("url", super::URL)?;
        let url = match address::parse(text) {
            Some(url) if url.user.is_some() || url.has_password => {
                let expected = "auth = { type = \"basic\", … } and a URL without login";
                reader.refuse("url", &node.place, "a URL with a login (not shown)", expected);
                return None;
            }
            Some(url) if !url.host.is_empty() => url,
            _ => {
                reader.wrong("url", node, super::URL);
                return None;
            }
        };
        let tls = api_tls(reader, &url, tls, node)?;
        if reader.get("auth").is_none() && !is_loopback(url.host) {
            let expected =
                "auth = { type = \"bearer\", token = { credential = \"NAME\" } }, or auth = { type = \"none\" }";
            reader.doubt("auth", &reader.place, "nothing", expected);
        }
        if client_fails {
            return None;
        }
        let url = text.to_owned();
        Some(Http {
            url,
            auth: auth?,
            headers,
            timeout,
            tls,
            ca_file,
            client,
            proxy: proxy?,
            format,
            records,
            paging: paging?,
        })
    })();
    (source.map(|http| Source::Http(Box::new(http))), if json { Shape::Json } else { Shape::Csv })
}

/// `auth`; a credential in the body, or a signature over an event's id, has no place on a question.
fn shown(reader: &Reader<'_>) -> Option<Auth> {
    let Some(node) = reader.get("auth") else { return Some(Auth::None) };
    let auth = auth::auth(reader)?;
    let body = |place: &Placement| matches!(place, Placement::Body { .. });
    let unfit = match &auth {
        Auth::Body { .. } => true,
        Auth::Login(login) => body(&login.place),
        Auth::OAuth2(oauth2) => body(&oauth2.place),
        Auth::Hmac(hmac) => hmac.id.is_some(),
        _ => false,
    };
    if unfit {
        let expected = "a credential in a header, a cookie or the query: a directory is asked for without a body";
        reader.refuse("auth", &node.place, "a credential that stands in the body, or signs an event", expected);
        return None;
    }
    Some(auth)
}

#[derive(Clone, Copy)]
enum Type {
    Next,
    Link,
    Page,
    Offset,
    Cursor,
}

const TYPES: &[(&str, Type)] = &[
    ("next", Type::Next),
    ("link", Type::Link),
    ("page", Type::Page),
    ("offset", Type::Offset),
    ("cursor", Type::Cursor),
];

/// `paging = { type = … }`; the outer `None` means that it is wrong.
#[expect(clippy::option_option, reason = "absent, wrong or right")]
fn paging(reader: &Reader<'_>, json: bool) -> Option<Option<Paging>> {
    let Some(node) = reader.get("paging") else { return Some(None) };
    let paging = reader.child("paging", "a table such as { type = \"next\", pointer = \"/next\" }")?;
    if paging.get("type").is_none() {
        paging.missing("type", &one_of(TYPES.iter().map(|t| t.0)));
        return None;
    }
    let kind = paging.word("type", TYPES)?;
    if matches!(kind, Type::Next | Type::Cursor) && !json {
        reader.refuse("paging", &node.place, "a pointer into CSV", "paging by \"link\", \"page\" or \"offset\"");
        return None;
    }
    let pointer = |key: &'static str| {
        let text = paging.text(key, POINTER)?;
        if is_pointer(text) && json {
            return Some(text.to_owned());
        }
        if let Some(node) = paging.get(key) {
            paging.wrong(key, node, if json { POINTER } else { "no pointer into CSV" });
        }
        None
    };
    let needed = |key: &'static str, expected: &str| {
        if paging.get(key).is_none() {
            paging.missing(key, expected);
        }
    };
    let counted = |usual: u64| {
        let name = paging.need_text("name", NAME).map(str::to_owned);
        let first = paging.number("first", 0..=1, "0 or 1").unwrap_or(usual);
        let total = pointer("total");
        let wrong = total.is_none() && paging.get("total").is_some();
        (!wrong).then_some(()).and_then(|()| Some((name?, first, total)))
    };
    let read = match kind {
        Type::Link => Some(Paging::Link),
        Type::Next => {
            needed("pointer", POINTER);
            pointer("pointer").map(|pointer| Paging::Next { pointer })
        }
        Type::Cursor => {
            needed("pointer", POINTER);
            let name = paging.need_text("name", NAME).map(str::to_owned);
            (|| Some(Paging::Cursor { pointer: pointer("pointer")?, name: name? }))()
        }
        Type::Page => counted(1).map(|(name, first, total)| Paging::Page { name, first, total }),
        Type::Offset => counted(0).map(|(name, first, total)| Paging::Offset { name, first, total }),
    };
    paging.finish(&[
        ("pointer", "paging type next or cursor"),
        ("name", "paging type page, offset or cursor"),
        ("first", "paging type page or offset"),
        ("total", "paging type page or offset"),
    ]);
    read.map(Some)
}
