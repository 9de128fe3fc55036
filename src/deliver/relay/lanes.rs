//! What goes next: the queue in its order, or new events ahead of a backlog.
//!
//! Must not: pass over an event that is not settled, or send anything.

use tokio::time::Instant;

use super::{Ended, Lane, Relay};
use crate::deliver::{Mapped, Sink};
use crate::journal::{Record, Seq};

/// Why a paced backlog waits.
pub(super) const CATCHING_UP: &str = "catching up no faster than catch_up_per_minute";

/// What to do next.
pub(super) enum Turn {
    /// Send these.
    Send(Vec<Record>, Lane),
    /// Nothing until something is heard, or until then.
    Wait(Option<Instant>),
}

impl<S: Sink> Relay<S> {
    /// What goes next.
    pub(super) async fn next_turn(&mut self) -> Result<Turn, Ended> {
        // What may have left alone leaves alone again, before anything overtakes it.
        let solo = self.solos > 0 && self.cursor.at() < self.doubt_to;
        if !self.flow.is_live_first() || solo {
            return self.next_in_order().await;
        }
        loop {
            let head = *self.head.borrow_and_update();
            let (rows, _) = self.sink.limits();
            let behind = self.flow.is_behind(&self.cursor);
            if self.flow.look(head, &self.cursor, rows) && !behind {
                let count = head.0.saturating_sub(self.cursor.at().0);
                tracing::info!(count, "a backlog has formed: new events go first");
            }
            if !self.flow.is_behind(&self.cursor) {
                return self.next_in_order().await;
            }
            self.turn_opens().await?;
            let head = *self.head.borrow_and_update();
            if self.flow.may_overtake(head) && !self.flow.is_backlogs_turn(Instant::now()) {
                let records = self.read_live(head).await?;
                if !records.is_empty() {
                    self.flow.chosen(true);
                    return Ok(Turn::Send(records, Lane::Live));
                }
            }
            if let Some(at) = self.flow.backlog_opens(Instant::now()) {
                return Ok(Turn::Wait(Some(at)));
            }
            let records = self.read_backlog().await?;
            self.flow.chosen(false);
            if !records.is_empty() {
                self.spend(&records);
                return Ok(Turn::Send(records, Lane::Late));
            }
            self.cursor.skip_to(self.flow.join());
            tracing::info!("the backlog is gone");
        }
    }

    /// The next ones after the cursor.
    async fn next_in_order(&mut self) -> Result<Turn, Ended> {
        let behind = self.flow.is_behind(&self.cursor);
        if let Some(at) = self.flow.backlog_opens(Instant::now()).filter(|_| behind) {
            return Ok(Turn::Wait(Some(at)));
        }
        let mut records = self.next_batch().await?;
        if records.is_empty() {
            return Ok(Turn::Wait(None));
        }
        if behind {
            records.truncate(self.flow.portion());
            self.spend(&records);
        }
        Ok(Turn::Send(records, Lane::New))
    }

    /// Counts a part of the backlog against its pace; what the sink's filter leaves out costs nothing.
    fn spend(&mut self, records: &[Record]) {
        let mark = self.flow.mark;
        let count = records.iter().filter(|r| r.seq <= mark && self.sink.takes(r)).count();
        self.flow.spend(count, Instant::now());
        self.aside_was_last = false;
    }

    /// Events that nobody called a backlog.
    async fn read_live(&mut self, head: Seq) -> Result<Vec<Record>, Ended> {
        let (rows, bytes) = self.sink.limits();
        let id = self.id;
        loop {
            let after = self.flow.live_from(&self.cursor);
            if head <= after {
                return Ok(Vec::new());
            }
            let mut records =
                self.stored("read", |journal| async move { journal.read_after(id, after, rows, bytes).await }).await?;
            let last = records.last().map_or(head, |r| r.seq);
            records.retain(|r| !self.cursor.is_settled(r.seq));
            if !records.is_empty() {
                return Ok(records);
            }
            self.flow.went_ahead(Some(last), 0);
        }
    }

    /// What is not settled up to the mark; empty if there is nothing left of it.
    async fn read_backlog(&mut self) -> Result<Vec<Record>, Ended> {
        let (rows, bytes) = self.sink.limits();
        let rows = rows.min(self.flow.portion());
        let (id, mark) = (self.id, self.flow.mark);
        loop {
            let after = self.cursor.at();
            if mark <= after {
                return Ok(Vec::new());
            }
            let mut records =
                self.stored("read", |journal| async move { journal.read_after(id, after, rows, bytes).await }).await?;
            records.retain(|r| r.seq <= mark);
            let Some(last) = records.last().map(|r| r.seq) else { return Ok(records) };
            records.retain(|r| !self.cursor.is_settled(r.seq));
            if !records.is_empty() {
                return Ok(records);
            }
            self.cursor.skip_to(last);
        }
    }

    /// New events after the cursor; empty if there are none.
    async fn next_batch(&mut self) -> Result<Vec<Record>, Ended> {
        let mut records = self.read_batch().await?;
        let first = records.iter().position(|record| self.sink.takes(record)).filter(|_| self.solos > 0);
        if let Some(at) = first
            && records[at].seq <= self.doubt_to
        {
            if matches!(self.sink.map(&records[at..=at], false), Mapped::ByEvent) {
                // This sink knows every event, however it comes.
                self.solos = 0;
            } else {
                self.solos -= 1;
                records.truncate(at + 1);
            }
        }
        Ok(records)
    }

    async fn read_batch(&mut self) -> Result<Vec<Record>, Ended> {
        if let Some(ready) = self.prefetched.take() {
            // A provisional event read before a nudge may have got its right time since.
            let stale = ready.nudge != *self.nudges.borrow() && ready.records.iter().any(|r| r.provisional);
            if ready.after == self.cursor.at() && !stale && !ready.records.is_empty() {
                return Ok(ready.records);
            }
        }
        let head = *self.head.borrow_and_update();
        let (rows, bytes) = self.sink.limits();
        let id = self.id;
        loop {
            let after = self.cursor.at();
            if head <= after {
                return Ok(Vec::new());
            }
            let mut records =
                self.stored("read", |journal| async move { journal.read_after(id, after, rows, bytes).await }).await?;
            let Some(last) = records.last().map(|r| r.seq) else {
                self.cursor.skip_to(head);
                return Ok(records);
            };
            if self.cursor.is_ahead() {
                records.retain(|r| !self.cursor.is_settled(r.seq));
            }
            if !records.is_empty() {
                return Ok(records);
            }
            self.cursor.skip_to(last);
        }
    }
}
