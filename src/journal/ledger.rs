//! The conservation ledger (I4), counted from the tables on one snapshot.
//!
//! Must not: compute pending as a difference of the other columns; then it would always balance.

use rusqlite::{OptionalExtension as _, params};

use super::error::Error;
use super::lock::beside;
use super::schema::{db, un};
use super::settle::{HELD, QUARANTINED, erased_to};
use super::types::{Quarantined, Record, Seq, SinkStats, Stats};
use super::view::{self, View};
use crate::event::UtcMicros;

/// Counts everything.
pub(super) fn stats(view: &mut View) -> Result<Stats, Error> {
    let size = |suffix| std::fs::metadata(beside(view.path(), suffix)).map_or(0, |meta| meta.len());
    let bytes = size("") + size("-wal");
    view.snapshot(|view| {
        let conn = view.conn()?;
        let head = view.head()?.0;
        // Notes are numbered without reuse and the newest is always kept.
        let noted = |table: &str| -> Result<u64, Error> {
            let last: Option<i64> = conn
                .query_row(&format!("SELECT n FROM {table} ORDER BY n DESC LIMIT 1"), [], |row| row.get(0))
                .optional()?;
            Ok(last.map_or(0, un))
        };
        let mut stats = Stats {
            appended: head,
            pruned: erased_to(conn)?,
            faults: noted("fault")?,
            blind: noted("blind")?,
            conflicts: noted("conflict")?,
            bytes,
            sinks: Vec::new(),
        };
        let mut ids: Vec<u32> = Vec::new();
        let mut sinks = conn.prepare_cached(
            "SELECT id, name, started_after, position, delivered, filtered, dropped,
                    (SELECT count(*) FROM correction WHERE sink = sink.id)
             FROM sink WHERE removed_at IS NULL ORDER BY id",
        )?;
        let mut rows = sinks.query([])?;
        while let Some(row) = rows.next()? {
            let (id, position): (u32, u64) = (row.get(0)?, un(row.get(3)?));
            let count = |sql: &str, a: i64| -> Result<u64, Error> {
                Ok(un(conn.prepare_cached(sql)?.query_row(params![id, a], |row| row.get::<_, i64>(0))?))
            };
            let in_state = "SELECT count(*) FROM exception WHERE sink = ?1 AND state = ?2";
            let above = count("SELECT count(*) FROM exception WHERE sink = ?1 AND seq > ?2", db(position))?;
            stats.sinks.push(SinkStats {
                name: row.get(1)?,
                appended: head - un(row.get(2)?).min(head),
                delivered: un(row.get(4)?),
                pending: head.saturating_sub(position).saturating_sub(above) + count(in_state, HELD)?,
                quarantined: count(in_state, QUARANTINED)?,
                dropped: un(row.get(6)?),
                filtered: un(row.get(5)?),
                corrections_pending: un(row.get(7)?),
                oldest_pending: None,
            });
            ids.push(id);
        }
        drop(rows);
        drop(sinks);
        for (sink, id) in stats.sinks.iter_mut().zip(ids).filter(|(sink, _)| sink.pending > 0) {
            sink.oldest_pending = oldest_pending(view, id)?;
        }
        Ok(stats)
    })
}

/// When the oldest event that waits for a sink was heard; `None` also where its row is damaged.
fn oldest_pending(view: &mut View, sink: u32) -> Result<Option<UtcMicros>, Error> {
    let row = view
        .conn()?
        .prepare_cached(
            "SELECT seq, id, body FROM event WHERE seq = (SELECT min(n) FROM (
                 SELECT (SELECT e.seq FROM event e WHERE e.seq > (SELECT position FROM sink WHERE id = ?1)
                         AND NOT EXISTS (SELECT 1 FROM exception x WHERE x.sink = ?1 AND x.seq = e.seq)
                         ORDER BY e.seq LIMIT 1) AS n
                 UNION ALL SELECT min(seq) FROM exception WHERE sink = ?1 AND state = ?2))",
        )?
        .query_row(params![sink, HELD], view::row)
        .optional()?;
    Ok(row.and_then(|row| view.record(&row).ok()).map(|record| record.event.times.received))
}

/// Quarantined events of a sink whose reason begins so, if `wanted`, ascending: looked at one by one, whatever their number.
pub(super) fn quarantined_where(
    view: &mut View,
    sink: &str,
    reason: &str,
    wanted: impl Fn(&str, &Record) -> bool,
) -> Result<Vec<Seq>, Error> {
    view.snapshot(|view| {
        let mut found = Vec::new();
        let mut after = 0i64;
        loop {
            let next = view
                .conn()?
                .prepare_cached(
                    "SELECT e.seq, e.id, e.body, x.reason FROM exception x JOIN event e ON e.seq = x.seq
                     WHERE x.sink = (SELECT id FROM sink WHERE name = ?1) AND x.seq > ?2 AND x.state = 2
                     AND substr(x.reason, 1, length(?3)) = ?3 ORDER BY x.seq LIMIT 1",
                )?
                .query_row(params![sink, after, reason], |row| Ok((view::row(row)?, row.get::<_, String>(3)?)))
                .optional()?;
            let Some((row, reason)) = next else { return Ok(found) };
            after = db(row.seq);
            if view.record(&row).is_ok_and(|record| wanted(&reason, &record)) {
                found.push(Seq(row.seq));
            }
        }
    })
}

/// Quarantined events, oldest first.
pub(super) fn quarantined(view: &mut View, sink: Option<&str>, limit: usize) -> Result<Vec<Quarantined>, Error> {
    view.snapshot(|view| {
        let mut found = Vec::new();
        {
            let mut rows = view.conn()?.prepare_cached(
                "SELECT e.seq, e.id, e.body, s.name, x.reason, x.answer, x.attempts, x.at
                 FROM exception x JOIN event e ON e.seq = x.seq JOIN sink s ON s.id = x.sink
                 WHERE x.state = 2 AND (?1 IS NULL OR s.name = ?1) ORDER BY x.seq, s.id LIMIT ?2",
            )?;
            let mut rows = rows.query(params![sink, i64::try_from(limit).unwrap_or(i64::MAX)])?;
            while let Some(row) = rows.next()? {
                let rest: (String, String, String, u32, i64) =
                    (row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?);
                found.push((view::row(row)?, rest));
            }
        }
        let mut quarantined = Vec::with_capacity(found.len());
        for (row, (sink, reason, answer, attempts, at)) in found {
            // A damaged row has nothing to show; `verify` names it.
            let Ok(record) = view.record(&row) else { continue };
            quarantined.push(Quarantined { sink, record, reason, answer, attempts, at: UtcMicros(at) });
        }
        Ok(quarantined)
    })
}
