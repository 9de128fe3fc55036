//! Events as rows: the columns, their binary encodings and the statements. One of the wire formats that outsiders rely on.
//!
//! Must not: change with a refactor, or hand the database a value that it can't hold (NUL in text and `\u0000` in JSON
//! become U+FFFD, over-long text is cut in its column and stays whole in the body).

use std::borrow::Cow;
use std::error::Error as StdError;

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use super::Parameter;
use crate::event::{UtcMicros, json};
use crate::journal::Record;

/// Longest text in a typed column, bytes: three of them fit into an index entry (2,704 bytes, PostgreSQL's btree).
const MAX_TEXT: usize = 512;

/// Microseconds from 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

macro_rules! columns {
    () => {
        "tenant, event_id, gateway_id, journal_id, seq, site_id, terminal_id, terminal_serial, kind, outcome, punch, \
         person, event_time, received_time, body"
    };
}

pub(super) use columns;

const INSERT_EVENT: &str = concat!(
    "INSERT INTO portero.event (",
    columns!(),
    ") SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], ",
    "$8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::timestamptz[], $14::timestamptz[], ",
    "$15::jsonb[]) ON CONFLICT DO NOTHING"
);

const INSERT_CORRECTION: &str = concat!(
    "INSERT INTO portero.correction (",
    columns!(),
    ", corrects) SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[], ",
    "$7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::timestamptz[], ",
    "$14::timestamptz[], $15::jsonb[], $16::uuid[]) ON CONFLICT DO NOTHING"
);

/// Compares what was sent with what stands there and records the differences.
pub(super) const CONFLICTS: &str = "SELECT portero.record_conflicts($1::text[], $2::uuid[], $3::jsonb[])";

/// Where records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Event,
    Correction,
}

impl Table {
    pub(super) const fn insert(self) -> &'static str {
        match self {
            Self::Event => INSERT_EVENT,
            Self::Correction => INSERT_CORRECTION,
        }
    }
}

type Text<'a> = Cow<'a, str>;

/// What stands in the columns for one record, all but the journal's id and the body.
pub(super) struct Row<'a> {
    pub(super) tenant: Text<'a>,
    pub(super) event_id: Uuid,
    pub(super) gateway_id: Text<'a>,
    pub(super) seq: i64,
    pub(super) site_id: Text<'a>,
    pub(super) terminal_id: Text<'a>,
    pub(super) terminal_serial: Option<Text<'a>>,
    pub(super) kind: &'static str,
    pub(super) outcome: Option<&'static str>,
    pub(super) punch: Option<&'static str>,
    pub(super) person: Option<Text<'a>>,
    pub(super) event_time: Time,
    pub(super) received_time: Time,
}

impl<'a> Row<'a> {
    pub(super) fn new(record: &'a Record) -> Self {
        let event = &record.event;
        let (source, reading) = (&*event.source, &event.reading);
        let person = &reading.person;
        Self {
            tenant: fit(&source.tenant),
            event_id: Uuid::from_bytes(event.id.0),
            gateway_id: fit(&source.gateway_id),
            seq: i64::try_from(record.seq.0).unwrap_or(i64::MAX),
            site_id: fit(&source.site_id),
            terminal_id: fit(&source.terminal_id),
            terminal_serial: reading.terminal_serial.as_deref().map(fit),
            kind: reading.kind.unwrap_or(crate::event::Kind::Unknown).as_str(),
            outcome: reading.outcome.map(crate::event::Outcome::as_str),
            punch: reading.punch.map(crate::event::Punch::as_str),
            person: person.external_id.as_deref().or(person.terminal_person_id.as_deref()).map(fit),
            event_time: Time(event.times.event),
            received_time: Time(event.times.received),
        }
    }
}

/// Appends the body as `jsonb` takes it.
pub(super) fn write_body(record: &Record, out: &mut Vec<u8>) {
    let start = out.len();
    json::write(&record.event, out);
    clean(&mut out[start..]);
}

/// A batch, column by column.
pub(super) struct Columns<'a> {
    tenant: Vec<Text<'a>>,
    event_id: Vec<Uuid>,
    gateway_id: Vec<Text<'a>>,
    journal_id: Vec<&'a str>,
    seq: Vec<i64>,
    site_id: Vec<Text<'a>>,
    terminal_id: Vec<Text<'a>>,
    terminal_serial: Vec<Option<Text<'a>>>,
    kind: Vec<&'static str>,
    outcome: Vec<Option<&'static str>>,
    punch: Vec<Option<&'static str>>,
    person: Vec<Option<Text<'a>>>,
    event_time: Vec<Time>,
    received_time: Vec<Time>,
    body: Vec<Json>,
    corrects: Vec<Option<Uuid>>,
}

