//! The central PostgreSQL: idempotent batch inserts over one connection.
//!
//! Must not: need SELECT, leave anything in a session that a transaction-mode pgbouncer would hand to somebody else (no
//! session SET, no prepared statement that outlives its transaction), keep a connection after an unknown outcome, or put
//! a server's detail text (it may quote a row) into anything but the quarantine.

pub(super) mod link;

mod rows;

mod verdict;

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use self::link::{Endpoint, Link};
use self::rows::{Columns, Table};
use super::{Batch, Error, Mapped, Outcome, Sink, Verdict};
use crate::clock::Clock;
use crate::journal::Record;
use crate::secret::SecretSource;
use crate::tls::TlsMode;

/// From this many rows on a binary COPY into a temporary table is faster than arrays.
const COPY_ROWS: usize = 1000;

/// Most bytes of journal body a batch: bounds memory, not speed.
const MAX_BYTES: usize = 4 << 20;

/// `type = "postgres"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `postgresql://USER@HOST:PORT/DATABASE`, without a password.
    pub url: String,
    /// The password.
    pub password: Option<SecretSource>,
    /// Most events a transaction.
    pub batch: usize,
    /// How the connection is protected.
    pub tls: TlsMode,
    /// Own CA.
    pub ca_file: Option<PathBuf>,
    /// Time limit of a transaction.
    pub timeout: Duration,
}

/// The sink.
pub struct Postgres {
    name: String,
    batch: usize,
    timeout: Duration,
    journal_id: String,
    endpoint: Endpoint,
    link: Option<Link>,
    /// The role may not make temporary tables: arrays for every size.
    no_copy: bool,
}

impl Postgres {
    /// Prepares the sink; opens no connection and reads no secret. `journal_id` goes into every row, so that the centre can
    /// tell journals of one gateway apart.
    pub fn new(name: &str, config: &Config, journal_id: &str, clock: Clock) -> Result<Self, Error> {
        Ok(Self {
            name: name.to_owned(),
            batch: config.batch.max(1),
            timeout: config.timeout,
            journal_id: journal_id.to_owned(),
            endpoint: Endpoint::new(
                &config.url,
                config.password.clone(),
                config.tls,
                config.ca_file.as_deref(),
                clock,
            )?,
            link: None,
            no_copy: false,
        })
    }

    /// One try. The connection is taken out for its time: if it goes wrong, or if this future is dropped, it is gone.
    async fn try_send(&mut self, batch: &Batch<'_>) -> Result<(), Outcome> {
        let link = match self.link.take().filter(Link::is_open) {
            Some(link) => link,
            None => self.endpoint.connect().await?,
        };
        let error = match self.insert(&link.client, batch.records, batch.corrections).await {
            Ok(sound) => {
                self.link = sound.then_some(link);
                return Ok(());
            }
            Err(error) => error,
        };
        let outcome = verdict::outcome(&error, self.endpoint.synchronised());
        // The server said no and the connection is sound, but may still stand in a failed transaction.
        let refused = matches!(outcome, Outcome::Refused { .. });
        if refused && link.client.batch_execute("ROLLBACK").await.is_ok() {
            self.link = Some(link);
        }
        Err(outcome)
    }

    /// Inserts in one transaction. Answers whether the connection is still sound afterwards.
    async fn insert(
        &mut self,
        client: &Client,
        records: &[Record],
        corrections: bool,
    ) -> Result<bool, tokio_postgres::Error> {
        let table = if corrections { Table::Correction } else { Table::Event };
        let journal_id = self.journal_id.clone();
        let columns = Columns::new(records, &journal_id);
        let inserted = match self.try_copy(client, &columns, table).await? {
            Some(inserted) => inserted,
            None => in_transaction(client, table.insert(), &columns.parameters(table), self.timeout).await?,
        };
        if corrections || inserted >= records.len() as u64 {
            return Ok(true);
        }
        // Best effort: the rows themselves are committed, and an older schema may lack the function.
        match in_transaction(client, rows::CONFLICTS, &columns.identities(), self.timeout).await {
            Ok(_) => Ok(true),
            Err(error) => {
                let code = error.code().map_or("", |c| c.code());
                tracing::debug!(reason = code, "conflicts could not be recorded at the centre");
                Ok(error.as_db_error().is_some() && !client.is_closed())
            }
        }
    }

