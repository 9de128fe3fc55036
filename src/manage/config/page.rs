//! `[manage] listen`, `token`, `hosts` and `page_people`: the status page.
//!
//! Must not: open the page to a network without a token and a word about it.

use std::net::SocketAddr;

use super::PageConfig;
use super::reader::{Reader, as_text};
use super::secrets;
use super::tree::Value;

/// The keys of the page; `None` without `listen`.
pub(super) fn page(reader: &Reader<'_>) -> Option<PageConfig> {
    let token = secrets::source(reader, "token");
    let hosts = hosts(reader);
    let people = reader.boolean("page_people").unwrap_or(false);
    let Some(node) = reader.get("listen") else {
        for key in ["token", "hosts", "page_people"] {
            if reader.get(key).is_some() {
                reader.missing("listen", &format!("listen = \"127.0.0.1:8787\" beside {key}, or no {key}"));
                break;
            }
        }
        return None;
    };
    let expected = "an address and port for the status page, for example \"127.0.0.1:8787\"";
    let text = reader.text("listen", expected)?;
    let Some(address) = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0) else {
        reader.wrong("listen", node, expected);
        return None;
    };
    if !address.ip().is_loopback() {
        if reader.get("token").is_none() {
            let expected = "token = { credential = \"NAME\" } beside an address that others can reach, or \
                            listen = \"127.0.0.1:8787\"";
            reader.missing("token", expected);
        }
        let found = "a status page on the network, token and all unencrypted";
        let expected = "127.0.0.1 and a tunnel (ssh -L 8787:127.0.0.1:8787), or a network that you trust";
        reader.doubt("listen", &node.place, found, expected);
    }
    Some(PageConfig { address, token, hosts, people })
}

fn hosts(reader: &Reader<'_>) -> Vec<String> {
    let Some(node) = reader.get("hosts") else { return Vec::new() };
    let expected =
        "a list of names by which browsers call this page, without port, for example [\"gw-1.site.example\"]";
    let Value::Array(items) = &node.value else {
        reader.wrong("hosts", node, expected);
        return Vec::new();
    };
    let mut names = Vec::new();
    for item in items {
        match as_text(item).filter(|name| is_name(name)) {
            Some(name) => names.push(name.to_ascii_lowercase()),
            None => reader.wrong("hosts", item, expected),
        }
    }
    names
}

/// A name or an IPv4 address: letters, digits, hyphens and dots, as in a `Host` header without its port.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        && text.bytes().any(|b| b.is_ascii_alphanumeric())
}
