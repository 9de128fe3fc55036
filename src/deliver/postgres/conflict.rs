//! The same id with another content: fewer rows went in than were sent, so the centre is asked to compare.
//!
//! Must not: change what stands there, read it, or lose a conflict because the connection broke (the batch goes again, and the
//! centre keeps each conflict once).

use std::time::Duration;

use tokio_postgres::Client;

use super::begin;
use super::rows::{self, Columns};
use crate::journal::Record;

/// Bodies a call: they travel and are compared in memory, here and there.
const ROWS: usize = 500;

/// Why nothing could be recorded.
pub(super) enum Failure {
    /// The centre's schema lacks the function, or the login may not call it, or it choked. The events themselves are
    /// committed, and the connection is sound: nothing of them may be judged by this.
    Refused(String),
    /// The connection or the server went away: the whole batch may go again.
    Lost(tokio_postgres::Error),
}

/// Has the centre compare what was sent with what stands there; answers how many conflicts are new.
pub(super) async fn record(
    client: &Client,
    records: &[Record],
    journal_id: &str,
    timeout: Duration,
) -> Result<u64, Failure> {
    match compare(client, records, journal_id, timeout).await {
        Ok(new) => Ok(new),
        Err(error) => {
            let class = error.code().and_then(|code| code.code().get(..2));
            if matches!(class, None | Some("08" | "40" | "53" | "57")) {
                return Err(Failure::Lost(error));
            }
            client.batch_execute("ROLLBACK").await.map_err(Failure::Lost)?;
            Err(Failure::Refused(error.code().map_or_else(String::new, |code| code.code().to_owned())))
        }
    }
}

/// All of it in one transaction: so many answers to COMMIT can't get lost one after the other.
async fn compare(
    client: &Client,
    records: &[Record],
    journal_id: &str,
    timeout: Duration,
) -> Result<u64, tokio_postgres::Error> {
    client.batch_execute(&begin(timeout)).await?;
    let mut found = 0;
    for part in records.chunks(ROWS) {
        let columns = Columns::new(part, journal_id);
        let row = client.query_typed_one(rows::CONFLICTS, &columns.identities()).await?;
        found += u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0);
    }
    client.batch_execute("COMMIT").await?;
    Ok(found)
}
