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

/// Below this much room for appends a journal counts as full: groups that are larger are refused already, smaller ones
/// still fit, and whoever asks shall not hear another answer each time. An eighth of a small journal, bytes.
const MARGIN: u64 = 8 << 20;

impl Journal {
    /// Whether there is room for appends below their bound, as the file is on disk.
    pub(super) async fn has_room(&self) -> Result<(), Error> {
        let max_bytes = self.max_bytes();
        self.browse(move |view| {
            let conn = view.conn()?;
            let ask = |what: &str| conn.query_row(&format!("PRAGMA {what}"), [], |row| row.get::<_, u32>(0));
            let (page_size, pages, free) = (ask("page_size")?, ask("page_count")?, ask("freelist_count")?);
            let page_size = u64::from(page_size);
            let bound = schema::pages(max_bytes, page_size, true);
            let left = (bound + u64::from(free)).saturating_sub(pages.into());
            if left < (MARGIN / page_size).min(bound / 8) {
                return Err(Error::Full(
                    "no room for new events; raise max_bytes, or mend the sink that waits".to_owned(),
                ));
            }
            Ok(())
        })
        .await
    }

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
