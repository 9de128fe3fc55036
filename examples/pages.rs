//! Writes the man pages and shell completions that the Debian package holds: `cargo run --example pages -- DIRECTORY`.
//!
//! Must not: say anything of a command that its `--help` doesn't say.

use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;

/// Completions, under the names that the shells look for.
const SHELLS: &[(Shell, &str)] =
    &[(Shell::Bash, "portero.bash"), (Shell::Zsh, "_portero"), (Shell::Fish, "portero.fish")];

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(std::io::Error::other("say in which directory the pages go"));
    };
    std::fs::create_dir_all(&directory)?;
    let mut command = portero::cli::command().disable_help_subcommand(true);
    for (shell, name) in SHELLS {
        let mut text = Vec::new();
        clap_complete::generate(*shell, &mut visible(&command), "portero", &mut text);
        std::fs::write(directory.join(name), text)?;
    }
    command.build();
    page(&directory, &command, "portero", &[])
}

/// The same without what is not for people.
fn visible(command: &Command) -> Command {
    let hidden: Vec<_> = command.get_subcommands().filter(|c| c.is_hide_set()).map(Command::get_name).collect();
    let mut copy = Command::new("portero").disable_help_subcommand(true).args(command.get_arguments());
    for subcommand in command.get_subcommands().filter(|c| !hidden.contains(&c.get_name())) {
        copy = copy.subcommand(subcommand.clone());
    }
    copy
}

/// One page for a command and one for each below it: `portero-central-init.1`.
fn page(directory: &Path, command: &Command, name: &str, above: &[&str]) -> std::io::Result<()> {
    // The template of `--help` is for a terminal; the page has sections of its own.
    let words = [above, &[command.get_name()]].concat().join(" ");
    let shown = command.clone().bin_name(words).display_name(name.to_owned());
    let mut text = Vec::new();
    clap_mangen::Man::new(shown).title(name.to_uppercase()).render(&mut text)?;
    std::fs::write(directory.join(format!("{name}.1")), text)?;
    for below in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        let path = [above, &[command.get_name()]].concat();
        page(directory, below, &format!("{name}-{}", below.get_name()), &path)?;
    }
    Ok(())
}
