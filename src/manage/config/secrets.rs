//! References to secrets in the file, and whether they could be read.
//!
//! Must not: read a secret's value, or repeat one that was written into the file.

use std::path::{Path, PathBuf};

use super::layers::{self, May};
use super::reader::{Reader, Report, as_text};
use super::tree::{Node, Place, Value};
use crate::secret::SecretSource;

/// The remedy for every secret that isn't a reference.
const REFERENCE: &str =
    r#"{ credential = "NAME" } (systemd LoadCredential=) or { file = "/absolute/path" } (mode 0600)"#;

/// Reads `key = { credential = … }` or `{ file = … }`.
pub(super) fn source(reader: &Reader<'_>, key: &'static str) -> Option<SecretSource> {
    let node = reader.get(key)?;
    at(reader, key, node, false).map(|(_, secret)| secret)
}

/// The same for a key that a person chose, for example a header's name; with a `prefix` where one may stand before it.
pub(super) fn at(reader: &Reader<'_>, key: &str, node: &Node, prefixed: bool) -> Option<(String, SecretSource)> {
    let Value::Table(table) = &node.value else {
        let expected = format!("{REFERENCE}; secrets are never written into the file");
        reader.refuse(key, &node.place, what(node), &expected);
        return None;
    };
    let table = Reader::new(reader.report, reader.key(key), node.place.clone(), Some(table));
    let credential = table.text("credential", "the name of a credential");
    let file = path(&table);
    let prefix = if prefixed { table.text("prefix", "the text before it, for example \"token \"") } else { None };
    // Asked for only where it stands: few secrets have an end that is known.
    if table.entries().any(|(name, ..)| name == "expires")
        && let Some(node) = table.get("expires")
    {
        match day(node) {
            Some(day) => reader.report.expiring.borrow_mut().push((reader.key(key), day)),
            None => table.wrong("expires", node, "the last day on which it is good, for example \"2027-01-31\""),
        }
    }
    let (has_credential, has_file) = (table.get("credential").is_some(), table.get("file").is_some());
    let secret = match (has_credential, has_file) {
        (true, true) => {
            table.refuse("file", &node.place, "both credential and file", "one of the two");
            None
        }
        (false, false) => {
            reader.refuse(key, &node.place, "a table without credential or file", REFERENCE);
            None
        }
        (true, false) => credential.and_then(|name| {
            let plain = !name.contains('/') && name != "." && name != ".." && name.len() <= 255;
            if !plain {
                table.refuse("credential", &node.place, "a path", "a name without '/'; for a path use { file = … }");
            }
            plain.then(|| SecretSource::Credential(name.to_owned()))
        }),
        (false, true) => {
            if let (Some(_), Place::Bundle(_)) = (&file, &node.place) {
                let found = "the path of a secret (not shown)";
                layers::allowed(reader.report, May::SecretFile, &node.place, &reader.key(key), found);
            }
            file.map(SecretSource::File)
        }
    };
    table.finish(&[]);
    let secret = secret?;
    let problem = reader.report.problem(&node.place, &reader.key(key), "", "");
    reader.report.secrets.borrow_mut().push((secret.clone(), problem));
    Some((prefix.unwrap_or_default().to_owned(), secret))
}

/// `file`. What is no path may be the secret itself, written into the wrong place.
fn path(table: &Reader<'_>) -> Option<PathBuf> {
    let text = table.text("file", "the path of a file of mode 0600")?;
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        if let Some(node) = table.get("file") {
            let expected = "the absolute path of a file of mode 0600 that holds the secret";
            table.refuse("file", &node.place, "something that is no absolute path (not shown)", expected);
        }
        return None;
    }
    Some(path)
}

/// A day, in quotes or without.
fn day(node: &Node) -> Option<jiff::civil::Date> {
    match (&node.value, as_text(node)) {
        (Value::Datetime(text), _) => text.parse().ok(),
        (_, Some(text)) if text.len() == 10 => text.parse().ok(),
        _ => None,
    }
}

