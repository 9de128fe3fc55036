//! A quick look at a journal from outside, for `portero doctor`: is the engine sound, is the file?
//!
//! Must not: write, or take longer than it was allowed.

use super::error::Error;
use super::schema::{self, MIN_SQLITE};
use super::{Journal, damage};
use crate::clock::Clock;

/// The SQLite that is built in: its version, and the least that this journal accepts.
pub fn engine() -> (String, String, bool) {
    let version = rusqlite::version_number();
    let least = format!("{}.{}.{}", MIN_SQLITE / 1_000_000, MIN_SQLITE / 1000 % 1000, MIN_SQLITE % 1000);
    (rusqlite::version().to_owned(), least, version >= MIN_SQLITE)
}

impl Journal {
    /// Checks the structure of the file, as far as that can be done within so many microseconds; what it doesn't reach,
    /// [`Journal::verify`] does. A connection of its own: no other question waits.
    pub async fn glance(&self, clock: Clock, within: u64) -> Result<(), Error> {
        self.browse(move |view| {
            let mut conn = schema::open_reader(view.path())?;
            damage::quick_check_within(&mut conn, &clock, within)
        })
        .await
    }
}
