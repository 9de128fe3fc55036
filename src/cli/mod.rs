//! The command line: one file per subcommand, and the one place where an exit code is chosen.
//!
//! Must not: hold logic that the gateway or a test would want too; that stands on a lower floor.
//!
//! The convention for a subcommand `x`: `cli/x.rs` holds `pub struct Args` (deriving `clap::Args`) and
//! `pub fn run(args: &Args) -> anyhow::Result<Exit>`. What was asked for goes to standard output through [`Output`],
//! everything else to standard error. An `Err` is printed by `main` and turned into an exit code by [`exit_for`];
//! `Ok(Exit::No)` is for an answer that is "no" and has been printed already. A subcommand that needs a runtime builds
//! it with [`runtime`].

pub mod decode;

pub mod output;

pub use output::Output;

/// How the process ends (`sysexits.h` for 69, 74 and 78).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The answer is "no", or something was found wrong.
    No = 1,
    /// Wrong usage.
    Usage = 2,
    /// `EX_UNAVAILABLE`: a needed service or feature is not available.
    Unavailable = 69,
    /// `EX_IOERR`: input or output failed.
    Io = 74,
    /// `EX_CONFIG`: bad configuration; systemd must not restart us.
    Config = 78,
}

/// An error that knows how the process must end.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How to end.
    pub exit: Exit,
    /// What to tell the person: lower case, with the remedy.
    pub message: String,
}

impl Failure {
    /// A failure with its exit code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

/// The exit code for an error: the first error of the chain that says something decides.
pub fn exit_for(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.exit;
        }
        if let Some(journal) = cause.downcast_ref::<crate::journal::Error>() {
            return match journal {
                crate::journal::Error::Owned { .. } | crate::journal::Error::TooNew { .. } => Exit::Unavailable,
                crate::journal::Error::NotFound(_) => Exit::No,
                _ => Exit::Io,
            };
        }
        if cause.is::<std::io::Error>() {
            return Exit::Io;
        }
    }
    Exit::Io
}

/// A small runtime for a subcommand that talks to the journal, a socket or a server.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?)
}
