//! Why a bundle, or the store of bundles, can't be used.
//!
//! Must not: repeat anything that an unsigned text says without bounds.

use std::path::PathBuf;

/// Each with its remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The public key of a trust slot can't be read.
    #[error("not a minisign public key; take the second line of the .pub file, 56 characters that begin with RW")]
    Key,
    /// The payload is too large.
    #[error("the bundle has more than {most} bytes; a configuration is smaller: make sure that the address serves one", most = super::bundle::MAX_BYTES)]
    TooLarge,
    /// Not text.
    #[error("the bundle is not UTF-8 text; make sure that the address serves the signed file itself")]
    NotText,
    /// The signature is no minisign signature.
    #[error("no minisign signature beside the bundle; sign it with `portero config sign`, or with `minisign -S`")]
    SignatureForm,
    /// Not prehashed.
    #[error("the signature is of minisign's legacy kind; sign without -l, with minisign 0.10 or later")]
    Legacy,
    /// Signed by a stranger.
    #[error(
        "the bundle is signed by key {id}, which is neither the active nor the recovery key; sign it with one of them"
    )]
    Stranger {
        /// The key id, as minisign prints it.
        id: String,
    },
    /// Signed by a known key, and changed since.
    #[error(
        "the signature does not fit the bundle: one of them was changed or cut; upload both again, as they were signed"
    )]
    Tampered,
    /// For something else than us.
    #[error("purpose is \"{0}\"; a bundle for this program says purpose = \"portero-config\"")]
    Purpose(String),
    /// For another gateway.
    #[error("the bundle is for {theirs}, this is gateway \"{ours}\"; sign one for it")]
    Elsewhere {
        /// The addressee.
        theirs: String,
        /// Who we are.
        ours: String,
    },
    /// For a group that this gateway is not in.
    #[error(
        "the bundle is for group \"{theirs}\", and {ours}; sign one for it, or set [gateway] group on this machine"
    )]
    OtherGroup {
        /// The addressee.
        theirs: String,
        /// Which we are in.
        ours: String,
    },
    /// An old revision.
    #[error("revision {revision} is not above {consumed}, which was consumed already; sign it again with a higher one")]
    Replayed {
        /// The bundle's.
        revision: u64,
        /// The highest that was consumed.
        consumed: u64,
    },
    /// Not yet.
    #[error("the bundle is good only from {from}; it is tried again until then, or check the clock of this machine")]
    NotYet {
        /// Its `not_before`.
        from: String,
    },
    /// No longer.
    #[error("the bundle was good until {until}; sign it again with a later expires")]
    Expired {
        /// Its `expires`.
        until: String,
    },
    /// A key that the signer may not change.
    #[error("only a bundle that is signed by the recovery key may change recovery_key; sign it with that")]
    RecoveryKey,
    /// Both slots would be one.
    #[error("active and recovery key would be the same; a lost key would then be the end: name two")]
    OneKey,
    /// What it says can't be used; the problems, in the words of `portero check`.
    #[error("the configuration in the bundle is refused: {}", .0.join("; "))]
    Refused(Vec<String>),
    /// It would take sinks away that still owe events.
    #[error(
        "sink {names} would go, with {pending} events pending; deliver them first, or say abandon = [\"NAME\"] in [bundle] and \
         they are recorded as dropped"
    )]
    Owing {
        /// Their names.
        names: String,
        /// How many events in all.
        pending: u64,
    },
    /// Nothing to go back to.
    #[error("there is nothing to go back to: no bundle is in force, and none was before")]
    NothingBefore,
    /// A file of the store failed.
    #[error("{path}: {reason}; make sure that the disk is sound, not full, and that the directory belongs to portero")]
    Disk {
        /// The file.
        path: PathBuf,
        /// The system's word.
        reason: String,
    },
    /// A file of the store is not what we wrote.
    #[error("{path} can't be used: {reason}; it is set aside, and what can be known without it is")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The address can't be asked, or answers something else.
    #[error("{0}")]
    Fetch(String),
}

/// At most so many characters of what somebody else wrote.
const MOST: usize = 80;

/// Text of others, short enough and printable enough for a message.
pub(super) fn shown(text: &str) -> String {
    let short: String = text.chars().take(MOST).collect();
    short.escape_debug().to_string()
}
