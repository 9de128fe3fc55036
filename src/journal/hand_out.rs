//! What relays read: events in their order, and the ones that are pending again.
//!
//! Must not: take a damaged row for the end, or hand out one that can't be read.

use super::error::Error;
use super::types::{Record, Seq, SinkId};
use super::view::View;
use super::{Journal, reader, settle};

impl Journal {
    /// Unsettled events after `after`, ascending, at most `rows` of them and about `bytes` of body.
    pub async fn read_after(&self, sink: SinkId, after: Seq, rows: usize, bytes: usize) -> Result<Vec<Record>, Error> {
        self.handed_out(sink, move |view| reader::read_after(view, sink, after, rows, bytes)).await
    }

    /// Asks until there is a row that can be read, or none at all: behind a damaged one there may be others.
    async fn handed_out(
        &self,
        sink: SinkId,
        read: impl Fn(&mut View) -> Result<reader::Found, Error> + Copy + Send + 'static,
    ) -> Result<Vec<Record>, Error> {
        loop {
            let found = self.read_with(read).await?;
            let last = found.damaged.is_empty();
            let records = self.hand_out(sink, found).await?;
            if last || !records.is_empty() {
                return Ok(records);
            }
        }
    }

    /// Quarantines rows that can't be read, so that they hold up nobody, and remembers what left with provisional times.
    async fn hand_out(&self, sink: SinkId, found: reader::Found) -> Result<Vec<Record>, Error> {
        if !found.damaged.is_empty() {
            let damaged = found.damaged;
            self.write(move |tx| settle::quarantine_damaged(tx, sink, &damaged)).await?;
        }
        self.0.shared.mark_provisional(sink, &found.records);
        Ok(found.records)
    }

    /// These events, ascending; pruned ones are left out.
    pub async fn read(&self, seqs: Vec<Seq>) -> Result<Vec<Record>, Error> {
        Ok(self.read_with(move |view| reader::read(view, &seqs)).await?.records)
    }

    /// Events behind the sink's position that are pending again (released from quarantine).
    pub async fn held(&self, sink: SinkId, rows: usize) -> Result<Vec<Record>, Error> {
        self.flush().await?;
        self.handed_out(sink, move |view| reader::held(view, sink, rows)).await
    }
}
