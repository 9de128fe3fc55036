//! `portero config keygen`: a key pair that signs bundles.
//!
//! Must not: overwrite a key, show a secret one, or leave it readable by others.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use secrecy::ExposeSecret as _;

use super::sign::password;
use crate::cli::{Exit, Failure, Output};
use crate::manage::remote::sign::{self, Password};
use crate::manage::remote::signature::Key;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to write: NAME.key is secret, NAME.pub is for the gateways
    #[arg(value_name = "NAME")]
    name: PathBuf,
    /// Protect the secret key with the password in this file (mode 0600), in place of asking for one
    #[arg(long, value_name = "FILE", conflicts_with = "unprotected")]
    password_file: Option<PathBuf>,
    /// Do not protect the secret key: whoever has the file can sign
    #[arg(long)]
    unprotected: bool,
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let with = |ending: &str| {
        let mut name = args.name.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let (secret_file, public_file) = (with(".key"), with(".pub"));
    for file in [&secret_file, &public_file] {
        if file.exists() {
            let words = format!("{} is there already; choose another name, keys are never overwritten", file.display());
            return Err(Failure::new(Exit::Usage, words).into());
        }
    }
    let password = if args.unprotected { Password::None } else { password(args.password_file.as_deref())? };
    if !args.unprotected && matches!(password, Password::None) {
        let words = "there is no terminal to ask for a password; give --password-file, or --unprotected";
        return Err(Failure::new(Exit::Usage, words).into());
    }
    let pair = sign::keygen(&password).map_err(|error| Failure::new(Exit::Io, error.to_string()))?;
    let write = |file: &PathBuf, mode: u32, text: &str| -> anyhow::Result<()> {
        let failed =
            |error: std::io::Error| Failure::new(Exit::Io, format!("cannot write {}: {error}", file.display()));
        let mut open = std::fs::OpenOptions::new();
        let mut opened = open.write(true).create_new(true).mode(mode).open(file).map_err(failed)?;
        opened.write_all(text.as_bytes()).and_then(|()| opened.sync_all()).map_err(failed)?;
        Ok(())
    };
    write(&secret_file, 0o600, pair.secret.expose_secret())?;
    write(&public_file, 0o644, &pair.public)?;
    let key = Key::parse(&pair.public).map_err(|error| Failure::new(Exit::Io, error.to_string()))?;
    let mut out = Output::stdout();
    out.line(format_args!("key {}: {} (keep it secret), {}", key.id(), secret_file.display(), public_file.display()))?;
    out.line(format_args!("for the gateways, under [manage.remote]: active_key = \"{}\"", key.text()))?;
    Ok(Exit::Done)
}
