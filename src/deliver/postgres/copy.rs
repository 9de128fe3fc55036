//! A large batch: binary COPY into a temporary table, then one insert from it, all in one transaction.
//!
//! The insert is tried plain first: to watch for conflicts costs the server about 15 % for a backlog that has none. Where a row
//! is there already the transaction fails as a whole and is done again with `ON CONFLICT DO NOTHING`, and so is the next one,
//! until a batch was new throughout.
//!
//! Must not: hold the whole batch a second time (rows are encoded while the server takes those before them), or leave
//! table or statement behind in the session, which a transaction-mode pgbouncer hands to somebody else.

use std::time::Duration;

use bytes::{BufMut as _, Bytes};
use futures_util::SinkExt as _;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::begin;
use super::rows::{Row, columns, write_body};
use crate::journal::Record;

/// From this many rows on it beats arrays: of 500 rows it reached 0.55 to 0.67 of a bare `COPY`, of 2,000 and more 0.77 to
/// 0.94, arrays 0.40 to 0.60. Below, its three more round trips weigh more on a slow line.
pub(super) const ROWS: usize = 1000;

/// COPY data goes out in pieces of about this size, bytes. `BinaryCopyInWriter` of the driver sends every 4 KiB, which wakes
/// the connection's task and the server for every handful of rows.
const PIECE: usize = 128 * 1024;

/// The columns are named: `LIKE portero.event` would need SELECT.
const TEMPORARY: &str = "CREATE TEMPORARY TABLE portero_batch (tenant text, event_id uuid, gateway_id text, \
     journal_id text, seq bigint, site_id text, terminal_id text, terminal_serial text, kind text, outcome text, \
     punch text, person text, event_time timestamptz, received_time timestamptz, body jsonb) ON COMMIT DROP";

const COPY: &str = concat!("COPY pg_temp.portero_batch (", columns!(), ") FROM STDIN (FORMAT binary)");

macro_rules! insert {
    () => {
        concat!("INSERT INTO portero.event (", columns!(), ") SELECT ", columns!(), " FROM pg_temp.portero_batch")
    };
}

const INSERT_NEW: &str = insert!();

const INSERT_MISSING: &str = concat!(insert!(), " ON CONFLICT DO NOTHING");

/// What is known of the next batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Expect {
    /// Nothing of it is there yet.
    #[default]
    New,
    /// Some of it may be there.
    Known,
}

/// Inserts the events that are not there yet; answers how many went in.
pub(super) async fn insert(
    client: &Client,
    records: &[Record],
    journal_id: &str,
    timeout: Duration,
    expect: &mut Expect,
) -> Result<u64, tokio_postgres::Error> {
    if *expect == Expect::New {
        match transaction(client, records, journal_id, timeout, INSERT_NEW).await {
            // Behind it the COMMIT has rolled back.
            Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => *expect = Expect::Known,
            other => return other,
        }
    }
    let inserted = transaction(client, records, journal_id, timeout, INSERT_MISSING).await?;
    if inserted >= records.len() as u64 {
        *expect = Expect::New;
    }
    Ok(inserted)
}

/// The prepared COPY statement is closed before the COMMIT goes out.
async fn transaction(
    client: &Client,
    records: &[Record],
    journal_id: &str,
    timeout: Duration,
    insert: &str,
) -> Result<u64, tokio_postgres::Error> {
    let begin = format!("{}; {TEMPORARY}", begin(timeout));
    // Pipelined: one round trip for both.
    let (begun, statement) = futures_util::future::join(client.batch_execute(&begin), client.prepare(COPY)).await;
    begun?;
    let statement = statement?;
    {
        let sink = client.copy_in(&statement).await?;
        futures_util::pin_mut!(sink);
        for piece in Pieces::new(records, journal_id) {
            sink.feed(piece).await?;
        }
        sink.as_mut().finish().await?;
    }
    drop(statement);
    let (inserted, committed) =
        futures_util::future::join(client.execute_typed(insert, &[]), client.batch_execute("COMMIT")).await;
    let inserted = inserted?;
    committed?;
    Ok(inserted)
}

/// A batch in the binary COPY format (PostgreSQL manual, "COPY", binary format), encoded piece by piece.
struct Pieces<'a> {
    records: std::slice::Iter<'a, Record>,
    journal_id: &'a str,
    begun: bool,
    ended: bool,
}

impl<'a> Pieces<'a> {
    fn new(records: &'a [Record], journal_id: &'a str) -> Self {
        Self { records: records.iter(), journal_id, begun: false, ended: false }
    }
}

impl Iterator for Pieces<'_> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut out = Vec::with_capacity(PIECE + 8 * 1024);
        if !std::mem::replace(&mut self.begun, true) {
            out.put_slice(b"PGCOPY\n\xff\r\n\0");
            // Flags and length of the header extension: none.
            out.put_u64(0);
        }
        while out.len() < PIECE {
            let Some(record) = self.records.next() else {
                self.ended = true;
                out.put_i16(-1);
                break;
            };
            row(record, self.journal_id, &mut out);
        }
        Some(Bytes::from(out))
    }
}

fn row(record: &Record, journal_id: &str, out: &mut Vec<u8>) {
    let row = Row::new(record);
    out.put_i16(15);
    text(&row.tenant, out);
    field(row.event_id.as_bytes(), out);
    text(&row.gateway_id, out);
    text(journal_id, out);
    field(&row.seq.to_be_bytes(), out);
    text(&row.site_id, out);
    text(&row.terminal_id, out);
    maybe(row.terminal_serial.as_deref(), out);
    text(row.kind, out);
    maybe(row.outcome, out);
    maybe(row.punch, out);
    maybe(row.person.as_deref(), out);
    field(&row.event_time.wire(), out);
    field(&row.received_time.wire(), out);
    // Its length is known once it is written.
    let start = out.len();
    out.put_u32(0);
    // Version of `jsonb`.
    out.put_u8(1);
    write_body(record, out);
    let written = length(out.len() - start - 4);
    out[start..start + 4].copy_from_slice(&written.to_be_bytes());
}

fn length(len: usize) -> u32 {
    // A body is bounded by the payload limit, far below 4 GiB.
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn field(bytes: &[u8], out: &mut Vec<u8>) {
    out.put_u32(length(bytes.len()));
    out.put_slice(bytes);
}

fn text(text: &str, out: &mut Vec<u8>) {
    field(text.as_bytes(), out);
}

fn maybe(value: Option<&str>, out: &mut Vec<u8>) {
    match value {
        Some(value) => text(value, out),
        None => out.put_i32(-1),
    }
}
