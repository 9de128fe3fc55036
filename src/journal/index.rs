//! Which ids are there already.
//!
//! The newest rows stand outside the on-disk index, in a map in memory: an event alone then changes one page of the
//! index for every [`BULK`] events instead of one for each. When the map is full it is written in order of id, in the
//! transaction of an append; after a start it is read back from the rows above `indexed_to`.
//!
//! Must not: answer "new" for an id that is on disk.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::Error;
use super::schema::{db, un};
use crate::event::EventId;

/// Rows outside the on-disk index, at most (a group commit may overshoot by its size). About 300 KiB of memory.
pub(super) const BULK: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Index {
    tail: HashMap<EventId, u64>,
    indexed_to: u64,
    greatest: Option<EventId>,
}

impl Index {
    pub(super) fn load(conn: &Connection) -> Result<Self, Error> {
        let indexed_to =
            un(conn.query_row("SELECT value FROM meta WHERE key='indexed_to'", [], |row| row.get::<_, i64>(0))?);
        let greatest: Option<[u8; 16]> =
            conn.query_row("SELECT id FROM seen ORDER BY id DESC LIMIT 1", [], |row| row.get(0)).optional()?;
        let mut tail = HashMap::new();
        let mut rows = conn.prepare_cached("SELECT seq, id FROM event WHERE seq > ?1")?;
        let mut rows = rows.query([db(indexed_to)])?;
        while let Some(row) = rows.next()? {
            tail.insert(EventId(row.get(1)?), un(row.get(0)?));
        }
        Ok(Self { tail, indexed_to, greatest: greatest.map(EventId) })
    }

    pub(super) const fn indexed_to(&self) -> u64 {
        self.indexed_to
    }

    pub(super) fn find(&self, conn: &Connection, id: EventId) -> Result<Option<u64>, Error> {
        if let Some(seq) = self.tail.get(&id) {
            return Ok(Some(*seq));
        }
        // Ids begin with a time: in the usual order nothing on disk can be this id, and no page is read.
        if self.greatest.is_none_or(|greatest| id > greatest) {
            return Ok(None);
        }
        let mut find = conn.prepare_cached("SELECT seq FROM seen WHERE id = ?1")?;
        Ok(find.query_row([id.0], |row| row.get::<_, i64>(0)).optional()?.map(un))
    }

    pub(super) fn add(&mut self, id: EventId, seq: u64) {
        self.tail.insert(id, seq);
    }

    pub(super) fn is_due(&self) -> bool {
        self.tail.len() >= BULK
    }

    /// Moves the map to disk. `head` is the last row.
    pub(super) fn fill(&mut self, conn: &Connection, head: u64) -> Result<(), Error> {
        let mut rows: Vec<(EventId, u64)> = self.tail.iter().map(|(id, seq)| (*id, *seq)).collect();
        rows.sort_unstable();
        let mut insert = conn.prepare_cached("INSERT OR IGNORE INTO seen(id, seq) VALUES (?1, ?2)")?;
        for (id, seq) in &rows {
            insert.execute(params![id.0, db(*seq)])?;
        }
        conn.prepare_cached("UPDATE meta SET value = ?1 WHERE key = 'indexed_to'")?.execute([db(head)])?;
        self.greatest = self.greatest.max(rows.last().map(|(id, _)| *id));
        self.indexed_to = head;
        self.tail.clear();
        Ok(())
    }
}
