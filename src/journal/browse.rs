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
    if query.forward {
        return forward(view, query);
    }
    let mut found = Vec::new();
    let mut below = i64::MAX;
    let after = query.after.map_or(0, |seq| db(seq.0));
    while found.len() < query.limit {
        let rows: Vec<view::Row> = {
            let mut page = view.conn()?.prepare_cached(
                "SELECT seq, id, body FROM event WHERE seq < ?1 AND seq > ?2 ORDER BY seq DESC LIMIT ?3",
            )?;
            page.query_map(params![below, after, PAGE], view::row)?.collect::<rusqlite::Result<_>>()?
        };
        let Some(last) = rows.last() else { break };
        below = db(last.seq);
        for row in &rows {
            match view.record(row) {
                Ok(record) if matches(&record, query) => found.push(record),
                // A damaged row is nobody's answer; `verify` names it.
                Ok(_) | Err(Error::Corrupt(_)) => {}
                Err(error) => return Err(error),
            }
            if found.len() >= query.limit {
                break;
            }
        }
    }
    found.reverse();
    Ok(found)
}

fn forward(view: &mut View, query: &Query) -> Result<Vec<Record>, Error> {
    let mut found = Vec::new();
    let mut after = query.after.map_or(0, |seq| db(seq.0));
    while found.len() < query.limit {
        let rows: Vec<view::Row> = {
            let mut page =
                view.conn()?.prepare_cached("SELECT seq, id, body FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
            page.query_map(params![after, PAGE], view::row)?.collect::<rusqlite::Result<_>>()?
        };
        let Some(last) = rows.last() else { break };
        after = db(last.seq);
        for row in &rows {
            match view.record(row) {
                Ok(record) if matches(&record, query) => found.push(record),
                Ok(_) | Err(Error::Corrupt(_)) => {}
                Err(error) => return Err(error),
            }
            if found.len() >= query.limit {
                break;
            }
        }
    }
    Ok(found)
}

fn matches(record: &Record, query: &Query) -> bool {
    let event = &record.event;
    let is = |wanted: &str, values: &[Option<&String>]| values.iter().flatten().any(|value| *value == wanted);
    let reading = &event.reading;
    let terminal = query.terminal.as_deref().is_none_or(|wanted| {
        is(wanted, &[Some(&event.source.terminal_id), Some(&event.device_key), reading.terminal_serial.as_ref()])
    });
    let person = query.person.as_deref().is_none_or(|wanted| {
        let person = &reading.person;
        is(
            wanted,
            &[
                person.external_id.as_ref(),
                person.terminal_person_id.as_ref(),
                person.second_person_id.as_ref(),
                reading.credential.card_number.as_ref(),
            ],
        )
    });
    terminal && person && query.since.is_none_or(|since| event.times.event >= since)
}
