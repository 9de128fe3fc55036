//! How a sink was failing when it was last served: a restart neither hammers it nor waits for ever.
//!
//! Must not: cost a sync of its own on the way of an event, or believe a clock that was set further than the wait was long.

use std::time::Duration;

use rusqlite::{OptionalExtension as _, params};

use super::error::Error;
use super::schema::{db, un};
use super::settle;
use super::state::Tx;
use super::types::{Setback, SinkId};

/// Keeps it in place of the one before; the wait counts from now.
pub(super) fn keep(tx: &mut Tx<'_>, id: SinkId, setback: &Setback) -> Result<(), Error> {
    // Only of a sink that exists.
    settle::sink(tx, id)?;
    let wait = i64::try_from(setback.wait.as_micros()).unwrap_or(i64::MAX);
    tx.conn
        .prepare_cached(
            "INSERT OR REPLACE INTO setback(sink, attempts, open, live_first, wait, until_wall, until_boot, boot_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            id.0,
            setback.attempts,
            setback.open,
            setback.live_first,
            wait,
            tx.now.wall.0.saturating_add(wait),
            db(tx.now.boot.0).saturating_add(wait),
            tx.state.boot.id
        ])?;
    Ok(())
}

/// What was kept, with what is left of the wait: by the boot clock within a boot, else by the wall clock, and never more than
/// it was.
pub(super) fn load(tx: &Tx<'_>, id: SinkId) -> Result<Setback, Error> {
    let mut find = tx.conn.prepare_cached(
        "SELECT attempts, open, live_first, wait, until_wall, until_boot, boot_id FROM setback WHERE sink = ?1",
    )?;
    let found = find.query_row([id.0], |row| {
        let until: i64 = if row.get::<_, [u8; 16]>(6)? == tx.state.boot.id {
            row.get::<_, i64>(5)?.saturating_sub(db(tx.now.boot.0))
        } else {
            row.get::<_, i64>(4)?.saturating_sub(tx.now.wall.0)
        };
        let left = until.min(row.get(3)?).max(0);
        Ok(Setback {
            attempts: row.get(0)?,
            open: row.get(1)?,
            live_first: row.get(2)?,
            wait: Duration::from_micros(un(left)),
        })
    });
    Ok(found.optional()?.unwrap_or_default())
}

/// Rows for events that are settled ahead of the position.
pub(super) fn ahead(tx: &Tx<'_>, id: SinkId) -> Result<u64, Error> {
    let mut count = tx.conn.prepare_cached("SELECT count(*) FROM exception WHERE sink = ?1 AND state = 3")?;
    Ok(un(count.query_row([id.0], |row| row.get(0))?))
}
