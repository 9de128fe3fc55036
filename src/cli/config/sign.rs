//! `portero config sign`: signs a bundle, after a look at its `[bundle]` table.
//!
//! Must not: sign what every gateway would refuse.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::{addressed, beside, read, words};
use crate::cli::{Exit, Failure, Output};
use crate::manage::config::{Layer, header};
use crate::manage::remote::bundle::{MAX_BYTES, PURPOSE};
use crate::manage::remote::sign::{self, Password};
use crate::secret::SecretSource;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The bundle: a configuration with a table [bundle]
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// The secret key, from `portero config keygen` or `minisign -G`
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The password of the key is in this file (mode 0600), in place of asking for it
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Where the signature goes [default: BUNDLE.minisig]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let payload = read(&args.bundle)?;
    if payload.len() > MAX_BYTES {
        return Err(Failure::new(Exit::Data, format!("a bundle has at most {MAX_BYTES} bytes")).into());
    }
    let text = std::str::from_utf8(&payload).map_err(|_| Failure::new(Exit::Data, "a bundle is UTF-8 text"))?;
    let header = header(&Layer { name: args.bundle.clone(), text: text.to_owned() })?;
    if header.purpose != PURPOSE {
        let words = format!("purpose must be \"{PURPOSE}\", or no gateway takes it");
        return Err(Failure::new(Exit::Data, words).into());
    }
    let key = secret(&args.key)?;
    let password = password(args.password_file.as_deref())?;
    let comment = format!("portero-config revision:{} {}", header.revision, addressed(&header));
    let signature = sign::sign(&payload, &key, &password, &comment);
    let signature = signature.map_err(|error| Failure::new(Exit::Data, error.to_string()))?;
    let to = args.output.clone().unwrap_or_else(|| beside(&args.bundle));
    let failed = |error: std::io::Error| Failure::new(Exit::Io, format!("cannot write {}: {error}", to.display()));
    std::fs::write(&to, signature).map_err(failed)?;
    let mut out = Output::stdout();
    out.line(format_args!("{}: {}", to.display(), words(&header)))?;
    Ok(Exit::Done)
}

/// A password from a file of mode 0600, or from a person.
pub(super) fn password(file: Option<&Path>) -> anyhow::Result<Password> {
    use std::io::IsTerminal as _;
    match file {
        Some(file) => Ok(Password::Given(secret(file)?)),
        None if std::io::stdin().is_terminal() => Ok(Password::Ask),
        None => Ok(Password::None),
    }
}

fn secret(file: &Path) -> anyhow::Result<SecretString> {
    let read = SecretSource::File(file.to_owned()).read();
    read.map_err(|error| Failure::new(Exit::Io, error.to_string()).into())
}
