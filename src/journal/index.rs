//! Which ids are there already.
//!
//! The newest rows stand outside the on-disk index, in a map in memory: an event alone then changes one page of the
//! index for every [`BULK`] events instead of one for each. When the map is full it is written in order, in the
//! transaction of an append; after a start it is read back from the rows above `indexed_to`.
//!
//! On disk an id is 63 of its bits, as a row number: half the bytes of the whole id, and SQLite fills a page of ascending
//! row numbers to the brim where it splits a page of keys. The few ids that share those bits stand in a table of their
//! own.
//!
//! Must not: answer "new" for an id that is on disk.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::Error;
use super::schema::{db, un};
use crate::event::EventId;

/// Rows outside the on-disk index, at most (a group commit may overshoot by its size). About 300 KiB of memory.
pub(super) const BULK: usize = 4096;

/// Bits of the key that come from the id's hash; the 42 above them are its time in milliseconds, enough until 2109 (a
/// later time only loses its place in the order).
const HASH_BITS: u32 = 21;
const TIME_BITS: u32 = 42;

#[derive(Debug, Default)]
pub(super) struct Index {
    tail: HashMap<EventId, u64, Seed>,
    indexed_to: u64,
    greatest: Option<i64>,
    /// Ids in the table of clashes: while there are none, none is looked for.
    clashes: u64,
}

/// The row number under which an id is indexed.
const fn key(id: EventId) -> i64 {
    let b = id.0;
    let time = u64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]]) & ((1 << TIME_BITS) - 1);
    // The eighth byte holds the UUID's variant; from the ninth on every bit is hash.
    let hash = u64::from_be_bytes([0, 0, 0, 0, 0, b[9], b[10], b[11]]) & ((1 << HASH_BITS) - 1);
    db(time << HASH_BITS | hash)
}

impl Index {
    pub(super) fn load(conn: &Connection) -> Result<Self, Error> {
        let number = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).optional();
        let indexed_to = number("SELECT value FROM meta WHERE key = 'indexed_to'")?.map_or(0, un);
        let mut greatest = number("SELECT key FROM seen ORDER BY key DESC LIMIT 1")?;
        let mut clashes = 0;
        let mut clashing = conn.prepare("SELECT id FROM clash")?;
        for id in clashing.query_map([], |row| row.get(0).map(EventId))? {
            greatest = greatest.max(Some(key(id?)));
            clashes += 1;
        }
        let mut tail = HashMap::default();
        let mut rows = conn.prepare_cached("SELECT seq, id FROM event WHERE seq > ?1")?;
        let mut rows = rows.query([db(indexed_to)])?;
        while let Some(row) = rows.next()? {
            tail.insert(EventId(row.get(1)?), un(row.get(0)?));
        }
        Ok(Self { tail, indexed_to, greatest, clashes })
    }

    pub(super) const fn indexed_to(&self) -> u64 {
        self.indexed_to
    }

    pub(super) fn find(&self, conn: &Connection, id: EventId) -> Result<Option<u64>, Error> {
        if let Some(seq) = self.tail.get(&id) {
            return Ok(Some(*seq));
        }
        let key = key(id);
        // Ids begin with a time: in the usual order nothing on disk can be this id, and no page is read.
        if self.greatest.is_none_or(|greatest| key > greatest) {
            return Ok(None);
        }
        if let Some(seq) = at_key(conn, key)?
            && id_of(conn, seq)? == Some(id)
        {
            return Ok(Some(seq));
        }
        if self.clashes == 0 { Ok(None) } else { among_clashes(conn, id) }
    }

    pub(super) fn add(&mut self, id: EventId, seq: u64) {
        self.tail.insert(id, seq);
    }

    pub(super) fn is_due(&self) -> bool {
        self.tail.len() >= BULK
    }

    /// Moves the map to disk. `head` is the last row.
    pub(super) fn fill(&mut self, conn: &Connection, head: u64) -> Result<(), Error> {
        let mut rows: Vec<(i64, EventId, u64)> = self.tail.iter().map(|(id, seq)| (key(*id), *id, *seq)).collect();
        rows.sort_unstable();
        let mut insert = conn.prepare_cached("INSERT OR IGNORE INTO seen(key, seq) VALUES (?1, ?2)")?;
        for (key, id, seq) in &rows {
            if insert.execute(params![key, db(*seq)])? == 0 {
                let mut clash = conn.prepare_cached("INSERT OR IGNORE INTO clash(id, seq) VALUES (?1, ?2)")?;
                self.clashes += clash.execute(params![id.0, db(*seq)])? as u64;
            }
        }
        conn.prepare_cached("UPDATE meta SET value = ?1 WHERE key = 'indexed_to'")?.execute([db(head)])?;
        self.greatest = self.greatest.max(rows.last().map(|(key, ..)| *key));
        self.indexed_to = head;
        self.tail.clear();
        Ok(())
    }

    /// Takes an id out.
    pub(super) fn forget(&mut self, conn: &Connection, id: EventId, seq: u64) -> Result<(), Error> {
        let mut seen = conn.prepare_cached("DELETE FROM seen WHERE key = ?1 AND seq = ?2")?;
        if seen.execute(params![key(id), db(seq)])? == 0 {
            let mut clash = conn.prepare_cached("DELETE FROM clash WHERE id = ?1")?;
            self.clashes -= clash.execute([id.0])? as u64;
        }
        Ok(())
    }
}

