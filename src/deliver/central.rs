//! The schema at the centre: its text, and an administrator's connection that applies it, admits gateways, keeps partitions
//! and says how it all is.
//!
//! Must not: be called by a running gateway (which has no right to any of this), drop or change anything that is there, or
//! differ from what it prints.

mod admit;

mod fleet;

mod maintain;

mod state;

mod trace;

use std::fmt::Write as _;
use std::path::Path;

use jiff::civil::Date;

pub use admit::{Admission, admit};
pub use fleet::{fleet, span};
pub use maintain::{Maintained, Month, maintain};
pub use state::state;
pub use trace::{Answer, Question, latest, local, trace};

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
    sql.push_str("\n-- One partition a month. What the default partition already holds of a month moves into it.\n");
    for first in months(today) {
        let _ = writeln!(sql, "SELECT portero.make_month('{first}');");
    }
    sql
}

/// The script for now.
pub fn script_now(clock: &Clock) -> String {
    let today = Zone::utc().local(clock.now().wall).map_or(Date::constant(2026, 1, 1), |local| local.date());
    script(today)
}

/// The first days of the months that shall have a partition.
fn months(today: Date) -> impl Iterator<Item = Date> {
    (-1..=MONTHS_AHEAD)
        .filter_map(move |offset| today.first_of_month().checked_add(jiff::Span::new().try_months(offset).ok()?).ok())
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
        let made: Vec<&str> = sql.lines().filter(|line| line.starts_with("SELECT portero.make_month('")).collect();
        assert_eq!(made.len(), 14);
        assert!(
            made[0].contains("'2026-10-01'") && made[2].contains("'2026-12-01'") && made[13].contains("'2027-11-01'")
        );
    }
}
