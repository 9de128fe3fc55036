//! The refresh token that the server gave us last, on disk: synced before it is used, readable by nobody else.
//!
//! Must not: lose the token that replaced another one, or put a token into an error.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::deliver::exchange::hex;

/// Largest state file, bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// The file.
pub(super) struct StateFile(pub(super) PathBuf);

impl StateFile {
    /// The token that replaced `first`, the one that a person gave us; `first` itself if none has, or if the person gave
    /// us another one since.
    pub(super) fn current(&self, first: &SecretString) -> Result<SecretString, String> {
        let failed = |what: &str| format!("cannot read the refresh token in {}: {what}", self.0.display());
        let length = match std::fs::metadata(&self.0) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(first.clone()),
            Err(e) => return Err(failed(&e.to_string())),
            Ok(meta) => meta.len(),
        };
        if length > MAX_BYTES {
            return Err(failed("it is too long; remove it and give a new refresh token"));
        }
        let bytes = std::fs::read(&self.0).map_err(|e| failed(&e.to_string()))?;
        let state: Value = serde_json::from_slice(&bytes)
            .map_err(|_| failed("it is damaged; remove it and give a new refresh token"))?;
        let text = |key: &str| state.get(key).and_then(Value::as_str);
        match (text("replaces"), text("refresh_token")) {
            (Some(replaces), Some(token)) if replaces == digest(first) => Ok(SecretString::from(token)),
            (Some(_), Some(_)) => Ok(first.clone()),
            _ => Err(failed("it is damaged; remove it and give a new refresh token")),
        }
    }

    /// Keeps `token`: on disk, with its directory, before this returns.
    pub(super) fn keep(&self, first: &SecretString, token: &SecretString) -> Result<(), String> {
        let failed = |e: std::io::Error| format!("cannot keep the new refresh token in {}: {e}", self.0.display());
        let text = json!({ "replaces": digest(first), "refresh_token": token.expose_secret() }).to_string();
        let mut beside = self.0.clone().into_os_string();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        // A left-over of an interrupted write may have another mode.
        let _ = std::fs::remove_file(&beside);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&beside, &self.0).map_err(failed)?;
        let directory = self.0.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
    }
}

/// By which it is known again without being written down: 16 bytes of SHA-256, hex.
fn digest(token: &SecretString) -> String {
    hex(&Sha256::digest(token.expose_secret().as_bytes())[..16])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_token_that_replaced_the_first_is_found_again_until_a_person_gives_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = StateFile(folder.path().join("vendor.token"));
        let first = SecretString::from("first");
        assert_eq!(file.current(&first).expect("none yet").expose_secret(), "first");
        file.keep(&first, &SecretString::from("second")).expect("kept");
        file.keep(&first, &SecretString::from("third")).expect("kept");
        assert_eq!(file.current(&first).expect("there").expose_secret(), "third");
        assert_eq!(file.current(&SecretString::from("given anew")).expect("there").expose_secret(), "given anew");
        let mode = std::fs::metadata(&file.0).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&file.0, "{").expect("written");
        let error = file.current(&first).expect_err("damaged");
        assert!(error.contains("damaged") && !error.contains("third"));
    }
}
