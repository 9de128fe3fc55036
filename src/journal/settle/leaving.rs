//! Sinks that go, and come back.
//!
//! Must not: drop an event without a row that says who and why (I4).

use rusqlite::params;

use super::{QUARANTINED, erased_to};
use crate::journal::abandon;
use crate::journal::error::Error;
use crate::journal::schema::{db, un};
use crate::journal::state::Tx;

/// One that was removed is configured again: it goes on where it stood.
pub(super) fn revive(tx: &mut Tx<'_>, at: usize) -> Result<(), Error> {
    let erased = erased_to(tx.conn)?;
    let sink = &mut tx.state.sinks[at];
    tx.conn.execute("UPDATE sink SET removed_at = NULL WHERE id = ?1", [sink.id])?;
    sink.removed = false;
    // Of the erased: held and quarantined ones are dropped, ones settled ahead are counted already, and of the rest
    // those above the position were never settled.
    let count = |sql: &str| -> Result<u64, Error> {
        Ok(un(tx.conn.query_row(sql, params![sink.id, db(erased), db(sink.position)], |row| row.get::<_, i64>(0))?))
    };
    let unsettled = count("SELECT count(*) FROM exception WHERE sink = ?1 AND seq <= ?2 AND state <> 3 AND ?3 = ?3")?;
    let above = count("SELECT count(*) FROM exception WHERE sink = ?1 AND seq <= ?2 AND seq > ?3")?;
    let deleted =
        tx.conn.execute("DELETE FROM exception WHERE sink = ?1 AND seq <= ?2", params![sink.id, db(erased)])?;
    sink.exceptions -= deleted as u64;
    let dropped = unsettled + erased.saturating_sub(sink.position).saturating_sub(above);
    sink.dropped += dropped;
    sink.position = sink.position.max(erased);
    sink.dirty = true;
    let id = sink.id;
    // Who took the sink out of the configuration gave them up (I4).
    let words = ("pruned while the sink was not configured", "the configuration");
    abandon::note(tx, id, (0, erased), dropped, words)
}

/// Marks every other sink as removed by a person.
pub(in crate::journal) fn retain(tx: &mut Tx<'_>, names: &[String]) -> Result<(), Error> {
    for sink in tx.state.sinks.iter_mut().filter(|s| !s.removed && !names.contains(&s.name)) {
        tx.conn.execute("UPDATE sink SET removed_at = ?2 WHERE id = ?1", params![sink.id, tx.now.wall.0])?;
        sink.removed = true;
        let count = tx.state.head.saturating_sub(sink.position);
        tracing::info!(
            sink = sink.name,
            count,
            "sink is no longer configured: what waits for it no longer holds back retention"
        );
    }
    Ok(())
}

/// Everything that a sink has not got is settled as dropped, `dropped` in all, and the sink counts as removed.
pub(in crate::journal) fn leave(tx: &mut Tx<'_>, at: usize, dropped: u64) -> Result<(), Error> {
    let head = tx.state.head;
    let sink = &mut tx.state.sinks[at];
    let gone = tx
        .conn
        .prepare_cached("DELETE FROM exception WHERE sink = ?1 AND state <> ?2")?
        .execute(params![sink.id, QUARANTINED])?;
    tx.conn.prepare_cached("DELETE FROM flight WHERE sink = ?1")?.execute([sink.id])?;
    tx.conn.prepare_cached("DELETE FROM correction WHERE sink = ?1")?.execute([sink.id])?;
    tx.conn.execute("UPDATE sink SET removed_at = ?2 WHERE id = ?1", params![sink.id, tx.now.wall.0])?;
    (sink.position, sink.flight, sink.removed, sink.dirty) = (head, None, true, true);
    sink.exceptions -= gone as u64;
    sink.dropped += dropped;
    Ok(())
}
