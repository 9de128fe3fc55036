//! A connection that reads: rows back into records, with interned parts and corrected times.
//!
//! Must not: write, or hold a transaction open longer than one question takes (a checkpoint waits for readers).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _};

use super::body;
use super::error::Error;
use super::schema::{self, un};
use super::state::{ClockAnchor, anchor_around, corrected};
use super::types::{Record, Seq, SourceId};
use crate::clock::{Zone, restamp};
use crate::event::{EventId, Source};

/// A terminal and its zone, looked up.
type Known = (Arc<Source>, Option<Zone>);

pub(super) struct View {
    path: PathBuf,
    conn: Option<Connection>,
    sources: HashMap<SourceId, Known>,
    anchors: Option<Anchored>,
}

/// The rows `from..until` were heard in one boot: its anchor.
#[derive(Clone, Copy)]
struct Anchored {
    from: u64,
    until: u64,
    anchor: Option<ClockAnchor>,
}

/// A row as it comes from the table.
pub(super) struct Row {
    pub(super) seq: u64,
    pub(super) id: EventId,
    pub(super) body: Vec<u8>,
}

impl View {
    pub(super) fn open(path: PathBuf) -> Result<Self, Error> {
        let conn = Some(schema::open_reader(&path)?);
        Ok(Self { path, conn, sources: HashMap::new(), anchors: None })
    }

    pub(super) fn conn(&self) -> Result<&Connection, Error> {
        self.conn.as_ref().ok_or(Error::Closed)
    }

    /// Opens the connection again if an error closed it.
    pub(super) fn ready(&mut self) -> Result<(), Error> {
        if self.conn.is_none() {
            self.conn = Some(schema::open_reader(&self.path)?);
        }
        Ok(())
    }

    /// After an error nothing that this connection has cached is trusted.
    pub(super) fn discard(&mut self) {
        self.conn = None;
    }

    pub(super) const fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Runs `ask` on one snapshot.
    pub(super) fn snapshot<T>(&mut self, ask: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.conn()?.prepare_cached("BEGIN")?.execute([])?;
        // Between two questions a boot may have got its anchor.
        self.anchors = None;
        let answer = ask(self);
        // Ends a transaction that only read; if even that fails the connection goes.
        if self.conn()?.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])).is_err() {
            self.discard();
        }
        answer
    }

    pub(super) fn head(&self) -> Result<Seq, Error> {
        super::state::last_row(self.conn()?).map(|(seq, _)| Seq(seq))
    }

    fn source(&mut self, id: SourceId) -> Result<Known, Error> {
        if let Some(known) = self.sources.get(&id) {
            return Ok(known.clone());
        }
        let source = self
            .conn()?
            .prepare_cached("SELECT tenant, site, gateway, terminal, protocol, zone FROM source WHERE id = ?1")?
            .query_row([id.0], |row| {
                Ok(Source {
                    tenant: row.get(0)?,
                    site_id: row.get(1)?,
                    gateway_id: row.get(2)?,
                    terminal_id: row.get(3)?,
                    protocol: row.get(4)?,
                    zone: row.get(5)?,
                })
            })
            .optional()?
            .ok_or_else(|| Error::Corrupt(format!("a row names terminal {}, which is missing", id.0)))?;
        let zone = Zone::named(&source.zone).ok();
        let known = (Arc::new(source), zone);
        self.sources.insert(id, known.clone());
        Ok(known)
    }

    /// Looked up once for all rows of a boot: on a machine without a right clock every row asks.
    fn anchor_of(&mut self, seq: u64) -> Result<Option<ClockAnchor>, Error> {
        if let Some(known) = self.anchors.filter(|a| (a.from..a.until).contains(&seq)) {
            return Ok(known.anchor);
        }
        let (from, until, anchor) = anchor_around(self.conn()?, seq)?;
        self.anchors = Some(Anchored { from, until, anchor });
        Ok(anchor)
    }

    /// A row as a record, within [`Self::snapshot`]. [`Error::Corrupt`] is the row's fault alone.
    pub(super) fn record(&mut self, row: &Row) -> Result<Record, Error> {
        let stored = body::decode(&row.body).map_err(|damage| Error::Corrupt(format!("row {}: {damage}", row.seq)))?;
        let (source, zone) = self.source(stored.source)?;
        let mut event = stored.into_event(row.id, source);
        let mut provisional = false;
        if !event.times.synchronised {
            match self.anchor_of(row.seq)? {
                None => provisional = true,
                Some(anchor) => {
                    let received = corrected(anchor, event.times.received_boot.0);
                    // A zone that this machine's database no longer knows: only the receive time can be mended.
                    let zone = zone.unwrap_or_else(Zone::utc);
                    event.times = restamp(&event, &zone, received);
                }
            }
        }
        Ok(Record { seq: Seq(row.seq), event, provisional, again: None })
    }
}

/// Reads the columns `seq, id, body` of the current row.
pub(super) fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row { seq: un(row.get(0)?), id: EventId(row.get(1)?), body: row.get(2)? })
}
