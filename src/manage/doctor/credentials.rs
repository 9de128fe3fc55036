//! Secrets: are they there, can the service read them and nobody else, and until when are they good?
//!
//! Must not: show anything of a secret but that it is there.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::config::Config;
use super::machine::Unit;
use super::users::{self, READ, Who};
use super::{Finding, State, moment};
use crate::clock::Clock;
use crate::deliver::expiry::{self, Expiry, Nearness};
use crate::event::UtcMicros;
use crate::secret::SecretSource;

/// Longest secret that is read, bytes (the same as where it is used).
const MOST: u64 = 64 * 1024;

/// Where a secret can be looked at from here: by the service itself, by root through the unit, or not at all.
pub(super) fn place(source: &SecretSource, unit: Option<&Unit>) -> Result<PathBuf, Finding> {
    let at = source.to_string();
    match source {
        SecretSource::File(path) => Ok(path.clone()),
        SecretSource::Credential(name) => match (source.path(), unit.map(|unit| unit.credential(name))) {
            (Some(path), _) => Ok(path),
            (None, Some(Some(Some(path)))) => Ok(path),
            (None, Some(Some(None))) => {
                Err(Finding::skipped("credential", at, "the unit loads it; it can't be looked at from here", "nothing"))
            }
            (None, Some(None)) => {
                let remedy =
                    format!("add LoadCredential={name}:/etc/portero/credentials/{name} (systemctl edit portero)");
                Err(Finding::fail("credential", at, "the unit does not load it", remedy))
            }
            (None, None) => {
                let found = "$CREDENTIALS_DIRECTORY is not set, and no unit is installed that would load it";
                Err(Finding::skipped("credential", at, found, "install the unit, or set $CREDENTIALS_DIRECTORY"))
            }
        },
    }
}

/// The same secret where it can be read from here; as it is where that is all the same.
pub(super) fn readable(source: &SecretSource, unit: Option<&Unit>) -> SecretSource {
    match (source, source.path()) {
        (SecretSource::Credential(_), None) => place(source, unit).map_or_else(|_| source.clone(), SecretSource::File),
        _ => source.clone(),
    }
}

/// Every secret that the configuration names, each once.
pub(super) fn credentials(config: &Config, unit: Option<&Unit>) -> Vec<Finding> {
    let mut seen = Vec::new();
    let mut findings = Vec::new();
    for (key, source) in &config.secrets {
        if seen.contains(&source) {
            continue;
        }
        seen.push(source);
        let mut finding = place(source, unit).map_or_else(|finding| finding, |path| judge(source, &path));
        finding.subject = format!("{key}, {}", finding.subject);
        findings.push(finding);
    }
    findings
}

fn judge(source: &SecretSource, path: &Path) -> Finding {
    let (at, shown) = (source.to_string(), path.display());
    let fail = |found: String, remedy: String| Finding::fail("credential", at.clone(), found, remedy);
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return Finding::skipped("credential", at, format!("{shown} may not be looked at by us"), "run it as root");
        }
        Err(error) => {
            return fail(format!("{shown} can't be read ({error})"), format!("put the secret into {shown}, mode 0600"));
        }
    };
    if !meta.is_file() {
        return fail(format!("{shown} is no file"), format!("put the secret into a file at {shown}"));
    }
    let (mode, owner) = (meta.mode() & 0o777, users::user_name(meta.uid()));
    let loaded = matches!(source, SecretSource::Credential(_));
    // systemd's own copies are guarded by their folder.
    let copied = loaded && source.path().is_some();
    if mode & 0o077 != 0 && !copied {
        let (found, remedy) =
            (format!("{shown} can be read by others (mode {mode:04o})"), format!("run: chmod 600 {shown}"));
        // A file that the service reads itself is refused; one that systemd loads is only too open.
        return if loaded { Finding::warn("credential", at, found, remedy) } else { fail(found, remedy) };
    }
    let who = Who::counts();
    if !loaded && !who.may(&meta, READ) {
        let found = format!("{} may not read {shown}, which belongs to {owner}", who.name);
        return fail(found, format!("run: chown {} {shown}", who.name));
    }
    if meta.len() == 0 || meta.len() > MOST {
        let found = if meta.len() == 0 { "is empty" } else { "is larger than 64 KiB" };
        return fail(format!("{shown} {found}"), format!("put the secret, and nothing else, into {shown}"));
    }
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            return Finding::skipped(
                "credential",
                at,
                format!("{shown} can't be read by us ({error})"),
                "run it as root",
            );
        }
    };
    let Ok(text) = String::from_utf8(bytes) else {
        return fail(
            format!("{shown} holds bytes that are no text"),
            format!("put the secret as UTF-8 text into {shown}"),
        );
    };
    let secret = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if secret.trim().is_empty() {
        return fail(format!("{shown} holds only blanks"), format!("put the secret into {shown}"));
    }
    // A PEM file ends as it likes.
    if secret.trim() != secret && !secret.contains("-----BEGIN") {
        let found = format!("{shown} begins or ends with a blank or an empty line, which counts as part of the secret");
        return Finding::warn("credential", at, found, format!("write it anew: printf %s 'SECRET' > {shown}"));
    }
    Finding::ok("credential", at, format!("there, mode {mode:04o}, of {owner}"))
}

