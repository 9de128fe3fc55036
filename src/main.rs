//! Arguments to subcommand to exit code, nothing else.

use std::process::ExitCode;

use clap::Parser;
use portero::cli;

#[derive(Parser)]
#[command(name = "portero", version, about)]
enum Command {
    Decode(cli::decode::Args),
}

fn main() -> ExitCode {
    let Command::Decode(args) = Command::parse();
    let exit = cli::decode::run(&args).unwrap_or_else(|error| {
        eprintln!("portero: {error:#}");
        cli::exit_for(&error)
    });
    ExitCode::from(exit as u8)
}
