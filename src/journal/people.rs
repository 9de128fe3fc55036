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

/// Only what differs is written: a directory of thousands changes by a few people a day.
pub(super) fn keep(tx: &Tx<'_>, people: &[DirectoryEntry]) -> Result<(), Error> {
    tx.conn.execute_batch("CREATE TEMP TABLE IF NOT EXISTS fetched(key TEXT PRIMARY KEY); DELETE FROM fetched")?;
    let mut fetched = tx.conn.prepare_cached("INSERT OR IGNORE INTO fetched(key) VALUES (?1)")?;
    let mut put = tx.conn.prepare_cached(
        "INSERT INTO person(key, external_id, name) VALUES (?1, ?2, ?3) ON CONFLICT(key) DO UPDATE
         SET external_id = excluded.external_id, name = excluded.name
         WHERE external_id <> excluded.external_id OR name IS NOT excluded.name",
    )?;
    for person in people {
        fetched.execute([&person.key])?;
        put.execute(params![person.key, person.external_id, person.name])?;
    }
    tx.conn.execute("DELETE FROM person WHERE key NOT IN (SELECT key FROM fetched)", [])?;
    tx.conn.execute_batch("DELETE FROM fetched")?;
    Ok(())
}
