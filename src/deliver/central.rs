//! The schema at the centre: its text, and an administrator's connection that applies it, admits gateways, keeps partitions
//! and says how it all is.
//!
//! Must not: be called by a running gateway (which has no right to any of this), drop or change anything that is there, or
//! differ from what it prints.

mod admit;

mod maintain;

mod state;

use std::fmt::Write as _;
use std::path::Path;

use jiff::civil::Date;

pub use admit::{Admission, admit};
pub use maintain::{Month, maintain};
pub use state::state;

use super::postgres::link::{Endpoint, Link};
use super::{Error, Outcome};
use crate::clock::{Clock, Zone};
use crate::tls::TlsMode;

/// Tables, functions and grants.
const SCHEMA: &str = include_str!("schema.sql");

/// Partitions are made from the month before this one to this many months after it.
const MONTHS_AHEAD: i32 = 12;

/// The whole script: tables, functions and grants, and the partitions of the months around `today`. What is printed is
/// what is applied.
pub fn script(today: Date) -> String {
    let mut sql = String::from(SCHEMA);
    sql.push_str(
        "\n-- One partition a month. Where the default partition already holds rows of a month, it keeps that month.\n",
    );
    for month in -1..=MONTHS_AHEAD {
        if let Some(partition) = partition(today, month) {
            sql.push_str(&partition);
        }
    }
    sql
}

/// The script for now.
pub fn script_now(clock: &Clock) -> String {
    let today = Zone::utc().local(clock.now().wall).map_or(Date::constant(2026, 1, 1), |local| local.date());
    script(today)
}

/// The partition of the month `offset` months from `today`; `None` beyond the calendar.
fn partition(today: Date, offset: i32) -> Option<String> {
    let first = today.first_of_month().checked_add(jiff::Span::new().try_months(offset).ok()?).ok()?;
    let next = first.checked_add(jiff::Span::new().months(1)).ok()?;
    let (year, month) = (first.year(), first.month());
    let mut sql = String::new();
    let _ = write!(
        sql,
        "\nDO $$\nBEGIN\n    CREATE TABLE IF NOT EXISTS portero.event_{year:04}_{month:02} PARTITION OF portero.event\n    \
         FOR VALUES FROM ('{}') TO ('{}');\nEXCEPTION WHEN check_violation THEN\n    \
         RAISE WARNING 'portero.event_default keeps {year:04}-{month:02}: it holds rows of that month';\nEND\n$$;\n",
        lowest_id(first)?,
        lowest_id(next)?,
    );
    Some(sql)
}

/// The lowest event id of a day: 48 bits of milliseconds, then zeros.
fn lowest_id(day: Date) -> Option<uuid::Uuid> {
    let start = Zone::utc().start_of_day(day)?.0 / 1000;
    Some(uuid::Uuid::from_u128(u128::from(u64::try_from(start).ok()?) << 80))
}

/// An administrator's login.
#[derive(Debug, Clone)]
pub struct Admin<'a> {
    /// `postgresql://USER@HOST:PORT/DATABASE`.
    pub url: &'a str,
    /// Its password.
    pub password: Option<&'a str>,
    /// How the connection is protected.
    pub tls: TlsMode,
    /// Own CA.
    pub ca_file: Option<&'a Path>,
    /// What time it is.
    pub clock: Clock,
}

impl Admin<'_> {
    async fn connect(&self) -> Result<Link, Error> {
        let mut endpoint = Endpoint::new(self.url, None, self.tls, self.ca_file, self.clock.clone())?;
        if let Some(password) = self.password {
            endpoint.set_password(password);
        }
        endpoint.connect().await.map_err(|outcome| match outcome {
            Outcome::Blocked { reason }
            | Outcome::Retry { reason, .. }
            | Outcome::Refused { reason, .. }
            | Outcome::Lost { reason, .. }
            | Outcome::Gone { reason } => Error::Connect(reason),
            Outcome::Settled(_) => Error::Connect("no connection".to_owned()),
        })
    }

    /// Runs a script.
    pub async fn apply(&self, script: &str) -> Result<(), Error> {
        let link = self.connect().await?;
        link.client.batch_execute(script).await.map_err(|error| refused(&error))
    }
}

/// Applies a script with an administrator's login.
pub async fn apply(
    url: &str,
    password: Option<&str>,
    tls: TlsMode,
    ca_file: Option<&Path>,
    clock: Clock,
    script: &str,
) -> Result<(), Error> {
    Admin { url, password, tls, ca_file, clock }.apply(script).await
}

fn refused(error: &tokio_postgres::Error) -> Error {
    Error::Refused(error.as_db_error().map_or_else(
        || "the connection broke".to_owned(),
        |db| format!("{} (SQLSTATE {})", db.message(), db.code().code()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partitions_cover_last_month_to_next_year_without_a_hole() {
        let sql = script(Date::constant(2026, 11, 24));
        assert!(sql.starts_with(SCHEMA));
        assert_eq!(sql.matches("PARTITION OF portero.event\n").count(), 14);
        assert!(sql.contains("portero.event_2026_10") && sql.contains("portero.event_2027_11"));
        let bounds: Vec<&str> = sql.lines().filter_map(|l| l.trim().strip_prefix("FOR VALUES FROM ")).collect();
        for pair in bounds.windows(2) {
            let (end, start) = (pair[0].split("TO ").nth(1), pair[1].split(" TO").next());
            assert_eq!(end.map(|e| e.trim_end_matches(';')), start);
        }
    }

    #[test]
    fn a_month_begins_with_its_first_millisecond() {
        assert_eq!(lowest_id(Date::constant(1970, 1, 1)).map(|id| id.as_u128()), Some(0));
        let id = lowest_id(Date::constant(2026, 11, 1)).map(|id| id.to_string());
        assert_eq!(id.as_deref(), Some("01a19467-e800-0000-0000-000000000000"));
    }
}
