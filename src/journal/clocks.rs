//! Rows heard before the clock was right, and what follows once it is.
//!
//! Rows never change: an anchor row says which true time belongs to a moment of the boot clock, and every reader derives
//! the rest. What had already left with the old times is sent once more as a correction, which is no event.
//!
//! Must not: count a correction in the ledger (I4), or anchor a boot twice.

use rusqlite::params;
use sha2::{Digest as _, Sha256};

use super::body;
use super::edit;
use super::error::Error;
use super::reader::{self, Found};
use super::schema::{db, un};
use super::settle;
use super::state::{ClockAnchor, Tx};
use super::types::{Seq, SinkId};
use super::view::View;
use crate::clock::Now;
use crate::event::{EventId, identity};

/// Anchors this boot. Answers how many events were heard in it before its clock was right.
pub(super) fn anchor(tx: &mut Tx<'_>, now: Now) -> Result<u64, Error> {
    if !now.synchronised || tx.state.boot.anchor.is_some() {
        return Ok(0);
    }
    let conn = tx.conn;
    conn.execute(
        "INSERT INTO anchor(boot_id, boot_us, utc_us, at_seq) VALUES (?1, ?2, ?3, ?4)",
        params![tx.state.boot.id, db(now.boot.0), now.wall.0, db(tx.state.head)],
    )?;
    tx.state.boot.anchor = Some(ClockAnchor { boot: now.boot, utc: now.wall.0 });
    let sinks: Vec<(u32, u64)> =
        tx.state.sinks.iter().filter(|sink| !sink.removed).map(|sink| (sink.id, sink.position)).collect();
    let mut heard = 0;
    let mut rows = conn.prepare("SELECT seq, body FROM event WHERE seq >= ?1 ORDER BY seq")?;
    let mut rows = rows.query([db(tx.state.boot.first_seq)])?;
    let mut state = conn.prepare("SELECT state FROM exception WHERE sink = ?1 AND seq = ?2")?;
    while let Some(row) = rows.next()? {
        let head = body::peek(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?);
        if head.map_or(true, |head| head.synchronised) {
            continue;
        }
        heard += 1;
        let seq = un(row.get(0)?);
        for (sink, position) in &sinks {
            let exception: Option<i64> = match state.query_row(params![sink, db(seq)], |row| row.get(0)) {
                Ok(state) => Some(state),
                Err(rusqlite::Error::QueryReturnedNoRows) => None,
                Err(error) => return Err(error.into()),
            };
            let left = match exception {
                Some(state) => state == settle::AHEAD,
                None => seq <= *position,
            };
            if left {
                settle::add_correction(conn, *sink, seq)?;
                tx.nudge = true;
            }
        }
    }
    Ok(heard)
}

/// The id of the correction of an event: the same for every try, and no event's.
fn correction_id(of: EventId) -> EventId {
    let mut hash = Sha256::new();
    hash.update(b"correction");
    hash.update(of.0);
    let mut tail = [0; 10];
    tail.copy_from_slice(&hash.finalize()[..10]);
    let ms = of.0[..6].iter().fold(0i64, |ms, byte| ms << 8 | i64::from(*byte));
    identity::mint(ms, tail)
}

/// Corrections that a sink still has to learn, ascending.
pub(super) fn corrections(view: &mut View, sink: SinkId, most: usize) -> Result<Found, Error> {
    let mut found = reader::corrections(view, sink, most)?;
    edit::attach(view.conn()?, sink, &mut found.records)?;
    for record in &mut found.records {
        record.event.corrects = Some(record.event.id);
        record.event.id = correction_id(record.event.id);
    }
    Ok(found)
}

/// These corrections arrived.
pub(super) fn settle_corrections(tx: &mut Tx<'_>, sink: SinkId, seqs: &[Seq]) -> Result<(), Error> {
    drop_corrections(tx, sink, seqs)?;
    settle::forget_flight(tx, sink)
}

/// Takes corrections off the list.
pub(super) fn drop_corrections(tx: &Tx<'_>, sink: SinkId, seqs: &[Seq]) -> Result<(), Error> {
    let mut delete = tx.conn.prepare_cached("DELETE FROM correction WHERE sink = ?1 AND seq = ?2")?;
    for seq in seqs {
        delete.execute(params![sink.0, db(seq.0)])?;
    }
    Ok(())
}
