//! The central PostgreSQL: idempotent batch inserts over one connection.
//!
//! Must not: need SELECT, leave anything in a session that a transaction-mode pgbouncer would hand to somebody else (no
//! session SET, no prepared statement that outlives its transaction), keep a connection after an unknown outcome, or put
//! a server's detail text (it may quote a row) into anything but the quarantine.

mod conflict;

mod copy;

pub(super) mod link;

mod rows;

pub(super) mod verdict;

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use self::link::{Endpoint, Link};
use self::rows::{Columns, Table};
use super::complaint::Complaint;
use super::{Batch, Error, Mapped, Outcome, Sink, StatusBoard, Verdict};
use crate::clock::Clock;
use crate::journal::Record;
use crate::secret::SecretSource;
use crate::tls::TlsMode;

/// Most bytes of journal body a batch: bounds memory whatever `batch` says. A thousand ordinary bodies are about 100 KiB; as
/// records in memory they are some ten times that, and two batches are there at a time.
const MAX_BYTES: usize = 1 << 20;

/// `type = "postgres"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `postgresql://USER@HOST:PORT/DATABASE`, without a password. Several `HOST:PORT` with commas: the first one that takes
    /// writes.
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
    /// Events a transaction, where the line did not carry a whole batch in time.
    part: Option<usize>,
    timeout: Duration,
    journal_id: String,
    endpoint: Endpoint,
    link: Option<Link>,
    /// The role may not make temporary tables: arrays for every size.
    no_copy: bool,
    /// Whether the next large batch may be known there.
    expect: copy::Expect,
    /// Where conflicts are shown.
    board: Option<StatusBoard>,
    unrecorded: Complaint,
}

impl Postgres {
    /// Prepares the sink; opens no connection and reads no secret. `journal_id` goes into every row, so that the centre can
    /// tell journals of one gateway apart.
    pub fn new(name: &str, config: &Config, journal_id: &str, clock: Clock) -> Result<Self, Error> {
        Ok(Self {
            name: name.to_owned(),
            batch: config.batch.max(1),
            part: None,
            timeout: config.timeout,
            journal_id: journal_id.to_owned(),
            endpoint: Endpoint::of_sink(config, clock)?,
            link: None,
            no_copy: false,
            expect: copy::Expect::default(),
            board: None,
            unrecorded: Complaint::default(),
        })
    }

    /// Shows conflicts on this board, too.
    #[must_use]
    pub fn with_board(mut self, board: StatusBoard) -> Self {
        self.board = Some(board);
        self
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
        let inserted = match self.try_copy(client, records, corrections).await? {
            Some(inserted) => inserted,
            None => {
                let table = if corrections { Table::Correction } else { Table::Event };
                let columns = Columns::new(records, &self.journal_id);
                in_transaction(client, table.insert(), &columns.parameters(table), self.timeout).await?
            }
        };
        if corrections || inserted >= records.len() as u64 {
            return Ok(true);
        }
        match conflict::record(client, records, &self.journal_id, self.timeout).await {
            Ok(new) => {
                self.unrecorded.clear();
                self.raise(new);
                Ok(true)
            }
            Err(conflict::Failure::Lost(error)) => Err(error),
            // The rows themselves are committed, and an older schema may lack the function.
            Err(conflict::Failure::Refused(code)) => {
                if let Some(count) = self.unrecorded.raise(&code, tokio::time::Instant::now()) {
                    tracing::warn!(
                        reason = code,
                        count,
                        "the centre could not look for conflicts; run: portero central init --apply --url URL"
                    );
                }
                Ok(!client.is_closed())
            }
        }
    }

    /// The centre holds another content under the same id: somebody must look.
    fn raise(&self, new: u64) {
        if new == 0 {
            return;
        }
        tracing::warn!(count = new, "the centre holds other content under the same id; see portero.conflict there");
        if let Some(board) = &self.board {
            board.update(&self.name, |status| status.conflicts += new);
        }
    }

    /// The fast way for a large batch; `None` where it is not one, or where the role may not make temporary tables.
    async fn try_copy(
        &mut self,
        client: &Client,
        records: &[Record],
        corrections: bool,
    ) -> Result<Option<u64>, tokio_postgres::Error> {
        if self.no_copy || corrections || records.len() < copy::ROWS {
            return Ok(None);
        }
        match copy::insert(client, records, &self.journal_id, self.timeout, &mut self.expect).await {
            Ok(inserted) => Ok(Some(inserted)),
            // A missing right on the table itself shows again with the arrays.
            Err(e) if e.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                client.batch_execute("ROLLBACK").await?;
                let inserted = self.by_arrays(client, records).await?;
                // Only now: it was the temporary table.
                self.no_copy = true;
                Ok(Some(inserted))
            }
            Err(e) => Err(e),
        }
    }

    async fn by_arrays(&self, client: &Client, records: &[Record]) -> Result<u64, tokio_postgres::Error> {
        let columns = Columns::new(records, &self.journal_id);
        in_transaction(client, Table::Event.insert(), &columns.parameters(Table::Event), self.timeout).await
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

pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), tokio_postgres::types::Type);

/// One statement in a transaction of its own, in one round trip: the three messages are pipelined, and where the
/// statement fails the COMMIT behind it rolls back.
pub(super) async fn in_transaction(
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

impl Sink for Postgres {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> (usize, usize) {
        (self.batch, MAX_BYTES)
    }

    fn patience(&self) -> Duration {
        self.timeout * super::ANSWERS
    }

    fn map(&self, _records: &[Record], _corrections: bool) -> Mapped {
        // Idempotent by primary key: a resend may be composed anew.
        Mapped::ByEvent
    }

    async fn send(&mut self, batch: &Batch<'_>) -> Outcome {
        let whole = batch.records.len();
        let count = self.part.map_or(whole, |part| part.min(whole));
        let part = Batch { records: batch.records.get(..count).unwrap_or(batch.records), ..*batch };
        match tokio::time::timeout(self.timeout, self.try_send(&part)).await {
            Ok(Ok(())) => {
                self.part = self.part.map(|part| part.saturating_mul(2)).filter(|part| *part < self.batch);
                let mut verdicts = vec![Verdict::Delivered; count];
                verdicts.resize(whole, Verdict::Keep);
                Outcome::Settled(verdicts)
            }
            Ok(Err(outcome)) => outcome,
            Err(_) => {
                // What is too much for a thin line in this time would be too much every time.
                self.part = Some((count / 2).max(1));
                Outcome::Retry { reason: "no answer in time; the connection was dropped".to_owned(), after: None }
            }
        }
    }
}
