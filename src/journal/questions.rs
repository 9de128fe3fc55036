//! What people ask of the journal: who is it, how far has it come, what became of an event; and what they decide.
//!
//! Must not: hold up a relay.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::error::Error;
use super::types::{
    Anchor, ClientSession, DeviceState, DirectoryEntry, Record, Seq, Setback, SinkId, Stats, Traced, When,
};
use super::view::View;
use super::writer::{Command, Lazy};
use super::{Journal, abandon, chain, devices, edit, heal, ledger, people, reader, setback, state, trace};
use crate::event::{EventId, UtcMicros};

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

    /// Quarantined events of a sink whose reason begins with `reason`, if `wanted`, ascending.
    pub async fn quarantined_where(
        &self,
        sink: String,
        reason: &'static str,
        wanted: impl Fn(&str, &Record) -> bool + Send + 'static,
    ) -> Result<Vec<Seq>, Error> {
        self.flush().await?;
        self.browse(move |view| ledger::quarantined_where(view, &sink, reason, wanted)).await
    }

    /// These events as a sink gets them, ascending, with what happened to them there before; pruned ones are left out.
    pub async fn read_for(&self, sink: SinkId, seqs: Vec<Seq>) -> Result<Vec<Record>, Error> {
        Ok(self.read_with(move |view| reader::read_for(view, sink, &seqs)).await?.records)
    }

    /// Puts other values in the place of what would go out of quarantined events of a sink (target and JSON), and makes them
    /// pending again; the events themselves stay. Answers how many.
    pub async fn edit_quarantined(
        &self,
        sink: String,
        seqs: Vec<Seq>,
        fields: Vec<(String, String)>,
        why: String,
        who: String,
    ) -> Result<u64, Error> {
        self.write(move |tx| edit::edit(tx, &sink, &seqs, &fields, &why, &who)).await
    }

    /// The ledger for whoever looks again and again: what is on disk, a second behind at most, and neither a commit is made for
    /// it nor a relay kept waiting.
    pub async fn stats_at_leisure(&self) -> Result<Stats, Error> {
        self.browse(ledger::stats).await
    }

    /// What became of an event.
    pub async fn trace(&self, id: EventId) -> Result<Option<Traced>, Error> {
        self.browse(move |view| trace::by_id(view, id)).await
    }

    /// What became of the newest events, newest first.
    pub async fn newest(&self, most: u32) -> Result<Vec<Traced>, Error> {
        self.browse(move |view| trace::newest(view, most)).await
    }

    /// What became of the events around a UTC day, ascending, if `wanted`: of every event that belongs to that day in some
    /// zone, also of one that came late or whose device's clock was wrong.
    pub async fn trace_around(
        &self,
        midnight: UtcMicros,
        wanted: impl Fn(&Record) -> bool + Send + 'static,
    ) -> Result<Vec<Traced>, Error> {
        self.browse(move |view| trace::around(view, midnight, wanted)).await
    }

    /// Gives quarantined events of a sink up for good, with the reason and the name of who says so; answers how many were.
    pub async fn drop_quarantined(&self, sink: String, seqs: Vec<Seq>, why: String, who: String) -> Result<u64, Error> {
        self.write(move |tx| abandon::drop_quarantined(tx, &sink, &seqs, &why, &who)).await
    }

    /// Gives a sink up, with the reason and the name of who says so: what waits for it is dropped, and it counts as removed.
    /// Nobody may serve it meanwhile. Answers how many were dropped.
    pub async fn abandon_sink(&self, sink: String, why: String, who: String) -> Result<u64, Error> {
        self.write(move |tx| abandon::abandon_sink(tx, &sink, &why, &who)).await
    }

    /// Says under which revision of mapping and answer rules a sink is served from now on. Answers `None` if something was
    /// delivered under it before, else how many events it has refused for reasons that are not among `excused`.
    pub async fn serve(
        &self,
        sink: SinkId,
        revision: String,
        excused: [&'static str; 2],
    ) -> Result<Option<u64>, Error> {
        self.write(move |tx| heal::serve(tx, sink, &revision, excused)).await
    }

    /// Something was delivered under the sink's revision.
    pub async fn prove(&self, sink: SinkId) -> Result<(), Error> {
        self.write(move |tx| heal::prove(tx, sink)).await
    }

    /// Makes at most `most` quarantined events of a sink pending again that were refused under another revision than the
    /// one that it is served under now, but those whose reason begins with `except`. Answers how many.
    pub async fn heal(&self, sink: SinkId, most: usize, except: &'static str) -> Result<u64, Error> {
        self.write(move |tx| heal::heal(tx, sink, most, except)).await
    }

    /// Keeps how a sink is failing.
    pub async fn keep_setback(&self, sink: SinkId, setback: Setback, when: When) -> Result<(), Error> {
        match when {
            When::Now => self.write(move |tx| setback::keep(tx, sink, &setback)).await,
            When::Lazy => self.write_lazily(Lazy::Setback(sink, setback)).await,
        }
    }

    /// The persistent clients of the gateway's own broker.
    pub async fn sessions(&self) -> Result<Vec<ClientSession>, Error> {
        self.read_with(|view| devices::sessions(view)).await
    }

    /// Keeps a persistent client's session; `None` forgets it. Answers after the sync.
    pub async fn keep_session(&self, client_id: String, session: Option<ClientSession>) -> Result<(), Error> {
        self.write(move |tx| devices::keep_session(tx, &client_id, session.as_ref())).await
    }

    /// Device states at the last stop.
    pub async fn devices(&self) -> Result<Vec<DeviceState>, Error> {
        self.flush().await?;
        self.read_with(|view| devices::list(view)).await
    }

    /// Keeps device states; rides on the next commit.
    pub async fn keep_devices(&self, devices: Vec<DeviceState>) -> Result<(), Error> {
        self.write_lazily(Lazy::Devices(devices)).await
    }

    /// The worker directory as it was last kept.
    pub async fn people(&self) -> Result<Vec<DirectoryEntry>, Error> {
        self.read_with(|view| people::list(view)).await
    }

    /// Changes the worker directory. Few at once: events wait for their turn meanwhile.
    pub async fn change_people(&self, put: Vec<DirectoryEntry>, gone: Vec<String>) -> Result<(), Error> {
        self.write(move |tx| people::change(tx, &put, &gone)).await
    }

    /// The last change of the worker directory is complete, and what it explains is released.
    pub async fn settle_people(&self) -> Result<(), Error> {
        self.write(|tx| people::whole(tx)).await
    }

    /// Whether the last change of the worker directory stopped before [`Self::settle_people`].
    pub async fn is_directory_torn(&self) -> Result<bool, Error> {
        self.read_with(|view| people::is_torn(view)).await
    }

    /// Waits its turn in the writer's queue and answers: the proof that the writer moves. Costs no sync of its own.
    pub async fn ping(&self) -> Result<(), Error> {
        self.write(|_| Ok(())).await
    }

    /// Whether an event would be taken now, as far as can be told without one. Costs no sync of its own.
    pub async fn accepts(&self) -> Result<(), Error> {
        let _asked = self.0.shared.ask();
        let (answer, answered) = oneshot::channel();
        self.send(Command::Append { entries: Arc::default(), answer }).await?;
        answered.await.map_err(|_| Error::Closed)??;
        // Nothing to append always fits.
        self.has_room().await
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
