//! Arguments to subcommand to exit code, nothing else.

fn main() {}