/// What ends, as far as it can be known; `status` is the running gateway's own account, which can read what we may not, and has
/// been told things by servers.
pub(super) fn expiry(config: &Config, clock: &Clock, status: Option<&Value>) -> Vec<Finding> {
    let now = clock.now();
    let mut known: Vec<(String, Expiry)> = Vec::new();
    for sink in &config.sinks {
        known.extend(expiry::of_sink(&sink.kind).into_iter().map(|expiry| (sink.name.clone(), expiry)));
    }
    if let Some(directory) = &config.directory {
        known.extend(expiry::of_source(&directory.source).into_iter().map(|expiry| ("directory".to_owned(), expiry)));
    }
    for expiring in &config.expiring {
        let owner = expiring.sink.clone().unwrap_or_default();
        if let Some(at) = end_of(expiring.last_day) {
            known.push((owner, Expiry { what: expiring.key.clone(), at }));
        }
    }
    let sinks = status.and_then(|status| status["sinks"].as_array()).into_iter().flatten();
    let directory = status.map(|status| ("directory", &status["directory"]["credential"]));
    let told = sinks.filter_map(|sink| Some((sink["name"].as_str()?, &sink["credential"]))).chain(directory);
    for (owner, credential) in told {
        let (what, until) = (credential["what"].as_str(), credential["until"].as_str());
        let until = until.and_then(|until| until.parse::<jiff::Timestamp>().ok());
        if let (Some(what), Some(until)) = (what, until)
            && known.iter().all(|(name, expiry)| name != owner || expiry.what != what)
        {
            let at = UtcMicros(until.as_microsecond());
            known.push((owner.to_owned(), Expiry { what: what.to_owned(), at }));
        }
    }
    let finding = |(owner, expiry): (String, Expiry)| {
        let state = match expiry.nearness(now.wall) {
            // A clock that is wrong is no judge.
            Nearness::Past(_) if now.synchronised => State::Fail,
            Nearness::Past(_) | Nearness::Soon(_) => State::Warn,
            Nearness::Far => State::Ok,
        };
        match expiry.said(now.wall) {
            Some(said) => {
                let found = said.rsplit_once("; ").map_or(said.as_str(), |(found, _)| found);
                let found = format!("{found} ({})", moment(expiry.at));
                Finding::new("expiry", owner, state, found).remedy("renew it and put the new one into the same place")
            }
            None => Finding::ok("expiry", owner, format!("{} is good until {}", expiry.what, moment(expiry.at))),
        }
    };
    known.into_iter().map(finding).collect()
}

/// The end of a day by UTC.
fn end_of(day: jiff::civil::Date) -> Option<UtcMicros> {
    let midnight = crate::clock::Zone::utc().start_of_day(day)?;
    Some(UtcMicros(midnight.0 + 86_400_000_000))
}
