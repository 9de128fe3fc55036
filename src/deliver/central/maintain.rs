//! Keeps the partitions: makes those of the months to come, and moves rows out of the default partition into partitions of
//! their months; thins the points of the gateways' chains.
//!
//! Must not: drop a partition or a row of an event, or keep gateways waiting: one month is one transaction that gives up when it does not
//! get its lock at once, and is tried again.

use std::time::Duration;

use jiff::civil::Date;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;

use super::{Admin, refused};
use crate::clock::Zone;
use crate::deliver::Error;

/// Months of the default partition that one run moves; a clock gone wild must not make a partition for each of its months.
const MOST_MONTHS: usize = 60;

/// How long a month waits for its lock on the default partition, and how often it is tried.
const LOCK_MS: u32 = 3_000;
const TRIES: u32 = 5;

/// A breath between two tries, so that what waited behind us goes first.
const BREATH: Duration = Duration::from_secs(1);

/// A partition that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Month {
    /// First day of the month.
    pub first: Date,
    /// Rows that moved into it out of the default partition.
    pub moved: u64,
}

/// Months with rows in the default partition, newest first. Ids without a believable time stay there: what a clock in 1970 or
/// in the far future makes is found in one place.
const ASTRAY: &str = "SELECT DISTINCT portero.id_month(event_id) AS month FROM portero.event_default \
     WHERE event_id >= portero.lowest_id('2000-01-01') \
     AND event_id < portero.lowest_id(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '13 months') \
     ORDER BY month DESC";

/// What one run did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Maintained {
    /// Partitions that were made.
    pub months: Vec<Month>,
    /// Points of gateways' chains that went.
    pub anchors: u64,
}

/// A gateway leaves a point of its chain a minute: after a week the last one of each day is proof enough.
const THIN: &str = "WITH old AS (
        SELECT tenant, gateway_id, journal_id, seq, head, row_number() OVER (
            PARTITION BY tenant, gateway_id, journal_id, date_trunc('day', seen_at) ORDER BY seq DESC, seen_at DESC) AS nth
        FROM portero.anchor WHERE seen_at < now() - interval '7 days'
    ), gone AS (
        DELETE FROM portero.anchor a USING old o
        WHERE o.nth > 1 AND (a.tenant, a.gateway_id, a.journal_id, a.seq, a.head)
            = (o.tenant, o.gateway_id, o.journal_id, o.seq, o.head)
        RETURNING 1
    ) SELECT count(*) FROM gone";

/// Makes what is missing, thins what is plenty; answers what was done.
pub async fn maintain(admin: &Admin<'_>) -> Result<Maintained, Error> {
    let today = Zone::utc().local(admin.clock.now().wall).map_or(Date::constant(2026, 1, 1), |local| local.date());
    let link = admin.connect().await?;
    let rows = link.client.simple_query(ASTRAY).await.map_err(|error| incomplete(&error))?;
    let mut months: Vec<Date> = rows.iter().filter_map(first_column).filter_map(|text| text.parse().ok()).collect();
    months.truncate(MOST_MONTHS);
    months.extend(super::months(today));
    months.sort_unstable();
    months.dedup();
    let mut made = Vec::new();
    for first in months {
        if let Some(moved) = make(&link.client, first).await? {
            made.push(Month { first, moved });
        }
    }
    let thinned = link.client.simple_query(THIN).await.map_err(|error| incomplete(&error))?;
    let anchors = thinned.iter().find_map(first_column).and_then(|count| count.parse().ok()).unwrap_or(0);
    Ok(Maintained { months: made, anchors })
}

/// One month; `None` if it was there.
async fn make(client: &tokio_postgres::Client, first: Date) -> Result<Option<u64>, Error> {
    let sql = format!("BEGIN; SET LOCAL lock_timeout = {LOCK_MS}; SELECT portero.make_month('{first}'); COMMIT");
    let mut tries = 0;
    loop {
        tries += 1;
        match client.simple_query(&sql).await {
            Ok(rows) => return Ok(rows.iter().find_map(first_column).and_then(|moved| moved.parse().ok())),
            Err(error) => {
                let busy = error.code().is_some_and(|code| {
                    *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::T_R_DEADLOCK_DETECTED
                });
                // A broken connection shows again with the next statement.
                let _ = client.batch_execute("ROLLBACK").await;
                if !busy || tries == TRIES {
                    return Err(incomplete(&error));
                }
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

fn first_column(message: &SimpleQueryMessage) -> Option<&str> {
    match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    }
}

fn incomplete(error: &tokio_postgres::Error) -> Error {
    let missing = [SqlState::UNDEFINED_FUNCTION, SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME];
    match error.code() {
        Some(code) if missing.contains(code) => Error::Refused(
            "the schema is missing or older than this release; run: portero central init --apply --url URL".to_owned(),
        ),
        Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => {
            Error::Refused("the default partition is busy; run it again at a quieter time".to_owned())
        }
        _ => refused(error),
    }
}
