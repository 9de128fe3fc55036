//! The configuration that runs now, for everybody who must see when it is another one.
//!
//! Must not: be changed by anybody but the gateway.

use std::sync::{Arc, Mutex, PoisonError};

use super::config::Config;

/// The running configuration; cheap to clone, cheap to read, and every clone sees the change.
#[derive(Clone)]
pub struct Running(Arc<Mutex<Arc<Config>>>);

impl Running {
    /// At the start.
    pub fn new(config: Config) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(config))))
    }

    /// As it is at this moment.
    pub fn get(&self) -> Arc<Config> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another one runs.
    pub fn set(&self, config: Config) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }
}
