//! A person puts something else in the place of what would go out of a quarantined event; the event itself stays as it is.
//!
//! Must not: touch an event that is not quarantined, change a body, or keep an edit without who, when and why.

use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::{Map, Value};

use super::abandon::clipped;
use super::error::Error;
use super::schema::db;
use super::settle;
use super::state::Tx;
use super::types::{Again, Edit, Record, Seq, SinkId};
use crate::event::UtcMicros;

/// Keeps an edit of quarantined events of a sink and makes them pending again; answers how many. A second edit of an event
/// adds to the first. What isn't quarantined is left alone.
pub(super) fn edit(
    tx: &mut Tx<'_>,
    name: &str,
    seqs: &[Seq],
    fields: &[(String, String)],
    why: &str,
    who: &str,
) -> Result<u64, Error> {
    let id = tx.state.sinks[settle::named(tx, name)?].id;
    let (why, who) = (clipped(why), clipped(who));
    let mut edited = 0;
    for seq in seqs {
        let there: i64 = tx
            .conn
            .prepare_cached("SELECT count(*) FROM exception WHERE sink = ?1 AND seq = ?2 AND state = ?3")?
            .query_row(params![id, db(seq.0), settle::QUARANTINED], |row| row.get(0))?;
        if there == 0 {
            continue;
        }
        let mut kept = fields_of(tx.conn, id, seq.0)?.unwrap_or_default();
        for (target, value) in fields {
            // Who asks has made it JSON; a text that is none stands for itself.
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.clone()));
            kept.insert(target.clone(), value);
        }
        tx.conn
            .prepare_cached(
                "INSERT OR REPLACE INTO edit(sink, seq, fields, why, who, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![id, db(seq.0), Value::Object(kept).to_string(), why, who, tx.now.wall.0])?;
        edited += 1;
    }
    settle::release(tx, name, Some(seqs))?;
    Ok(edited)
}

fn fields_of(conn: &Connection, sink: u32, seq: u64) -> Result<Option<Map<String, Value>>, Error> {
    let mut find = conn.prepare_cached("SELECT fields FROM edit WHERE sink = ?1 AND seq = ?2")?;
    let text: Option<String> = find.query_row(params![sink, db(seq)], |row| row.get(0)).optional()?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// Says of records that a sink refused before how often that was, and what a person changed. Where there was nothing, the
/// record stays as it is.
pub(super) fn attach(conn: &Connection, sink: SinkId, records: &mut [Record]) -> Result<(), Error> {
    let mut find = conn.prepare_cached("SELECT attempts FROM exception WHERE sink = ?1 AND seq = ?2")?;
    for record in records {
        let seq = record.seq.0;
        let attempts: Option<u32> = find.query_row(params![sink.0, db(seq)], |row| row.get(0)).optional()?;
        let fields = fields_of(conn, sink.0, seq)?;
        if attempts.is_none() && fields.is_none() {
            continue;
        }
        let edits = fields.unwrap_or_default().into_iter().map(|(target, value)| (target, value.to_string())).collect();
        record.again = Some(Box::new(Again { attempts: attempts.unwrap_or(0), edits }));
    }
    Ok(())
}

/// The edits of an event, by sink.
pub(super) fn of(conn: &Connection, seq: u64) -> Result<Vec<Edit>, Error> {
    let mut find = conn.prepare_cached(
        "SELECT s.name, e.fields, e.why, e.who, e.at FROM edit e JOIN sink s ON s.id = e.sink
         WHERE e.seq = ?1 AND s.removed_at IS NULL ORDER BY s.id",
    )?;
    let edits = find.query_map([db(seq)], |row| {
        Ok(Edit {
            sink: row.get(0)?,
            fields: row.get(1)?,
            why: row.get(2)?,
            who: row.get(3)?,
            at: UtcMicros(row.get(4)?),
        })
    })?;
    Ok(edits.collect::<rusqlite::Result<_>>()?)
}

/// Forgets the edits of events that are erased: they may name people.
pub(super) fn forget(conn: &Connection, up_to: u64) -> Result<(), Error> {
    conn.prepare_cached("DELETE FROM edit WHERE seq <= ?1")?.execute([db(up_to)])?;
    Ok(())
}
