//! What the writer keeps in memory of what is on disk.
//!
//! Must not: outlive a failed transaction. Whoever rolls back loads it anew.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::body::Head;
use super::chain::GENESIS;
use super::error::Error;
use super::index::Index;
use super::schema::{db, un};
use super::settle::SinkRow;
use super::shared::Shared;
use crate::clock::Now;
use crate::event::{BootTime, UtcMicros};

/// The boot in which this process runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Boot {
    pub(super) id: [u8; 16],
    pub(super) first_seq: u64,
    pub(super) anchor: Option<ClockAnchor>,
}

/// The moment at which a boot's clock was known to be right.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockAnchor {
    pub(super) boot: BootTime,
    pub(super) utc: i64,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) head: u64,
    /// The head when the file was opened.
    pub(super) opened_at: u64,
    pub(super) hash: [u8; 16],
    pub(super) index: Index,
    pub(super) sinks: Vec<SinkRow>,
    pub(super) boot: Boot,
    pub(super) links: HashMap<String, i64>,
}

/// The last row and its hash, wherever it stands: event, stub or checkpoint.
pub(super) fn last_row(conn: &Connection) -> Result<(u64, [u8; 16]), Error> {
    let queries = [
        "SELECT seq, hash FROM event ORDER BY seq DESC LIMIT 1",
        "SELECT seq, hash FROM checkpoint ORDER BY seq DESC LIMIT 1",
    ];
    for sql in queries {
        let row = conn.prepare_cached(sql)?.query_row([], |row| Ok((un(row.get(0)?), row.get(1)?))).optional()?;
        if let Some(row) = row {
            return Ok(row);
        }
    }
    Ok((0, GENESIS))
}

impl State {
    pub(super) fn load(conn: &Connection, boot_id: [u8; 16]) -> Result<Self, Error> {
        let (head, hash) = last_row(conn)?;
        Ok(Self {
            head,
            opened_at: head,
            hash,
            index: Index::load(conn)?,
            sinks: SinkRow::load(conn)?,
            boot: load_boot(conn, boot_id, head)?,
            links: HashMap::new(),
        })
    }
}

/// Finds the range of rows of this boot, or begins one.
fn load_boot(conn: &Connection, id: [u8; 16], head: u64) -> Result<Boot, Error> {
    let last: Option<(i64, [u8; 16])> = conn
        .query_row("SELECT first_seq, boot_id FROM boot ORDER BY first_seq DESC LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let first_seq = match last {
        Some((first_seq, boot_id)) if boot_id == id => un(first_seq),
        _ => {
            conn.execute("INSERT OR REPLACE INTO boot(first_seq, boot_id) VALUES (?1, ?2)", params![db(head + 1), id])?;
            head + 1
        }
    };
    Ok(Boot { id, first_seq, anchor: load_anchor(conn, &id)? })
}

/// The anchor of a boot, if its clock was ever right.
fn load_anchor(conn: &Connection, boot_id: &[u8; 16]) -> Result<Option<ClockAnchor>, Error> {
    let mut find = conn.prepare_cached("SELECT boot_us, utc_us FROM anchor WHERE boot_id = ?1")?;
    let anchor = find
        .query_row([boot_id], |row| Ok(ClockAnchor { boot: BootTime(un(row.get(0)?)), utc: row.get(1)? }))
        .optional()?;
    Ok(anchor)
}

/// The anchor of the boot in which a row was heard.
pub(super) fn anchor_of(conn: &Connection, seq: u64) -> Result<Option<ClockAnchor>, Error> {
    anchor_around(conn, seq).map(|(_, _, anchor)| anchor)
}

/// When a row was received by a right clock, microseconds; `None` where no right clock is known for it.
pub(super) fn received_of(conn: &Connection, seq: u64, head: &Head) -> Result<Option<i64>, Error> {
    if head.synchronised {
        return Ok(Some(head.received.0));
    }
    Ok(anchor_of(conn, seq)?.map(|anchor| corrected(anchor, head.boot.0).0))
}

/// The true receive time of a row of an anchored boot.
pub(super) fn corrected(anchor: ClockAnchor, boot_us: u64) -> UtcMicros {
    UtcMicros(anchor.utc.wrapping_sub(db(anchor.boot.0)).wrapping_add(db(boot_us)))
}

/// The same, with the rows for which it holds: from the first one to before the second one.
pub(super) fn anchor_around(conn: &Connection, seq: u64) -> Result<(u64, u64, Option<ClockAnchor>), Error> {
    let boot: Option<([u8; 16], i64)> = conn
        .prepare_cached("SELECT boot_id, first_seq FROM boot WHERE first_seq <= ?1 ORDER BY first_seq DESC LIMIT 1")?
        .query_row([db(seq)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let until: Option<i64> = conn
        .prepare_cached("SELECT min(first_seq) FROM boot WHERE first_seq > ?1")?
        .query_row([db(seq)], |row| row.get(0))?;
    let until = until.map_or(u64::MAX, un);
    match boot {
        Some((boot, from)) => Ok((un(from), until, load_anchor(conn, &boot)?)),
        None => Ok((0, until, None)),
    }
}

/// A transaction in the making: the connection, the state that follows it, and what time it is.
pub(super) struct Tx<'a> {
    pub(super) conn: &'a Connection,
    pub(super) state: &'a mut State,
    pub(super) now: Now,
    pub(super) shared: &'a Shared,
    /// Held events or corrections may have appeared.
    pub(super) nudge: bool,
    /// Settled in this transaction, of what was handed out with times that may yet change: sink and event.
    pub(super) settled_provisional: Vec<(u32, u64)>,
}
