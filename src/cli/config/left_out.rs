//! `portero config keygen` and `config sign` in a build that leaves signing out (feature `sign`), as device packages do: the
//! key that signs bundles belongs on no gateway, and what opens and protects it is half a megabyte of code.
//!
//! Must not: look at its arguments.

use std::ffi::OsString;

use crate::cli::{Exit, Failure};

/// Whatever an ordinary build takes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _all: Vec<OsString>,
}

/// Says where to do it.
pub(super) fn run(_: &Args) -> anyhow::Result<Exit> {
    let words = "this portero was built without 'config keygen' and 'config sign' (feature sign), as device packages are; \
                 run it where you write the configuration, with a portero from an ordinary build, or use minisign";
    Err(Failure::new(Exit::Unavailable, words).into())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Exit, exit_for};

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: super::Args,
    }

    #[test]
    fn a_build_that_cannot_sign_says_so_and_exits_with_69() {
        let command = Command::try_parse_from(["sign", "bundle.toml", "--key", "desk.key"]).unwrap();
        let error = super::run(&command.args).unwrap_err();
        assert!(error.to_string().contains("feature sign"), "{error}");
        assert_eq!(exit_for(&error), Exit::Unavailable);
    }
}
