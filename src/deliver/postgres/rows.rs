//! Events as rows: the columns, their binary encodings and the statements. One of the wire formats that outsiders rely on.
//!
//! Must not: change with a refactor, or hand the database a value that it can't hold (NUL in text and `\u0000` in JSON
//! become U+FFFD, over-long text is cut in its column and stays whole in the body).

use std::borrow::Cow;
use std::error::Error as StdError;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use super::Parameter;
use crate::event::{UtcMicros, json};
use crate::journal::Record;

/// Longest text in a typed column, bytes: three of them fit into an index entry (2,704 bytes, PostgreSQL's btree).
const MAX_TEXT: usize = 512;

/// Microseconds from 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// COPY data goes out in pieces of about this size, bytes.
const PIECE: usize = 128 * 1024;

macro_rules! columns {
    () => {
        "tenant, event_id, gateway_id, journal_id, seq, site_id, terminal_id, terminal_serial, kind, outcome, punch, \
         person, event_time, received_time, body"
    };
}

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

/// The columns are named: `LIKE portero.event` would need SELECT.
pub(super) const TEMPORARY: &str = "CREATE TEMPORARY TABLE portero_batch (tenant text, event_id uuid, gateway_id text, \
     journal_id text, seq bigint, site_id text, terminal_id text, terminal_serial text, kind text, outcome text, \
     punch text, person text, event_time timestamptz, received_time timestamptz, body jsonb) ON COMMIT DROP";

pub(super) const COPY: &str = concat!("COPY pg_temp.portero_batch (", columns!(), ") FROM STDIN (FORMAT binary)");

pub(super) const FROM_TEMPORARY: &str = concat!(
    "INSERT INTO portero.event (",
    columns!(),
    ") SELECT ",
    columns!(),
    " FROM pg_temp.portero_batch ON CONFLICT DO NOTHING"
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
            let event = &record.event;
            let (source, reading) = (&*event.source, &event.reading);
            c.tenant.push(fit(&source.tenant));
            c.event_id.push(Uuid::from_bytes(event.id.0));
            c.gateway_id.push(fit(&source.gateway_id));
            c.seq.push(i64::try_from(record.seq.0).unwrap_or(i64::MAX));
            c.site_id.push(fit(&source.site_id));
            c.terminal_id.push(fit(&source.terminal_id));
            c.terminal_serial.push(reading.terminal_serial.as_deref().map(fit));
            c.kind.push(reading.kind.unwrap_or(crate::event::Kind::Unknown).as_str());
            c.outcome.push(reading.outcome.map(crate::event::Outcome::as_str));
            c.punch.push(reading.punch.map(crate::event::Punch::as_str));
            let person = &reading.person;
            c.person.push(person.external_id.as_deref().or(person.terminal_person_id.as_deref()).map(fit));
            c.event_time.push(Time(event.times.event));
            c.received_time.push(Time(event.times.received));
            let mut body = Vec::with_capacity(768);
            json::write(event, &mut body);
            clean(&mut body);
            c.body.push(Json(body));
            c.corrects.push(event.corrects.map(|id| Uuid::from_bytes(id.0)));
        }
        c
    }

    /// How many rows.
    pub(super) fn len(&self) -> usize {
        self.seq.len()
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

    /// The batch in the binary COPY format (PostgreSQL manual, "COPY", binary format), in pieces.
    pub(super) fn copy_pieces(&self) -> impl Iterator<Item = Bytes> + '_ {
        let mut row = 0;
        let mut header = true;
        let mut trailer = false;
        std::iter::from_fn(move || {
            if trailer {
                return None;
            }
            let mut out = BytesMut::with_capacity(PIECE + 4096);
            if std::mem::take(&mut header) {
                out.put_slice(b"PGCOPY\n\xff\r\n\0");
                // Flags and length of the header extension: none.
                out.put_u64(0);
            }
            while row < self.len() && out.len() < PIECE {
                self.copy_row(row, &mut out);
                row += 1;
            }
            if row == self.len() {
                trailer = true;
                out.put_i16(-1);
            }
            Some(out.freeze())
        })
    }

    fn copy_row(&self, row: usize, out: &mut BytesMut) {
        out.put_i16(15);
        text(&self.tenant[row], out);
        field(self.event_id[row].as_bytes(), out);
        text(&self.gateway_id[row], out);
        text(self.journal_id[row], out);
        field(&self.seq[row].to_be_bytes(), out);
        text(&self.site_id[row], out);
        text(&self.terminal_id[row], out);
        maybe(self.terminal_serial[row].as_deref(), out);
        text(self.kind[row], out);
        maybe(self.outcome[row], out);
        maybe(self.punch[row], out);
        maybe(self.person[row].as_deref(), out);
        field(&self.event_time[row].wire(), out);
        field(&self.received_time[row].wire(), out);
        let body = &self.body[row].0;
        out.put_u32(length(body.len() + 1));
        out.put_u8(1);
        out.put_slice(body);
    }
}

fn length(len: usize) -> u32 {
    // A body is bounded by the payload limit, far below 4 GiB.
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn field(bytes: &[u8], out: &mut BytesMut) {
    out.put_u32(length(bytes.len()));
    out.put_slice(bytes);
}

fn text(text: &str, out: &mut BytesMut) {
    field(text.as_bytes(), out);
}

fn maybe(value: Option<&str>, out: &mut BytesMut) {
    match value {
        Some(value) => text(value, out),
        None => out.put_i32(-1),
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
struct Time(UtcMicros);

impl Time {
    const fn wire(&self) -> [u8; 8] {
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
