//! Keeps the partitions: makes those of the months to come, and moves rows out of the default partition into partitions of
//! their months.
//!
//! Must not: drop a partition or a row, or keep gateways waiting: one month is one transaction that gives up when it does not
//! get its lock at once, and is tried again.

use std::time::Duration;

use jiff::civil::Date;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;

use super::{Admin, MONTHS_AHEAD, refused};
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

/// Makes what is missing; answers what was made.
pub async fn maintain(admin: &Admin<'_>) -> Result<Vec<Month>, Error> {
    let today = Zone::utc().local(admin.clock.now().wall).map_or(Date::constant(2026, 1, 1), |local| local.date());
    let link = admin.connect().await?;
    let rows = link.client.simple_query(ASTRAY).await.map_err(|error| incomplete(&error))?;
    let mut months: Vec<Date> = rows.iter().filter_map(first_column).filter_map(|text| text.parse().ok()).collect();
    months.truncate(MOST_MONTHS);
    for offset in -1..=MONTHS_AHEAD {
        let span = jiff::Span::new().try_months(offset).ok();
        months.extend(span.and_then(|span| today.first_of_month().checked_add(span).ok()));
    }
    months.sort_unstable();
    months.dedup();
    let mut made = Vec::new();
    for first in months {
        if let Some(moved) = make(&link.client, first).await? {
            made.push(Month { first, moved });
        }
    }
    Ok(made)
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