    /// The fast way for a large batch; `None` where it is not one, or where the role may not make temporary tables.
    async fn try_copy(
        &mut self,
        client: &Client,
        columns: &Columns<'_>,
        table: Table,
    ) -> Result<Option<u64>, tokio_postgres::Error> {
        if self.no_copy || table != Table::Event || columns.len() < COPY_ROWS {
            return Ok(None);
        }
        match copy(client, columns, self.timeout).await {
            Ok(inserted) => Ok(Some(inserted)),
            // A missing right on the table itself shows again with the arrays.
            Err(e) if e.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                client.batch_execute("ROLLBACK").await?;
                self.no_copy = true;
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }
}

/// The statement that opens a transaction with limits of its own. The last one frees our locks when we lose power.
fn begin(timeout: Duration) -> String {
    let ms = timeout.as_millis().max(1);
    format!(
        "BEGIN; SET LOCAL statement_timeout = {ms}; SET LOCAL lock_timeout = {ms}; \
         SET LOCAL idle_in_transaction_session_timeout = {ms}"
    )
}

type Parameter<'a> = (&'a (dyn ToSql + Sync), tokio_postgres::types::Type);

/// One statement in a transaction of its own, in one round trip: the three messages are pipelined, and where the
/// statement fails the COMMIT behind it rolls back.
async fn in_transaction(
    client: &Client,
    sql: &str,
    parameters: &[Parameter<'_>],
    timeout: Duration,
) -> Result<u64, tokio_postgres::Error> {
    let begin = begin(timeout);
    let (begun, done, committed) = futures_util::future::join3(
        client.batch_execute(&begin),
        client.execute_typed(sql, parameters),
        client.batch_execute("COMMIT"),
    )
    .await;
    begun?;
    let done = done?;
    committed?;
    Ok(done)
}

/// COPY into a temporary table, then insert from it. The prepared COPY statement is closed before the COMMIT goes out, so
/// that nothing of it is left behind in a pooled server connection.
async fn copy(client: &Client, columns: &Columns<'_>, timeout: Duration) -> Result<u64, tokio_postgres::Error> {
    use futures_util::SinkExt as _;
    client.batch_execute(&format!("{}; {}", begin(timeout), rows::TEMPORARY)).await?;
    let statement = client.prepare(rows::COPY).await?;
    {
        let sink = client.copy_in(&statement).await?;
        futures_util::pin_mut!(sink);
        for piece in columns.copy_pieces() {
            sink.feed(piece).await?;
        }
        sink.as_mut().finish().await?;
    }
    drop(statement);
    let (inserted, committed) =
        futures_util::future::join(client.execute_typed(rows::FROM_TEMPORARY, &[]), client.batch_execute("COMMIT"))
            .await;
    let inserted = inserted?;
    committed?;
    Ok(inserted)
}

impl Sink for Postgres {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> (usize, usize) {
        (self.batch, MAX_BYTES)
    }

    fn map(&self, _records: &[Record], _corrections: bool) -> Mapped {
        // Idempotent by primary key: a resend may be composed anew.
        Mapped::ByEvent
    }

    async fn send(&mut self, batch: &Batch<'_>) -> Outcome {
        match tokio::time::timeout(self.timeout, self.try_send(batch)).await {
            Ok(Ok(())) => Outcome::Settled(vec![Verdict::Delivered; batch.records.len()]),
            Ok(Err(outcome)) => outcome,
            Err(_) => {
                Outcome::Retry { reason: "no answer in time; the connection was dropped".to_owned(), after: None }
            }
        }
    }
}
