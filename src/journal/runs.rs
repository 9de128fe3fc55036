//! When events were delivered, and under which revision of the sink's mapping: one row for a run of them.
//!
//! A run is written when it ends, when it has gone on for [`SPAN`], and when the journal closes: an event alone costs no page
//! of its own. What a crash takes is the time of the last minute's deliveries, never the deliveries.
//!
//! Must not: decide what is delivered; `settle` does.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::Error;
use super::schema::{db, un};
use super::types::Delivery;
use crate::event::UtcMicros;

/// A run that goes on is written after this long, microseconds.
const SPAN: i64 = 60_000_000;

/// Events that were delivered one after the other, in the order of their numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    from: u64,
    to: u64,
    first_at: i64,
    last_at: i64,
}

/// Notes a delivery.
pub(super) fn note(
    conn: &Connection,
    (sink, revision): (u32, &str),
    run: &mut Option<Run>,
    seq: u64,
    at: i64,
) -> Result<(), Error> {
    match run {
        Some(run) if seq == run.to + 1 && (0..SPAN).contains(&at.saturating_sub(run.first_at)) => {
            (run.to, run.last_at) = (seq, at);
        }
        _ => {
            write(conn, (sink, revision), run)?;
            *run = Some(Run { from: seq, to: seq, first_at: at, last_at: at });
        }
    }
    Ok(())
}

/// Writes a run that is old enough.
pub(super) fn write_old(conn: &Connection, sink: (u32, &str), run: &mut Option<Run>, now: i64) -> Result<(), Error> {
    match run {
        Some(old) if !(0..SPAN).contains(&now.saturating_sub(old.first_at)) => write(conn, sink, run),
        _ => Ok(()),
    }
}

/// Writes the run, if there is one.
pub(super) fn write(conn: &Connection, (sink, revision): (u32, &str), run: &mut Option<Run>) -> Result<(), Error> {
    if let Some(run) = run.take() {
        conn.prepare_cached(
            "INSERT OR REPLACE INTO delivery(sink, last_seq, first_seq, first_at, last_at, revision)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![sink, db(run.to), db(run.from), run.first_at, run.last_at, revision])?;
    }
    Ok(())
}

/// Keeps what a sink calls an event.
pub(super) fn keep_remote_id(conn: &Connection, sink: u32, seq: u64, id: &str) -> Result<(), Error> {
    conn.prepare_cached("INSERT OR REPLACE INTO remote(sink, seq, id) VALUES (?1, ?2, ?3)")?.execute(params![
        sink,
        db(seq),
        id
    ])?;
    Ok(())
}

/// What is known of the delivery of an event.
pub(super) fn of(conn: &Connection, sink: u32, seq: u64) -> Result<Option<Delivery>, Error> {
    let mut find = conn.prepare_cached(
        "SELECT d.first_at, d.last_at, d.revision, d.first_seq,
                (SELECT id FROM remote WHERE sink = ?1 AND seq = ?2)
         FROM delivery d WHERE d.sink = ?1 AND d.last_seq >= ?2 ORDER BY d.last_seq LIMIT 1",
    )?;
    let found = find
        .query_row(params![sink, db(seq)], |row| {
            let first_seq = un(row.get(3)?);
            let delivery = Delivery {
                from: UtcMicros(row.get(0)?),
                until: UtcMicros(row.get(1)?),
                revision: row.get(2)?,
                remote_id: row.get(4)?,
            };
            Ok((first_seq <= seq).then_some(delivery))
        })
        .optional()?;
    Ok(found.flatten())
}

/// Forgets what is about erased events.
pub(super) fn prune(conn: &Connection, erased_to: u64) -> Result<(), Error> {
    // By sink, so that the keys are searched and the tables not scanned while confirmations wait.
    for sql in [
        "DELETE FROM delivery WHERE sink IN (SELECT id FROM sink) AND last_seq <= ?1",
        "DELETE FROM remote WHERE sink IN (SELECT id FROM sink) AND seq <= ?1",
        // Who gave an event up, when and why, stays (I4); the sink's words go with the event.
        "UPDATE dropped SET reason = '', answer = ''
         WHERE sink IN (SELECT id FROM sink) AND seq <= ?1 AND (reason <> '' OR answer <> '')",
    ] {
        conn.prepare_cached(sql)?.execute([db(erased_to)])?;
    }
    Ok(())
}
