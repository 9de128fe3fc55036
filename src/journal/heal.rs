//! Quarantined events whose cause may be mended: a new mapping, or a directory that has learned a person.
//!
//! Must not: release an event twice under one revision, or one whose delivery is in doubt.

use rusqlite::params;

use super::error::Error;
use super::schema::un;
use super::settle;
use super::state::Tx;
use super::types::SinkId;

/// Under which revision a sink is served from now on. Answers `None` if something was delivered under it before, else how
/// many events it has refused for reasons that are not among `excused`.
pub(super) fn serve(tx: &mut Tx<'_>, id: SinkId, revision: &str, excused: [&str; 2]) -> Result<Option<u64>, Error> {
    let conn = tx.conn;
    let sink = settle::sink(tx, id)?;
    if sink.revision != revision {
        // The deliveries so far were made under the one before.
        sink.write_run(conn)?;
        revision.clone_into(&mut sink.revision);
        sink.dirty = true;
    }
    if sink.proven == revision {
        return Ok(None);
    }
    let mut refused = conn.prepare_cached(
        "SELECT count(*) FROM exception
         WHERE sink = ?1 AND state = 2 AND revision = ?2 AND reason NOT IN (?3, ?4)",
    )?;
    Ok(Some(un(refused.query_row(params![id.0, revision, excused[0], excused[1]], |row| row.get(0))?)))
}

/// Something was delivered under the sink's revision.
pub(super) fn prove(tx: &mut Tx<'_>, id: SinkId) -> Result<(), Error> {
    let sink = settle::sink(tx, id)?;
    if sink.proven != sink.revision {
        sink.proven.clone_from(&sink.revision);
        sink.dirty = true;
    }
    Ok(())
}

/// Makes at most `most` events pending again that were refused under another revision than the sink's, oldest first, but
/// those whose reason begins with `except`. Answers how many. An event that is refused again has the new revision, and
/// stays.
pub(super) fn heal(tx: &mut Tx<'_>, id: SinkId, most: usize, except: &str) -> Result<u64, Error> {
    let revision = settle::sink(tx, id)?.revision.clone();
    let released = tx
        .conn
        .prepare_cached(
            "UPDATE exception SET state = 1, revision = ?2 WHERE sink = ?1 AND seq IN (
                 SELECT seq FROM exception WHERE sink = ?1 AND state = 2 AND revision <> ?2
                 AND substr(reason, 1, length(?3)) <> ?3 ORDER BY seq LIMIT ?4)",
        )?
        .execute(params![id.0, revision, except, i64::try_from(most).unwrap_or(i64::MAX)])?;
    tx.nudge |= released > 0;
    Ok(released as u64)
}