/// The same where it must be there.
pub(super) fn needed(reader: &Reader<'_>, key: &'static str) -> Option<SecretSource> {
    if reader.get(key).is_none() {
        reader.missing(key, REFERENCE);
        return None;
    }
    source(reader, key)
}

fn what(node: &Node) -> &'static str {
    match node.value {
        Value::Text(_) => "a text (not shown)",
        _ => "something that is no reference (not shown)",
    }
}

/// How much is known of the place where secrets will be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// Not looked at: for commands that need none.
    Ignore,
    /// As `portero check` does by hand: without `$CREDENTIALS_DIRECTORY`, the unit's `LoadCredential=` lines decide, and
    /// without a unit a warning is all.
    Expect,
    /// As `portero run` needs it: readable now.
    Need,
}

/// Looks whether the secrets of the configuration are where it says.
pub(super) fn check(report: &Report<'_>, secrets: Secrets, credentials: Option<&Path>, units: &[PathBuf]) {
    let unit = (secrets == Secrets::Expect && credentials.is_none()).then(|| unit_credentials(units)).flatten();
    for (source, problem) in report.secrets.borrow().iter() {
        let mut problem = problem.clone();
        if secrets == Secrets::Ignore {
            continue;
        }
        let judged = match source {
            SecretSource::Credential(name) if credentials.is_none() && secrets == Secrets::Expect => match &unit {
                Some((_, names)) if names.iter().any(|n| n == name) => continue,
                Some((unit, _)) => Err((
                    format!("credential \"{name}\", which {} does not load", unit.display()),
                    format!(
                        "LoadCredential={name}:/etc/portero/credentials/{name} in the unit (systemctl edit portero)"
                    ),
                )),
                None => Ok((
                    format!("credential \"{name}\", which cannot be checked here"),
                    format!("LoadCredential={name}:PATH in portero.service (not installed on this machine)"),
                )),
            },
            SecretSource::Credential(name) if credentials.is_none() => Err((
                format!("credential \"{name}\", but $CREDENTIALS_DIRECTORY is not set"),
                format!("a start by systemd with LoadCredential={name}:PATH, or {{ file = \"/absolute/path\" }}"),
            )),
            SecretSource::Credential(_) | SecretSource::File(_) => match source.read() {
                Ok(_) => continue,
                Err(error) => Err((error.to_string(), remedy(source))),
            },
        };
        let (Ok((found, expected)) | Err((found, expected))) = &judged;
        problem.found.clone_from(found);
        problem.expected.clone_from(expected);
        if judged.is_ok() { report.warn(problem) } else { report.error(problem) }
    }
}

fn remedy(source: &SecretSource) -> String {
    match source {
        SecretSource::Credential(name) => {
            format!("a file \"{name}\" in $CREDENTIALS_DIRECTORY (LoadCredential={name}:PATH in the unit)")
        }
        SecretSource::File(path) => format!("a readable file of mode 0600 that holds the secret at {}", path.display()),
    }
}

/// The first installed unit and the names of the credentials that it and its drop-ins load.
fn unit_credentials(units: &[PathBuf]) -> Option<(PathBuf, Vec<String>)> {
    let unit = units.iter().find(|u| u.is_file())?;
    let mut texts = vec![std::fs::read_to_string(unit).unwrap_or_default()];
    for unit in units {
        let drop_ins = unit.with_extension("service.d");
        let files = std::fs::read_dir(drop_ins).into_iter().flatten().flatten().map(|f| f.path());
        texts.extend(files.filter(|f| f.extension().is_some_and(|e| e == "conf")).flat_map(std::fs::read_to_string));
    }
    let names = texts.iter().flat_map(|text| text.lines()).filter_map(|line| {
        let line = line.trim();
        let value = ["LoadCredential=", "LoadCredentialEncrypted=", "SetCredential=", "SetCredentialEncrypted="]
            .iter()
            .find_map(|key| line.strip_prefix(key))?;
        Some(value.split(':').next().unwrap_or(value).trim().to_owned())
    });
    Some((unit.clone(), names.collect()))
}
