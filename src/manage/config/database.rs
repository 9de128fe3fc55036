//! `[[sink]]` with `type = "postgres"`.
//!
//! Must not: know how the sink delivers, or ask a name server.

use super::address::{self, Url, is_loopback};
use super::brokers::missing_file;
use super::reader::Reader;
use super::secrets;
use super::sinks::{batch, timeout, warn_insecure};
use crate::deliver::postgres;
use crate::secret::SecretSource;
use crate::tls::TlsMode;

/// Events a transaction: turns of this size let a backlog drain by binary COPY at nearly its full speed, and two of them in
/// memory are a few megabytes.
const BATCH: usize = 2000;

const URL: &str = "the database's address, for example \"postgresql://portero@db.example:5432/attendance\"";

/// The keys of a PostgreSQL sink.
pub(super) fn postgres(reader: &Reader<'_>) -> Option<postgres::Config> {
    let batch = batch(reader, 50_000, BATCH);
    let timeout = timeout(reader);
    let password: Option<SecretSource> = secrets::source(reader, "password");
    let ca_file = reader.path_to("ca_file", "the path of a PEM file with CA certificates");
    missing_file(reader, "ca_file", ca_file.as_deref());
    let tls = reader.word("tls", super::TLS_WORDS);
    let text = reader.need_text("url", URL)?;
    let node = reader.get("url")?;
    let hosts = one_by_one(text);
    let urls: Option<Vec<Url<'_>>> = hosts.iter().map(|url| address::parse(url)).collect();
    let Some((urls, url)) = urls.as_ref().and_then(|urls| Some((urls, urls.first()?))) else {
        reader.wrong("url", node, URL);
        return None;
    };
    if url.has_password || names(url, "password") {
        let expected =
            "password = { credential = \"NAME\" } and a URL without password: secrets are never written into the file";
        reader.refuse("url", &node.place, "a URL with a password (not shown)", expected);
        return None;
    }
    if names(url, "sslmode") {
        reader.wrong("url", node, "tls = \"require\", \"disable\" or \"insecure\" in place of sslmode in the URL");
        return None;
    }
    if !matches!(url.scheme, "postgresql" | "postgres") {
        reader.wrong("url", node, URL);
        return None;
    }
    if value(url, "target_session_attrs").is_some_and(|attrs| !matches!(attrs, "read-write" | "any")) {
        reader.wrong("url", node, "target_session_attrs=read-write: events are written, a standby takes none");
        return None;
    }
    if url.user.is_none() && !names(url, "user") {
        reader.wrong(
            "url",
            node,
            "a URL with the gateway's login, for example \"postgresql://portero@db.example/attendance\"",
        );
    }
    if url.path.len() < 2 && !names(url, "dbname") {
        reader.wrong("url", node, "a URL with a database, for example \"postgresql://portero@db.example/attendance\"");
    }
    let tls = tls.unwrap_or_default();
    match tls {
        TlsMode::Disable if !urls.iter().all(|url| is_loopback(url.host)) => {
            let node = reader.get("tls")?;
            reader.wrong(
                "tls",
                node,
                "\"require\": an unencrypted database connection is allowed on this machine (loopback) only",
            );
            return None;
        }
        TlsMode::Insecure => warn_insecure(reader),
        TlsMode::Disable | TlsMode::Require => {}
    }
    if reader.get("password").is_none() {
        let expected =
            "password = { credential = \"NAME\" } (without it only a server that trusts the connection lets us in)";
        reader.doubt("password", &reader.place, "nothing", expected);
    }
    Some(postgres::Config { url: text.to_owned(), password, batch, tls, ca_file, timeout })
}

/// One URL for each host: `postgresql://USER@A:1,B:2/DATABASE` names two servers of which one takes writes.
fn one_by_one(text: &str) -> Vec<String> {
    let Some((scheme, rest)) = text.split_once("://") else { return vec![text.to_owned()] };
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (login, places) =
        authority.rsplit_once('@').map_or(("", authority), |(login, _)| authority.split_at(login.len() + 1));
    places.split(',').map(|place| format!("{scheme}://{login}{place}{tail}")).collect()
}

/// Whether the URL's query names a parameter.
fn names(url: &Url<'_>, parameter: &str) -> bool {
    value(url, parameter).is_some()
}

/// The value of a parameter in the URL's query.
fn value<'u>(url: &Url<'u>, parameter: &str) -> Option<&'u str> {
    let pairs = url.query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(|(name, _)| *name == parameter).map(|(_, value)| value).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_hosts_are_looked_at_one_by_one() {
        assert_eq!(
            one_by_one("postgresql://p@a:1,[::1]:2/db?target_session_attrs=read-write"),
            [
                "postgresql://p@a:1/db?target_session_attrs=read-write",
                "postgresql://p@[::1]:2/db?target_session_attrs=read-write"
            ]
        );
        assert_eq!(one_by_one("postgresql:///db?host=/run/a,b"), ["postgresql:///db?host=/run/a,b"]);
        assert_eq!(one_by_one("no url"), ["no url"]);
    }
}
