//! What may go: bodies of events that every sink has settled and that are old enough, then their stubs.
//!
//! Must not: leave a gap (only a prefix goes), lose the end of the chain (the checkpoint row is written first, in the
//! same transaction), forget an id before `dedup_days` are over, or run by a clock that isn't right.

use rusqlite::{Connection, params};
use sha2::{Digest as _, Sha256};

use super::body;
use super::edit;
use super::error::Error;
use super::runs;
use super::schema::{db, un};
use super::settle;
use super::state::{Tx, received_of};
use super::types::Config;
use crate::clock::Now;
use crate::event::EventId;

/// Rows in one transaction: other commits wait for it.
const STEP: u64 = 1000;

/// Rows looked at in one step for one whose time can be trusted.
const LOOK: u64 = 50_000;

const DAY: i64 = 86_400_000_000;

/// One step of pruning.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Events whose bodies were erased.
    pub(super) erased: u64,
    /// Stubs that were forgotten.
    pub(super) forgotten: u64,
}

/// Prunes a little. Nothing is left to do when it answers zeros.
pub(super) fn step(tx: &mut Tx<'_>, config: &Config, now: Now) -> Result<Step, Error> {
    if !now.synchronised {
        return Ok(Step::default());
    }
    let retention = i64::from(config.retention_days) * DAY;
    let erased = erase(tx, now, now.wall.0.saturating_sub(retention))?;
    let stub_day = (now.wall.0.saturating_sub(retention) - i64::from(config.dedup_days) * DAY).div_euclid(DAY);
    let forgotten = if erased > 0 { 0 } else { forget(tx, now, stub_day)? };
    if erased + forgotten > 0 {
        give_back(tx.conn)?;
    }
    Ok(Step { erased, forgotten })
}

/// The last row that nobody needs any more.
fn settled_to(tx: &Tx<'_>) -> Result<u64, Error> {
    let mut floor = tx.state.head;
    for sink in tx.state.sinks.iter().filter(|sink| !sink.removed) {
        floor = floor.min(sink.position);
        for sql in [
            "SELECT min(seq) FROM exception WHERE sink = ?1 AND state IN (1, 2)",
            "SELECT min(seq) FROM correction WHERE sink = ?1",
        ] {
            let first: Option<i64> = tx.conn.prepare_cached(sql)?.query_row([sink.id], |row| row.get(0))?;
            floor = first.map_or(floor, |first| floor.min(un(first) - 1));
        }
    }
    Ok(floor)
}

/// The last row to go, and the day on which it was heard. A row whose time can't be trusted goes with a later one that
/// is old enough: it was heard before it.
fn last_old_row(tx: &Tx<'_>, from: u64, to: u64, before: i64) -> Result<Option<(u64, i64)>, Error> {
    let mut rows = tx.conn.prepare_cached("SELECT seq, body FROM event WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq")?;
    let mut rows = rows.query([db(from), db(to)])?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        let seq = un(row.get(0)?);
        let looked = seq - from;
        if looked >= LOOK || (looked >= STEP && last.is_some()) {
            break;
        }
        // A damaged head has no time: like any untrusted one.
        let Ok(head) = body::peek(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?) else { continue };
        let Some(received) = received_of(tx.conn, seq, &head)? else { continue };
        if received >= before {
            break;
        }
        last = Some((seq, received.div_euclid(DAY)));
    }
    Ok(last.map(|(seq, day)| (seq.min(from + STEP - 1), day)))
}

/// Sequence number, id, row hash and digest of the body.
type StubRow = (i64, [u8; 16], [u8; 16], [u8; 32]);

fn erase(tx: &mut Tx<'_>, now: Now, before: i64) -> Result<u64, Error> {
    let from = settle::erased_to(tx.conn)? + 1;
    let Some((last, day)) = last_old_row(tx, from, settled_to(tx)?, before)? else { return Ok(0) };
    if last > tx.state.index.indexed_to() {
        tx.state.index.fill(tx.conn, tx.state.head)?;
    }
    checkpoint(tx, "body", last, "event", now)?;
    let rows: Vec<StubRow> = {
        let mut rows = tx.conn.prepare_cached("SELECT seq, id, hash, body FROM event WHERE seq <= ?1 ORDER BY seq")?;
        rows.query_map([db(last)], |row| {
            let digest: [u8; 32] = Sha256::digest(row.get_ref(3)?.as_blob()?).into();
            Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 16]>(1)?, row.get::<_, [u8; 16]>(2)?, digest))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?
    };
    // Deleted first: in a full file the stubs go where the bodies were.
    let erased = tx.conn.prepare_cached("DELETE FROM event WHERE seq <= ?1")?.execute([db(last)])?;
    let mut stub =
        tx.conn.prepare_cached("INSERT INTO stub(seq, id, digest, hash, day) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for (seq, id, hash, digest) in &rows {
        stub.execute(params![seq, id, digest, hash, day])?;
    }
    runs::prune(tx.conn, last)?;
    edit::forget(tx.conn, last)?;
    // Boots none of whose rows are left, and their anchors.
    tx.conn
        .prepare_cached("DELETE FROM boot WHERE first_seq < (SELECT max(first_seq) FROM boot WHERE first_seq <= ?1)")?
        .execute([db(last + 1)])?;
    tx.conn.prepare_cached("DELETE FROM anchor WHERE boot_id NOT IN (SELECT boot_id FROM boot)")?.execute([])?;
    Ok(erased as u64)
}

/// The chain goes on from here.
fn checkpoint(tx: &Tx<'_>, kind: &str, seq: u64, table: &str, now: Now) -> Result<(), Error> {
    tx.conn
        .prepare_cached(&format!(
            "INSERT OR REPLACE INTO checkpoint(kind, seq, hash, at) SELECT ?1, seq, hash, ?3 FROM {table} WHERE seq = ?2"
        ))?
        .execute(params![kind, db(seq), now.wall.0])?;
    Ok(())
}

fn forget(tx: &mut Tx<'_>, now: Now, before_day: i64) -> Result<u64, Error> {
    let mut last = None;
    {
        let mut rows = tx.conn.prepare_cached("SELECT seq, id, day FROM stub ORDER BY seq LIMIT ?1")?;
        let mut rows = rows.query([db(STEP)])?;
        while let Some(row) = rows.next()? {
            if row.get::<_, i64>(2)? >= before_day {
                break;
            }
            let seq = un(row.get(0)?);
            tx.state.index.forget(tx.conn, EventId(row.get(1)?), seq)?;
            last = Some(seq);
        }
    }
    let Some(last) = last else { return Ok(0) };
    checkpoint(tx, "stub", last, "stub", now)?;
    Ok(tx.conn.prepare_cached("DELETE FROM stub WHERE seq <= ?1")?.execute([db(last)])? as u64)
}

/// Returns pages to the file system, if a good part of the file is free: new events fill free pages anyway, and every
/// page moved is a page written.
fn give_back(conn: &Connection) -> Result<(), Error> {
    let count = |pragma: &str| conn.query_row(pragma, [], |row| row.get::<_, i64>(0));
    let (free, all) = (count("PRAGMA freelist_count")?, count("PRAGMA page_count")?);
    if free > 1024 && free > all / 4 {
        let mut vacuum = conn.prepare("PRAGMA incremental_vacuum(512)")?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
    }
    Ok(())
}
