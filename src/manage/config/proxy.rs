//! `proxy`: the forward proxy that HTTP goes through where a site has no other way out.
//!
//! Must not: take one from the environment, or hold its password.

use super::address;
use super::reader::{Reader, as_text};
use super::secrets;
use super::tree::Value;
use crate::deliver::api::ForwardProxy;

const URL: &str = "the proxy's address, for example \"http://proxy.example:3128\"";

const TABLE: &str = "an address, or a table such as { url = \"http://proxy.example:3128\", user = \"gw\", password = { credential = \"NAME\" } }";

/// `proxy`, if it is there; the outer `None` means that it is wrong.
#[expect(clippy::option_option, reason = "absent, wrong or right")]
pub(super) fn proxy(reader: &Reader<'_>) -> Option<Option<ForwardProxy>> {
    // Asked for only where it stands, as few sites have one.
    if !reader.entries().any(|(name, ..)| name == "proxy") {
        return Some(None);
    }
    let node = reader.get("proxy")?;
    if let Some(text) = as_text(node) {
        if good(text) {
            return Some(Some(ForwardProxy { url: text.to_owned(), login: None }));
        }
        // It may hold a password.
        reader.refuse("proxy", &node.place, "something else (not shown)", URL);
        return None;
    }
    if !matches!(node.value, Value::Table(_)) {
        reader.wrong("proxy", node, TABLE);
        return None;
    }
    let table = reader.child("proxy", TABLE)?;
    let url = table.need_text("url", URL);
    if let (Some(false), Some(node)) = (url.map(good), table.get("url")) {
        table.refuse("url", &node.place, "something else (not shown)", URL);
    }
    let user = table.text("user", "a user name").map(str::to_owned);
    let password = secrets::source(&table, "password");
    match (table.get("user").is_some(), table.get("password").is_some()) {
        (true, false) => table.missing("password", "password = { credential = \"NAME\" } beside user"),
        (false, true) => table.missing("user", "user = \"…\" beside password"),
        _ => {}
    }
    let fails = table.get("password").is_some() && password.is_none();
    table.finish(&[]);
    let url = url.filter(|url| good(url))?.to_owned();
    (!fails).then(|| Some(ForwardProxy { url, login: user.zip(password) }))
}

fn good(text: &str) -> bool {
    let url = address::parse(text);
    url.is_some_and(|url| {
        let bare = url.user.is_none() && !url.has_password && url.query.is_none() && matches!(url.path, "" | "/");
        bare && matches!(url.scheme, "http" | "https") && !url.host.is_empty()
    })
}
