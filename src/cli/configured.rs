//! `--config FILE`, and loading it.
//!
//! Must not: look for a file anywhere else than where it says.

use std::path::PathBuf;

use crate::clock::{Clock, SyncSource};
use crate::manage::config::{Config, Loaded, Options, Problems, Secrets};
use crate::manage::remote::start::{Start, begin, effective};

/// Which configuration file.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigFile {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "PORTERO_CONFIG", default_value = "/etc/portero/portero.toml")]
    pub config: PathBuf,
}

impl ConfigFile {
    /// Reads and checks it, with the bundle in force over it. The error prints as all of its problems and ends the process with [`super::Exit::Config`].
    pub fn load(&self, secrets: Secrets) -> Result<Loaded, Problems> {
        effective(&self.config, &Options::from_process(secrets))
    }

    /// The same for a gateway that starts: where the file can't be used, what worked before is.
    pub fn begin(&self, secrets: Secrets) -> Result<Start, Problems> {
        let now = Clock::new(SyncSource::Trusted).now().wall;
        begin(&self.config, &Options::from_process(secrets), now)
    }

    /// The same for commands that need no secret; warnings are for `check`.
    pub fn read(&self) -> Result<Config, Problems> {
        self.load(Secrets::Ignore).map(|loaded| loaded.config)
    }
}
