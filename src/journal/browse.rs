//! What a person asks for.
//!
//! Must not: hold a snapshot through the whole journal; it reads page by page, newest first.

use rusqlite::params;

use super::error::Error;
use super::schema::db;
use super::types::{Query, Record};
use super::view::{self, View};

/// Rows read under one snapshot.
const PAGE: i64 = 512;

/// The newest records that fit, oldest first; with `forward` the oldest ones.
pub(super) fn query(view: &mut View, query: &Query) -> Result<Vec<Record>, Error> {
    let mut found = Vec::new();
    let (mut after, mut below) = (query.after.map_or(0, |seq| db(seq.0)), i64::MAX);
    while found.len() < query.limit {
        let (records, last) = view.snapshot(|view| page(view, query.forward, after, below))?;
        let Some(last) = last else { break };
        if query.forward {
            after = last;
        } else {
            below = last;
        }
        found.extend(records.into_iter().filter(|record| matches(record, query)));
    }
    found.truncate(query.limit);
    if !query.forward {
        found.reverse();
    }
    Ok(found)
}

/// The rows between `after` and `below` that come first in this direction, and the last of them.
fn page(view: &mut View, forward: bool, after: i64, below: i64) -> Result<(Vec<Record>, Option<i64>), Error> {
    let sql = if forward {
        "SELECT seq, id, body FROM event WHERE seq > ?1 AND seq < ?2 ORDER BY seq LIMIT ?3"
    } else {
        "SELECT seq, id, body FROM event WHERE seq > ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3"
    };
    let rows: Vec<view::Row> = view
        .conn()?
        .prepare_cached(sql)?
        .query_map(params![after, below, PAGE], view::row)?
        .collect::<rusqlite::Result<_>>()?;
    let mut records = Vec::with_capacity(rows.len());
    for row in &rows {
        match view.record(row) {
            Ok(record) => records.push(record),
            // A damaged row is nobody's answer; `verify` names it.
            Err(Error::Corrupt(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((records, rows.last().map(|row| db(row.seq))))
}

fn matches(record: &Record, query: &Query) -> bool {
    let event = &record.event;
    query.terminal.as_deref().is_none_or(|terminal| event.is_from(terminal))
        && query.person.as_deref().is_none_or(|person| event.is_about(person))
        && query.since.is_none_or(|since| event.times.event >= since)
}
