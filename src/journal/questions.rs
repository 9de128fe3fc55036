//! Small questions to the journal itself: who is it, how far has it come, is it alive?
//!
//! Must not: write.

use super::error::Error;
use super::types::{Anchor, Seq};
use super::view::View;
use super::{Journal, chain, state};

impl Journal {
    /// The journal's own id, hex: made with the file, never changed.
    pub async fn id(&self) -> Result<String, Error> {
        self.read_with(|view| id(view)).await
    }

    /// The end of the chain as it is now, for somebody outside to keep: `None` while there is no row.
    pub async fn tip(&self) -> Result<Option<Anchor>, Error> {
        self.read_with(|view| {
            let (seq, head) = state::last_row(view.conn()?)?;
            let journal_id = id(view)?;
            Ok((seq > 0).then_some(Anchor { journal_id, seq: Seq(seq), head }))
        })
        .await
    }

    /// The last number in the file, also where another process writes it.
    pub async fn last(&self) -> Result<Seq, Error> {
        self.read_with(|view| view.head()).await
    }

    /// Waits its turn in the writer's queue and answers: the proof that the writer moves. Costs no sync of its own.
    pub async fn ping(&self) -> Result<(), Error> {
        self.write(|_| Ok(())).await
    }

    /// Returns when the writer has ended: closed, or gone.
    pub async fn ended(&self) {
        if let Some(writer) = &self.0.writer {
            writer.closed().await;
        }
    }
}

fn id(view: &View) -> Result<String, Error> {
    let id: [u8; 16] =
        view.conn()?.query_row("SELECT value FROM meta WHERE key = 'journal_id'", [], |row| row.get(0))?;
    Ok(chain::hex(&id))
}
