//! The command line: one file per subcommand, one place that decides the exit code.
