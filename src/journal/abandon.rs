//! A person gives quarantined events up, or a whole sink: a recorded verdict, never an oversight (I4).
//!
//! Must not: touch an event that was not meant, or count one without a row that says who, when and why.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::Error;
use super::schema::{db, un};
use super::settle;
use super::state::Tx;
use super::types::Seq;
use crate::event::UtcMicros;

/// Longest reason and name kept, characters.
const MAX_TEXT: usize = 500;

/// What a person said, within bounds.
pub(super) fn clipped(said: &str) -> String {
    said.chars().take(MAX_TEXT).collect()
}

/// Drops quarantined events of a sink; answers how many. What isn't quarantined is left alone.
pub(super) fn drop_quarantined(tx: &mut Tx<'_>, name: &str, seqs: &[Seq], why: &str, who: &str) -> Result<u64, Error> {
    let at = settle::named(tx, name)?;
    let (why, who) = (clipped(why), clipped(who));
    let mut dropped = 0;
    for seq in seqs {
        let sink = &tx.state.sinks[at];
        let kept = tx
            .conn
            .prepare_cached(
                "INSERT INTO dropped(sink, seq, why, who, at, reason, answer)
                 SELECT sink, seq, ?3, ?4, ?5, reason, answer FROM exception
                 WHERE sink = ?1 AND seq = ?2 AND state = ?6",
            )?
            .execute(params![sink.id, db(seq.0), why, who, tx.now.wall.0, settle::QUARANTINED])?;
        if kept > 0 {
            settle::give_up(tx, at, seq.0)?;
            dropped += 1;
        }
    }
    Ok(dropped)
}

/// Writes down that a sink never got `count` of the events in `(after, last]`: why, and who says so.
pub(super) fn note(
    tx: &Tx<'_>,
    sink: u32,
    (after, last): (u64, u64),
    count: u64,
    (why, who): (&str, &str),
) -> Result<(), Error> {
    if count > 0 {
        tx.conn
            .prepare_cached(
                "INSERT INTO abandoned(sink, after_seq, last_seq, count, why, who, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![sink, db(after), db(last), db(count), why, who, tx.now.wall.0])?;
    }
    Ok(())
}

/// Gives a sink up with everything that waits for it: its position moves to the end, and it counts as removed. What is
/// quarantined stays so. Answers how many were dropped.
pub(super) fn abandon_sink(tx: &mut Tx<'_>, name: &str, why: &str, who: &str) -> Result<u64, Error> {
    let at = settle::named(tx, name)?;
    let (why, who, now, head) = (clipped(why), clipped(who), tx.now.wall.0, tx.state.head);
    let (id, position) = (tx.state.sinks[at].id, tx.state.sinks[at].position);
    let ahead: i64 = tx
        .conn
        .prepare_cached("SELECT count(*) FROM exception WHERE sink = ?1 AND seq > ?2")?
        .query_row(params![id, db(position)], |row| row.get(0))?;
    // Those that were made pending again stand alone, wherever they are.
    let held = tx
        .conn
        .prepare_cached(
            "INSERT INTO dropped(sink, seq, why, who, at, reason, answer)
             SELECT sink, seq, ?2, ?3, ?4, reason, answer FROM exception WHERE sink = ?1 AND state = ?5
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![id, why, who, now, settle::HELD])?;
    let waiting = head.saturating_sub(position).saturating_sub(un(ahead));
    note(tx, id, (position, head), waiting, (&why, &who))?;
    let dropped = waiting + held as u64;
    settle::leave(tx, at, dropped)?;
    Ok(dropped)
}

/// Why an event was given up with its sink, who said so and when.
pub(super) fn with_its_sink(
    conn: &Connection,
    sink: u32,
    seq: u64,
) -> Result<Option<(String, String, UtcMicros)>, Error> {
    let mut find = conn.prepare_cached(
        "SELECT why, who, at FROM abandoned WHERE sink = ?1 AND after_seq < ?2 AND last_seq >= ?2 ORDER BY n DESC LIMIT 1",
    )?;
    Ok(find
        .query_row(params![sink, db(seq)], |row| Ok((row.get(0)?, row.get(1)?, UtcMicros(row.get(2)?))))
        .optional()?)
}
