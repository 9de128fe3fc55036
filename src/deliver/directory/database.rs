//! A directory from a query of a PostgreSQL database, in a transaction that can't write.
//!
//! Must not: read without bound or time limit, or quote what it read: not even the server's words, which may.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Map, Value};
use tokio_postgres::error::SqlState;

use super::people::{Breath, People, unfit};
use super::{Error, Fields};
use crate::clock::Clock;
use crate::deliver::postgres::link;
use crate::deliver::{self, Outcome};
use crate::journal::DirectoryEntry;
use crate::secret::SecretSource;
use crate::tls::TlsMode;

/// Most bytes of all rows.
const MOST_BYTES: usize = 256 << 20;

/// Connecting may take so much longer than the query itself.
const CONNECTING: Duration = Duration::from_secs(15);

/// `[directory]` with a `postgresql` url.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Where the database is.
    pub url: String,
    /// The login's password.
    pub password: Option<SecretSource>,
    /// How the connection is protected.
    pub tls: TlsMode,
    /// Own CA.
    pub ca_file: Option<PathBuf>,
    /// Time limit of the query.
    pub timeout: Duration,
    /// One `SELECT`.
    pub query: String,
}

/// The database.
pub(super) struct Reading {
    config: Database,
    endpoint: link::Endpoint,
}

impl Reading {
    pub(super) fn new(config: Database, clock: Clock) -> Result<Self, deliver::Error> {
        let endpoint = link::Endpoint::for_reading(
            &config.url,
            config.password.clone(),
            config.tls,
            config.ca_file.as_deref(),
            clock,
        )?;
        Ok(Self { config, endpoint })
    }

    /// Runs the query and reads what it gives.
    pub(super) async fn read(&self, fields: &Fields) -> Result<Vec<DirectoryEntry>, Error> {
        let late =
            |_| Error::Away { reason: "the database of [directory] did not answer in time".to_owned(), after: None };
        tokio::time::timeout(self.config.timeout + CONNECTING, self.query(fields)).await.map_err(late)?
    }

    async fn query(&self, fields: &Fields) -> Result<Vec<DirectoryEntry>, Error> {
        let link = self.endpoint.connect().await.map_err(|outcome| {
            let (Outcome::Retry { reason, .. } | Outcome::Blocked { reason }) = outcome else {
                return away("the database of [directory] cannot be reached");
            };
            away(&format!("the database of [directory] cannot be reached: {reason}"))
        })?;
        let client = &link.client;
        let begin = format!("BEGIN READ ONLY; SET LOCAL statement_timeout = {}", self.config.timeout.as_millis());
        client.batch_execute(&begin).await.map_err(|e| refused(&e))?;
        let query = self.config.query.trim().trim_end_matches(';');
        // Prepared first on its own: it is one statement, and its columns are known also if it gives no row.
        let columns = client.prepare(query).await.map_err(|e| refused(&e))?;
        let wanted = [fields.person.as_ref(), fields.card.as_ref(), Some(&fields.external_id), fields.name.as_ref()];
        for wanted in wanted.into_iter().flatten() {
            if !columns.columns().iter().any(|column| column.name() == wanted) {
                return Err(unfit(format!("the query gives no column '{wanted}'")));
            }
        }
        // As JSON every type is text or number.
        let all = format!("SELECT row_to_json(q)::text FROM (\n{query}\n) AS q");
        let rows = client.query_raw(&all, std::iter::empty::<i32>()).await.map_err(|e| refused(&e))?;
        let mut rows = std::pin::pin!(rows);
        let (mut people, mut breath, mut bytes) = (People::new(fields), Breath::default(), 0);
        while let Some(row) = rows.next().await {
            let row = row.map_err(|e| refused(&e))?;
            let text: &str = row.try_get(0).map_err(|e| refused(&e))?;
            bytes += text.len();
            if bytes > MOST_BYTES {
                return Err(unfit(format!("more than {MOST_BYTES} bytes of rows")));
            }
            let row: Map<String, Value> =
                serde_json::from_str(text).map_err(|_| unfit("a row that the database could not write as JSON"))?;
            people.object(|column| row.get(column)).map_err(unfit)?;
            breath.after(text.len()).await;
        }
        client.batch_execute("COMMIT").await.map_err(|e| refused(&e))?;
        Ok(people.finish())
    }
}

fn away(reason: &str) -> Error {
    Error::Away { reason: reason.to_owned(), after: None }
}

/// The server's own words may hold what stands in a row.
fn refused(error: &tokio_postgres::Error) -> Error {
    let Some(code) = error.code() else { return away("the connection to the database of [directory] broke") };
    let what = match code {
        c if *c == SqlState::UNDEFINED_TABLE => "there is no such table",
        c if *c == SqlState::UNDEFINED_COLUMN => "there is no such column",
        c if *c == SqlState::SYNTAX_ERROR => "it is not one SELECT",
        c if *c == SqlState::INSUFFICIENT_PRIVILEGE => "the login may not read there; grant it SELECT",
        c if *c == SqlState::QUERY_CANCELED => "it took longer than timeout_seconds",
        c if *c == SqlState::READ_ONLY_SQL_TRANSACTION => "it writes, and a directory is only read",
        _ => "see the server's log",
    };
    away(&format!("the database refused the query of [directory] ({}): {what}", code.code()))
}
