//! What became of an event at each sink, and the events of a person on a day.
//!
//! Must not: write, or call an event delivered that only the writer's memory knows to be: what is read here is on disk, so
//! that an event may be shown as pending for a second after its delivery, never the other way round.

use rusqlite::params;

use super::abandon;
use super::body;
use super::edit;
use super::error::Error;
use super::index;
use super::runs;
use super::schema::{db, un};
use super::settle::{HELD, QUARANTINED};
use super::state::received_of;
use super::types::{Fate, Record, Traced};
use super::view::{self, View};
use crate::event::{EventId, UtcMicros};

/// An id begins with the device's wall time, or with UTC where the device gave none: a day of either anywhere on Earth
/// lies within so many hours of the day in UTC (UTC−12 to UTC+14).
const ANYWHERE_MS: i64 = 14 * 3_600_000;

/// The same for times of receipt, and what is said within a minute of midnight.
const AROUND_US: i64 = (ANYWHERE_MS + 60_000) * 1000;

const DAY_MS: i64 = 86_400_000;

/// The event with this id, if the journal holds it.
pub(super) fn by_id(view: &mut View, id: EventId) -> Result<Option<Traced>, Error> {
    view.snapshot(|view| {
        let Some(seq) = index::locate(view.conn()?, id)? else { return Ok(None) };
        record(view, seq)?.map(|record| traced(view, record)).transpose()
    })
}

/// The newest events, newest first.
pub(super) fn newest(view: &mut View, most: u32) -> Result<Vec<Traced>, Error> {
    view.snapshot(|view| {
        let seqs: Vec<u64> = {
            let mut find = view.conn()?.prepare_cached("SELECT seq FROM event ORDER BY seq DESC LIMIT ?1")?;
            let seqs = find.query_map([most], |row| Ok(un(row.get(0)?)))?;
            seqs.collect::<rusqlite::Result<_>>()?
        };
        let mut found = Vec::with_capacity(seqs.len());
        for seq in seqs {
            if let Some(record) = record(view, seq)? {
                found.push(traced(view, record)?);
            }
        }
        Ok(found)
    })
}

/// The events whose id or time of receipt lies around the UTC day that begins at `midnight`, ascending, if `wanted`. An
/// event of that day in any zone is among them, whether it came late or its device's clock was wrong.
pub(super) fn around(
    view: &mut View,
    midnight: UtcMicros,
    wanted: impl Fn(&Record) -> bool,
) -> Result<Vec<Traced>, Error> {
    view.snapshot(|view| {
        let ms = midnight.0.div_euclid(1000);
        let mut seqs = index::rows_between(view.conn()?, ms - ANYWHERE_MS, ms + DAY_MS + ANYWHERE_MS)?;
        let first = first_received(view, midnight.0.saturating_sub(AROUND_US))?;
        let end = first_received(view, midnight.0.saturating_add(DAY_MS * 1000 + AROUND_US))?;
        seqs.extend(first..end);
        seqs.sort_unstable();
        seqs.dedup();
        let mut found = Vec::new();
        for seq in seqs {
            if let Some(record) = record(view, seq)?
                && wanted(&record)
            {
                found.push(traced(view, record)?);
            }
        }
        Ok(found)
    })
}

fn record(view: &mut View, seq: u64) -> Result<Option<Record>, Error> {
    let row = {
        let mut find = view.conn()?.prepare_cached("SELECT seq, id, body FROM event WHERE seq = ?1")?;
        let mut rows = find.query([db(seq)])?;
        rows.next()?.map(view::row).transpose()?
    };
    match row.map(|row| view.record(&row)) {
        Some(Ok(record)) => Ok(Some(record)),
        // Erased, or damaged, which `verify` names.
        None | Some(Err(Error::Corrupt(_))) => Ok(None),
        Some(Err(error)) => Err(error),
    }
}

fn traced(view: &View, record: Record) -> Result<Traced, Error> {
    let fates = fates(view, record.seq.0)?;
    let edits = edit::of(view.conn()?, record.seq.0)?;
    Ok(Traced { record, fates, edits })
}

fn fates(view: &View, seq: u64) -> Result<Vec<(String, Fate)>, Error> {
    let mut sinks = view.conn()?.prepare_cached(
        "SELECT s.name, s.started_after, s.position, x.state, x.reason, x.answer, x.attempts, x.at,
                EXISTS (SELECT 1 FROM correction c WHERE c.sink = s.id AND c.seq = ?1),
                d.why, d.who, d.at, d.reason, s.id
         FROM sink s LEFT JOIN exception x ON x.sink = s.id AND x.seq = ?1
         LEFT JOIN dropped d ON d.sink = s.id AND d.seq = ?1
         WHERE s.removed_at IS NULL ORDER BY s.id",
    )?;
    let conn = view.conn()?;
    let mut rows = sinks.query(params![db(seq)])?;
    let mut fates = Vec::new();
    while let Some(row) = rows.next()? {
        let (started, position) = (un(row.get(1)?), un(row.get(2)?));
        let state: Option<i64> = row.get(3)?;
        let dropped: Option<String> = row.get(9)?;
        let settled = |row: &rusqlite::Row<'_>| -> Result<Fate, Error> {
            let delivery = runs::of(conn, row.get(13)?, seq)?;
            if delivery.is_none()
                && let Some((why, who, at)) = abandon::with_its_sink(conn, row.get(13)?, seq)?
            {
                return Ok(Fate::Dropped { why, who, at, reason: String::new() });
            }
            Ok(Fate::Settled { delivery, correction_pending: row.get(8)? })
        };
        let fate = match state {
            _ if dropped.is_some() => Fate::Dropped {
                why: dropped.unwrap_or_default(),
                who: row.get(10)?,
                at: UtcMicros(row.get(11)?),
                reason: row.get(12)?,
            },
            Some(HELD) => Fate::Released,
            Some(QUARANTINED) => Fate::Quarantined {
                reason: row.get(4)?,
                answer: row.get(5)?,
                attempts: row.get(6)?,
                at: UtcMicros(row.get(7)?),
            },
            None if seq <= started => Fate::BeforeItsStart,
            Some(_) => settled(row)?,
            None if seq <= position => settled(row)?,
            None => Fate::Pending,
        };
        fates.push((row.get(0)?, fate));
    }
    Ok(fates)
}

/// The first row that was received at `time` or later, by bisection: rows stand in order of receipt but where the clock was
/// set, and there a little too much or too little may be looked at.
fn first_received(view: &View, time: i64) -> Result<u64, Error> {
    let mut next = view.conn()?.prepare_cached("SELECT seq, body FROM event WHERE seq >= ?1 ORDER BY seq LIMIT 1")?;
    let (mut low, mut high) = (0, view.head()?.0 + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let mut rows = next.query([db(middle)])?;
        let row = rows.next()?;
        let received = match row {
            // Nothing from there on.
            None => None,
            Some(row) => match body::peek(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?) {
                Ok(head) => received_of(view.conn()?, un(row.get(0)?), &head)?,
                Err(_) => None,
            },
        };
        match received {
            Some(received) if received < time => low = middle + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}