fn at_key(conn: &Connection, key: i64) -> Result<Option<u64>, Error> {
    let mut find = conn.prepare_cached("SELECT seq FROM seen WHERE key = ?1")?;
    Ok(find.query_row([key], |row| row.get::<_, i64>(0)).optional()?.map(un))
}

fn among_clashes(conn: &Connection, id: EventId) -> Result<Option<u64>, Error> {
    let mut find = conn.prepare_cached("SELECT seq FROM clash WHERE id = ?1")?;
    Ok(find.query_row([id.0], |row| row.get::<_, i64>(0)).optional()?.map(un))
}

fn id_of(conn: &Connection, seq: u64) -> Result<Option<EventId>, Error> {
    let mut find = conn
        .prepare_cached("SELECT id FROM event WHERE seq = ?1 UNION ALL SELECT id FROM stub WHERE seq = ?1 LIMIT 1")?;
    Ok(find.query_row([db(seq)], |row| row.get(0).map(EventId)).optional()?)
}

/// The row of an id, for a connection without the map in memory.
pub(super) fn locate(conn: &Connection, id: EventId) -> Result<Option<u64>, Error> {
    if let Some(seq) = at_key(conn, key(id))?
        && id_of(conn, seq)? == Some(id)
    {
        return Ok(Some(seq));
    }
    if let Some(seq) = among_clashes(conn, id)? {
        return Ok(Some(seq));
    }
    let mut newest = conn.prepare_cached(
        "SELECT seq FROM event WHERE seq > (SELECT value FROM meta WHERE key = 'indexed_to') AND id = ?1",
    )?;
    Ok(newest.query_row([id.0], |row| row.get::<_, i64>(0)).optional()?.map(un))
}

/// The rows whose ids begin with a time from `from` to before `until` (milliseconds, as the id has them).
pub(super) fn rows_between(conn: &Connection, from: i64, until: i64) -> Result<Vec<u64>, Error> {
    let edge = |ms: i64| db((un(ms.max(0)) & ((1 << TIME_BITS) - 1)) << HASH_BITS);
    let within = |id: EventId| (edge(from)..edge(until)).contains(&key(id));
    let mut rows = Vec::new();
    let mut seen = conn.prepare_cached("SELECT seq FROM seen WHERE key >= ?1 AND key < ?2")?;
    for seq in seen.query_map([edge(from), edge(until)], |row| row.get::<_, i64>(0))? {
        rows.push(un(seq?));
    }
    let mut others = conn.prepare_cached(
        "SELECT seq, id FROM clash
         UNION ALL SELECT seq, id FROM event WHERE seq > (SELECT value FROM meta WHERE key = 'indexed_to')",
    )?;
    for row in others.query_map([], |row| Ok((row.get::<_, i64>(0)?, EventId(row.get(1)?))))? {
        let (seq, id) = row?;
        if within(id) {
            rows.push(un(seq));
        }
    }
    Ok(rows)
}

/// Whether the on-disk index knows this id as this row.
pub(super) fn is_indexed(conn: &Connection, id: EventId, seq: u64) -> Result<bool, Error> {
    Ok(at_key(conn, key(id))? == Some(seq) || among_clashes(conn, id)? == Some(seq))
}

/// Hashes an id by its last eight bytes, which are hash already, under a secret of this process.
#[derive(Debug, Clone)]
struct Seed {
    odd: u64,
    mask: u64,
}

impl Default for Seed {
    fn default() -> Self {
        let random = RandomState::new();
        Self { odd: random.hash_one(1u8) | 1, mask: random.hash_one(2u8) }
    }
}

impl BuildHasher for Seed {
    type Hasher = Tail;

    fn build_hasher(&self) -> Tail {
        Tail { odd: self.odd, state: self.mask }
    }
}

struct Tail {
    odd: u64,
    state: u64,
}

impl Hasher for Tail {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(tail) = bytes.last_chunk::<8>() {
            let mixed = u128::from(u64::from_ne_bytes(*tail) ^ self.state) * u128::from(self.odd);
            self.state = (mixed >> 64) as u64 ^ mixed as u64;
        }
    }

    fn finish(&self) -> u64 {
        self.state
    }
}
