//! `portero mapping check`: what a sink would send, held against the vendor's contract before it ships.
//!
//! Must not: send anything, change the journal, or go to an address that a document names.

#[cfg(feature = "contract")]
mod report;
#[cfg(feature = "contract")]
mod requests;

use std::path::PathBuf;

use crate::cli::ConfigFile;

#[cfg(feature = "contract")]
pub(super) use report::run;

/// Which sink, against which document.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("contract").required(true).args(["openapi", "schema"]))]
pub(super) struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// The sink, of type api
    #[arg(long, value_name = "NAME")]
    sink: String,
    /// The vendor's OpenAPI 3.0 or 3.1 document, YAML or JSON
    #[arg(long, value_name = "FILE")]
    openapi: Option<PathBuf>,
    /// The operation (its operationId) to which everything must go; without it, the one that each request reaches
    #[arg(long, value_name = "ID", requires = "openapi")]
    operation: Option<String>,
    /// A JSON Schema for the body alone
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Only stored events from then on: a time (RFC 3339), a day at the gateway, or an age such as 30m, 2h, 3d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// At most so many stored events, the newest; beside them events of every kind are generated
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Print JSON Lines
    #[arg(long)]
    json: bool,
}

#[cfg(not(feature = "contract"))]
pub(super) fn run(_: &Args) -> anyhow::Result<crate::cli::Exit> {
    Err(left_out().into())
}

/// What a build without the feature says.
#[cfg(any(test, not(feature = "contract")))]
fn left_out() -> crate::cli::Failure {
    let words = "this portero was built without 'mapping check' (feature contract), as device packages are; run it where \
                 you write the configuration, with a portero from an ordinary build";
    crate::cli::Failure::new(crate::cli::Exit::Unavailable, words)
}

#[cfg(test)]
mod tests {
    use crate::cli::{Exit, exit_for};

    #[test]
    fn a_build_without_it_says_so_and_exits_with_69() {
        let error = anyhow::Error::from(super::left_out());
        assert!(error.to_string().contains("feature contract"), "{error}");
        assert_eq!(exit_for(&error), Exit::Unavailable);
    }
}
