//! The worker directory as it was last fetched, so that a start needs no source.
//!
//! Must not: decide whether a new one is taken over; whoever fetched it does.

use rusqlite::params;

use super::error::Error;
use super::state::Tx;
use super::types::DirectoryEntry;
use super::view::View;

/// Everybody who is known.
pub(super) fn list(view: &View) -> Result<Vec<DirectoryEntry>, Error> {
    let mut people = view.conn()?.prepare_cached("SELECT key, external_id, name FROM person")?;
    let people = people
        .query_map([], |row| Ok(DirectoryEntry { key: row.get(0)?, external_id: row.get(1)?, name: row.get(2)? }))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(people)
}

/// The change is complete, and what it explains is released.
pub(super) fn whole(tx: &Tx<'_>) -> Result<(), Error> {
    tx.conn.prepare_cached("DELETE FROM meta WHERE key = 'people_changing'")?.execute([])?;
    Ok(())
}

/// Whether a change, or the release of what it explains, stopped in the middle.
pub(super) fn is_torn(view: &View) -> Result<bool, Error> {
    let mut find = view.conn()?.prepare_cached("SELECT EXISTS (SELECT 1 FROM meta WHERE key = 'people_changing')")?;
    Ok(find.query_row([], |row| row.get(0))?)
}

/// Puts some in, in place of those under the same keys, and forgets others.
///
/// Leaves a mark until [`whole`]: who was learned by a change is known to the process alone that made it.
pub(super) fn change(tx: &Tx<'_>, put: &[DirectoryEntry], gone: &[String]) -> Result<(), Error> {
    tx.conn.prepare_cached("INSERT OR REPLACE INTO meta(key, value) VALUES ('people_changing', 1)")?.execute([])?;
    let mut insert = tx.conn.prepare_cached(
        "INSERT INTO person(key, external_id, name) VALUES (?1, ?2, ?3) ON CONFLICT(key) DO UPDATE
         SET external_id = excluded.external_id, name = excluded.name",
    )?;
    for person in put {
        insert.execute(params![person.key, person.external_id, person.name])?;
    }
    let mut delete = tx.conn.prepare_cached("DELETE FROM person WHERE key = ?1")?;
    for key in gone {
        delete.execute([key])?;
    }
    Ok(())
}