impl<'a> Columns<'a> {
    pub(super) fn new(records: &'a [Record], journal_id: &'a str) -> Self {
        let n = records.len();
        let mut c = Self {
            tenant: Vec::with_capacity(n),
            event_id: Vec::with_capacity(n),
            gateway_id: Vec::with_capacity(n),
            journal_id: vec![journal_id; n],
            seq: Vec::with_capacity(n),
            site_id: Vec::with_capacity(n),
            terminal_id: Vec::with_capacity(n),
            terminal_serial: Vec::with_capacity(n),
            kind: Vec::with_capacity(n),
            outcome: Vec::with_capacity(n),
            punch: Vec::with_capacity(n),
            person: Vec::with_capacity(n),
            event_time: Vec::with_capacity(n),
            received_time: Vec::with_capacity(n),
            body: Vec::with_capacity(n),
            corrects: Vec::with_capacity(n),
        };
        for record in records {
            let row = Row::new(record);
            c.tenant.push(row.tenant);
            c.event_id.push(row.event_id);
            c.gateway_id.push(row.gateway_id);
            c.seq.push(row.seq);
            c.site_id.push(row.site_id);
            c.terminal_id.push(row.terminal_id);
            c.terminal_serial.push(row.terminal_serial);
            c.kind.push(row.kind);
            c.outcome.push(row.outcome);
            c.punch.push(row.punch);
            c.person.push(row.person);
            c.event_time.push(row.event_time);
            c.received_time.push(row.received_time);
            let mut body = Vec::with_capacity(768);
            write_body(record, &mut body);
            c.body.push(Json(body));
            c.corrects.push(record.event.corrects.map(|id| Uuid::from_bytes(id.0)));
        }
        c
    }

    /// The parameters of [`Table::insert`].
    pub(super) fn parameters(&self, table: Table) -> Vec<Parameter<'_>> {
        let mut all: Vec<Parameter<'_>> = vec![
            (&self.tenant, Type::TEXT_ARRAY),
            (&self.event_id, Type::UUID_ARRAY),
            (&self.gateway_id, Type::TEXT_ARRAY),
            (&self.journal_id, Type::TEXT_ARRAY),
            (&self.seq, Type::INT8_ARRAY),
            (&self.site_id, Type::TEXT_ARRAY),
            (&self.terminal_id, Type::TEXT_ARRAY),
            (&self.terminal_serial, Type::TEXT_ARRAY),
            (&self.kind, Type::TEXT_ARRAY),
            (&self.outcome, Type::TEXT_ARRAY),
            (&self.punch, Type::TEXT_ARRAY),
            (&self.person, Type::TEXT_ARRAY),
            (&self.event_time, Type::TIMESTAMPTZ_ARRAY),
            (&self.received_time, Type::TIMESTAMPTZ_ARRAY),
            (&self.body, Type::JSONB_ARRAY),
        ];
        if table == Table::Correction {
            all.push((&self.corrects, Type::UUID_ARRAY));
        }
        all
    }

    /// The parameters of [`CONFLICTS`].
    pub(super) fn identities(&self) -> Vec<Parameter<'_>> {
        vec![(&self.tenant, Type::TEXT_ARRAY), (&self.event_id, Type::UUID_ARRAY), (&self.body, Type::JSONB_ARRAY)]
    }
}

/// Text that the column can hold.
fn fit(text: &str) -> Text<'_> {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let cut = text.get(..end).unwrap_or_default();
    if cut.contains('\0') { Cow::Owned(cut.replace('\0', "\u{FFFD}")) } else { Cow::Borrowed(cut) }
}

/// `jsonb` refuses `\u0000`: it becomes `\ufffd`. An escaped backslash before `u0000` is not that escape.
fn clean(json: &mut [u8]) {
    let mut at = 0;
    while at + 1 < json.len() {
        if json[at] != b'\\' {
            at += 1;
            continue;
        }
        if json.get(at + 1..at + 6) == Some(b"u0000") {
            json[at + 2..at + 6].copy_from_slice(b"fffd");
        }
        at += 2;
    }
}

/// `timestamptz`.
#[derive(Debug)]
pub(super) struct Time(UtcMicros);

impl Time {
    pub(super) const fn wire(&self) -> [u8; 8] {
        self.0.0.saturating_sub(POSTGRES_EPOCH_MICROS).to_be_bytes()
    }
}

impl ToSql for Time {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_slice(&self.wire());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

/// `jsonb`: a version byte, then the text as it is.
#[derive(Debug)]
struct Json(Vec<u8>);

impl ToSql for Json {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_u8(1);
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_postgresql_cannot_hold_is_replaced() {
        let cleaned = |text: &str| {
            let mut json = serde_json::to_vec(text).expect("text");
            clean(&mut json);
            serde_json::from_slice::<String>(&json).expect("still JSON")
        };
        assert_eq!(cleaned("a\0b"), "a\u{FFFD}b");
        assert_eq!(cleaned("a\\u0000b"), "a\\u0000b");
        assert_eq!(cleaned("\\\0"), "\\\u{FFFD}");
        assert_eq!(cleaned("u0000\\"), "u0000\\");
        assert_eq!(fit("a\0b"), "a\u{FFFD}b");
        assert_eq!(fit(&"ñ".repeat(400)).len(), MAX_TEXT);
    }

    #[test]
    fn times_count_from_the_year_2000() {
        assert_eq!(Time(UtcMicros(POSTGRES_EPOCH_MICROS + 1)).wire(), 1i64.to_be_bytes());
        assert_eq!(Time(UtcMicros(0)).wire(), (-POSTGRES_EPOCH_MICROS).to_be_bytes());
    }
}
