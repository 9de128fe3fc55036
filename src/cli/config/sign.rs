//! `portero config sign`: signs a bundle, after a look at its `[bundle]` table.
//!
//! Must not: sign what every gateway would refuse.

use std::path::PathBuf;

use super::{beside, read, secret};
use crate::cli::{Exit, Failure, Output};
use crate::event::json::rfc3339;
use crate::manage::config::{Addressee, Header, Layer, header};
use crate::manage::remote::bundle::{MAX_BYTES, PURPOSE};
use crate::manage::remote::sign;

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
    let password = super::password(args.password_file.as_deref())?;
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

fn addressed(header: &Header) -> String {
    match &header.to {
        Addressee::Gateway(id) => format!("gateway:{id}"),
        Addressee::Group(group) => format!("group:{group}"),
    }
}

/// What a bundle says of itself.
pub(super) fn words(header: &Header) -> String {
    format!(
        "revision {} for {}, good from {} until {}",
        header.revision,
        addressed(header).replace(':', " "),
        rfc3339(header.not_before).as_str(),
        rfc3339(header.expires).as_str(),
    )
}
