//! Verdicts into positions: one low-water mark per sink, and rows only for what departs from it.
//!
//! The ledger (I4) at every commit: `appended = delivered + filtered + dropped + quarantined + pending`, where pending is
//! `head − position`, less the exceptions above the position, plus the held ones.
//!
//! Must not: move a position in another transaction than its verdicts (I2), or count an event twice.

mod leaving;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::body;
use super::error::Error;
use super::runs::{self, Run};
use super::schema::{db, un};
use super::setback;
use super::state::Tx;
use super::types::{Flight, Seq, Setback, Settlement, SinkId, SinkState, Start};

pub(super) use leaving::{leave, retain};

/// Pending again although the position has passed it, or will.
pub(super) const HELD: i64 = 1;
/// Set aside with a reason.
pub(super) const QUARANTINED: i64 = 2;
/// Settled, and the position has not come so far.
pub(super) const AHEAD: i64 = 3;

/// Longest kept text of a sink's own words, bytes (I10).
const ANSWER_KEPT: usize = 2048;

#[derive(Debug)]
pub(super) struct SinkRow {
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) position: u64,
    pub(super) removed: bool,
    delivered: u64,
    filtered: u64,
    dropped: u64,
    /// Rows in `exception`: while there are none, none is looked for.
    exceptions: u64,
    /// Whether a batch is in flight, and whether it went out with provisional times.
    flight: Option<bool>,
    /// Somebody asked for it since the file was opened.
    opened: bool,
    pub(super) dirty: bool,
    /// Of the mapping and answer rules under which it is served now; empty for a plain sink.
    pub(super) revision: String,
    /// The revision under which something was delivered last.
    pub(super) proven: String,
    run: Option<Run>,
}

impl SinkRow {
    pub(super) fn load(conn: &Connection) -> Result<Vec<Self>, Error> {
        let mut sinks = conn.prepare_cached(
            "SELECT id, name, position, removed_at IS NOT NULL, delivered, filtered, dropped,
                    (SELECT count(*) FROM exception WHERE sink = sink.id),
                    (SELECT provisional FROM flight WHERE sink = sink.id), revision, proven FROM sink ORDER BY id",
        )?;
        let rows = sinks.query_map([], |row| {
            Ok(Self {
                id: row.get(0)?,
                name: row.get(1)?,
                position: un(row.get(2)?),
                removed: row.get(3)?,
                delivered: un(row.get(4)?),
                filtered: un(row.get(5)?),
                dropped: un(row.get(6)?),
                exceptions: un(row.get(7)?),
                flight: row.get(8)?,
                opened: false,
                dirty: false,
                revision: row.get(9)?,
                proven: row.get(10)?,
                run: None,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Writes the run of deliveries that still goes on.
    pub(super) fn write_run(&mut self, conn: &Connection) -> Result<(), Error> {
        runs::write(conn, (self.id, &self.revision), &mut self.run)
    }
}

/// Writes the sinks that changed; the last thing before a commit.
pub(super) fn write_sinks(tx: &mut Tx<'_>) -> Result<(), Error> {
    for sink in &mut tx.state.sinks {
        runs::write_old(tx.conn, (sink.id, &sink.revision), &mut sink.run, tx.now.wall.0)?;
        if !std::mem::take(&mut sink.dirty) {
            continue;
        }
        tx.conn
            .prepare_cached(
                "UPDATE sink SET position = ?2, delivered = ?3, filtered = ?4, dropped = ?5, revision = ?6, proven = ?7
                 WHERE id = ?1",
            )?
            .execute(params![
                sink.id,
                db(sink.position),
                db(sink.delivered),
                db(sink.filtered),
                db(sink.dropped),
                sink.revision,
                sink.proven
            ])?;
    }
    Ok(())
}

pub(super) fn sink<'t>(tx: &'t mut Tx<'_>, id: SinkId) -> Result<&'t mut SinkRow, Error> {
    tx.state
        .sinks
        .iter_mut()
        .find(|s| s.id == id.0)
        .ok_or_else(|| Error::NotFound(format!("there is no sink {}", id.0)))
}

/// Registers a sink, or finds it again. One that comes back after a person removed it goes on where it stood; what was
/// pruned meanwhile is dropped, and counted so.
pub(super) fn register(tx: &mut Tx<'_>, name: &str, start: Start) -> Result<SinkState, Error> {
    if let Some(at) = tx.state.sinks.iter().position(|sink| sink.name == name) {
        if tx.state.sinks[at].removed {
            leaving::revive(tx, at)?;
        }
        let head = tx.state.head;
        let opened_at = tx.state.opened_at;
        let sink = &mut tx.state.sinks[at];
        // What was appended since the file was opened can't have left before somebody serves the sink.
        let doubt_to = Seq(if std::mem::replace(&mut sink.opened, true) { head } else { opened_at });
        let (id, position) = (SinkId(sink.id), Seq(sink.position));
        let (setback, ahead) = (setback::load(tx, id)?, setback::ahead(tx, id)?);
        return Ok(SinkState { id, position, flight: load_flight(tx.conn, id)?, doubt_to, setback, ahead });
    }
    let after = match start {
        Start::Now => tx.state.head,
        Start::All => erased_to(tx.conn)?,
    };
    tx.conn.execute("INSERT INTO sink(name, started_after, position) VALUES (?1, ?2, ?2)", params![name, db(after)])?;
    let id = u32::try_from(tx.conn.last_insert_rowid()).map_err(|_| Error::Corrupt("too many sinks".to_owned()))?;
    tx.state.sinks.push(SinkRow {
        id,
        name: name.to_owned(),
        position: after,
        removed: false,
        delivered: 0,
        filtered: 0,
        dropped: 0,
        exceptions: 0,
        flight: None,
        opened: true,
        dirty: false,
        revision: String::new(),
        proven: String::new(),
        run: None,
    });
    let setback = Setback::default();
    Ok(SinkState { id: SinkId(id), position: Seq(after), flight: None, doubt_to: Seq(0), setback, ahead: 0 })
}

/// The last row whose body is gone.
pub(super) fn erased_to(conn: &Connection) -> Result<u64, Error> {
    let mut find = conn.prepare_cached("SELECT seq FROM checkpoint WHERE kind = 'body'")?;
    Ok(find.query_row([], |row| row.get::<_, i64>(0)).optional()?.map_or(0, un))
}

/// Keeps a batch in flight.
pub(super) fn launch(tx: &mut Tx<'_>, id: SinkId, flight: &Flight, packed: &[u8]) -> Result<(), Error> {
    let provisional = tx.state.boot.anchor.is_none() && any_provisional(tx, &flight.seqs)?;
    sink(tx, id)?.flight = Some(provisional);
    tx.conn
        .prepare_cached(
            "INSERT OR REPLACE INTO flight(sink, key, seqs, body, provisional) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![id.0, flight.key, pack_seqs(&flight.seqs), packed, provisional])?;
    Ok(())
}

fn any_provisional(tx: &Tx<'_>, seqs: &[Seq]) -> Result<bool, Error> {
    for seq in seqs.iter().filter(|seq| seq.0 >= tx.state.boot.first_seq) {
        if is_unsynchronised(tx.conn, seq.0)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_unsynchronised(conn: &Connection, seq: u64) -> Result<bool, Error> {
    let mut find = conn.prepare_cached("SELECT body FROM event WHERE seq = ?1")?;
    let mut rows = find.query([db(seq)])?;
    let Some(row) = rows.next()? else { return Ok(false) };
    let head = body::peek(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?);
    Ok(head.is_ok_and(|head| !head.synchronised))
}

fn pack_seqs(seqs: &[Seq]) -> Vec<u8> {
    seqs.iter().flat_map(|seq| seq.0.to_be_bytes()).collect()
}

fn load_flight(conn: &Connection, sink: SinkId) -> Result<Option<Flight>, Error> {
    let mut find = conn.prepare_cached("SELECT key, seqs, body FROM flight WHERE sink = ?1")?;
    let row: Option<(String, Vec<u8>, Vec<u8>)> =
        find.query_row([sink.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
    let Some((key, seqs, packed)) = row else { return Ok(None) };
    let seqs = seqs.as_chunks::<8>().0.iter().map(|bytes| Seq(u64::from_be_bytes(*bytes))).collect();
    let body = lz4_flex::block::decompress_size_prepended(&packed)
        .map_err(|_| Error::Corrupt("the batch in flight can't be unpacked".to_owned()))?;
    Ok(Some(Flight { key, seqs, body }))
}

/// Settles events, moves the position and forgets the batch in flight.
pub(super) fn settle(tx: &mut Tx<'_>, id: SinkId, verdicts: &[(Seq, Settlement)]) -> Result<(), Error> {
    let at = tx
        .state
        .sinks
        .iter()
        .position(|s| s.id == id.0)
        .ok_or_else(|| Error::NotFound(format!("there is no sink {}", id.0)))?;
    let mut ordered: Vec<&(Seq, Settlement)> = verdicts.iter().collect();
    ordered.sort_by_key(|(seq, _)| *seq);
    for (seq, settlement) in ordered {
        settle_one(tx, at, seq.0, settlement)?;
    }
    absorb(tx, at)?;
    forget_flight(tx, id)
}

/// Forgets the batch in flight, if there is one.
pub(super) fn forget_flight(tx: &mut Tx<'_>, id: SinkId) -> Result<(), Error> {
    let sink = sink(tx, id)?;
    if sink.flight.take().is_some() {
        tx.conn.prepare_cached("DELETE FROM flight WHERE sink = ?1")?.execute([id.0])?;
    }
    Ok(())
}

/// Quarantines rows that can't be read: the batch in flight is none of their business.
pub(super) fn quarantine_damaged(tx: &mut Tx<'_>, id: SinkId, seqs: &[Seq]) -> Result<(), Error> {
    let flight = sink(tx, id)?.flight.take();
    let settlement =
        || Settlement::Quarantined { reason: "damaged in the journal".to_owned(), answer: String::new(), attempts: 0 };
    let verdicts: Vec<_> = seqs.iter().map(|seq| (*seq, settlement())).collect();
    settle(tx, id, &verdicts)?;
    sink(tx, id)?.flight = flight;
    Ok(())
}

fn settle_one(tx: &mut Tx<'_>, at: usize, seq: u64, settlement: &Settlement) -> Result<(), Error> {
    let conn = tx.conn;
    let sink = &mut tx.state.sinks[at];
    if seq == 0 || seq > tx.state.head {
        tracing::warn!(sink = sink.name, seq, "a verdict for an event that does not exist was ignored");
        return Ok(());
    }
    let state = if sink.exceptions == 0 { None } else { exception(conn, sink.id, seq)? };
    match (state, settlement) {
        // A verdict on a released event.
        (Some(HELD), Settlement::Quarantined { reason, answer, attempts }) => {
            // The tries before count, too: the next key of the event is made of their number.
            let attempts = attempts.saturating_add(attempts_of(conn, sink.id, seq)?);
            let again = Settlement::Quarantined { reason: reason.clone(), answer: answer.clone(), attempts };
            put_exception(conn, sink, seq, &again, tx.now.wall.0)?;
        }
        (Some(HELD), _) if seq <= sink.position => {
            delete_exception(conn, sink.id, seq)?;
            sink.exceptions -= 1;
            sink.dirty = true;
            count(sink, settlement);
        }
        (Some(HELD), _) => {
            conn.prepare_cached("UPDATE exception SET state = 3 WHERE sink = ?1 AND seq = ?2")?
                .execute(params![sink.id, db(seq)])?;
            sink.dirty = true;
            count(sink, settlement);
        }
        // Settled before: a repeated verdict changes nothing.
        (Some(_), _) => return Ok(()),
        (None, _) if seq <= sink.position => return Ok(()),
        (None, Settlement::Quarantined { .. }) => {
            put_exception(conn, sink, seq, settlement, tx.now.wall.0)?;
            sink.exceptions += 1;
        }
        (None, _) => {
            if seq == sink.position + 1 {
                sink.position = seq;
            } else {
                put_exception(conn, sink, seq, settlement, 0)?;
                sink.exceptions += 1;
            }
            sink.dirty = true;
            count(sink, settlement);
        }
    }
    let left_early = tx.shared.was_read_provisional(tx.state.sinks[at].id, seq);
    if left_early {
        tx.settled_provisional.push((tx.state.sinks[at].id, seq));
    }
    if matches!(settlement, Settlement::Delivered | Settlement::Confirmed { .. }) {
        let sink = &mut tx.state.sinks[at];
        runs::note(conn, (sink.id, &sink.revision), &mut sink.run, seq, tx.now.wall.0)?;
        if let Settlement::Confirmed { remote_id } = settlement {
            runs::keep_remote_id(conn, sink.id, seq, cap(remote_id))?;
        }
        correct_late(tx, at, seq, left_early)?;
    }
    if tx.state.sinks[at].position + 1 == seq {
        absorb(tx, at)?;
    }
    Ok(())
}

const fn count(sink: &mut SinkRow, settlement: &Settlement) {
    match settlement {
        Settlement::Delivered | Settlement::Confirmed { .. } => sink.delivered += 1,
        Settlement::Filtered => sink.filtered += 1,
        // Counted by its row.
        Settlement::Quarantined { .. } => {}
    }
}

fn exception(conn: &Connection, sink: u32, seq: u64) -> Result<Option<i64>, Error> {
    let mut find = conn.prepare_cached("SELECT state FROM exception WHERE sink = ?1 AND seq = ?2")?;
    Ok(find.query_row(params![sink, db(seq)], |row| row.get(0)).optional()?)
}

fn attempts_of(conn: &Connection, sink: u32, seq: u64) -> Result<u32, Error> {
    let mut find = conn.prepare_cached("SELECT attempts FROM exception WHERE sink = ?1 AND seq = ?2")?;
    Ok(find.query_row(params![sink, db(seq)], |row| row.get(0))?)
}

fn delete_exception(conn: &Connection, sink: u32, seq: u64) -> Result<(), Error> {
    conn.prepare_cached("DELETE FROM exception WHERE sink = ?1 AND seq = ?2")?.execute(params![sink, db(seq)])?;
    Ok(())
}

fn put_exception(conn: &Connection, sink: &SinkRow, seq: u64, settlement: &Settlement, at: i64) -> Result<(), Error> {
    let (state, reason, answer, attempts) = match settlement {
        Settlement::Quarantined { reason, answer, attempts } => {
            (QUARANTINED, reason.as_str(), answer.as_str(), *attempts)
        }
        Settlement::Delivered | Settlement::Confirmed { .. } | Settlement::Filtered => (AHEAD, "", "", 0),
    };
    conn.prepare_cached(
        "INSERT OR REPLACE INTO exception(sink, seq, state, reason, answer, attempts, at, revision)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![sink.id, db(seq), state, cap(reason), cap(answer), attempts, at, sink.revision])?;
    Ok(())
}

fn cap(text: &str) -> &str {
    &text[..text.floor_char_boundary(ANSWER_KEPT)]
}

/// Moves the position over what was settled or set aside ahead of it: one walk along the rows and one deletion, since a
/// backlog that new events went ahead of ends with a hundred thousand of them.
fn absorb(tx: &mut Tx<'_>, at: usize) -> Result<(), Error> {
    let sink = &mut tx.state.sinks[at];
    if sink.exceptions == 0 {
        return Ok(());
    }
    let (from, mut to) = (sink.position, sink.position);
    {
        let mut rows = tx.conn.prepare_cached("SELECT seq FROM exception WHERE sink = ?1 AND seq > ?2 ORDER BY seq")?;
        let mut rows = rows.query(params![sink.id, db(from)])?;
        while let Some(row) = rows.next()? {
            if un(row.get(0)?) != to + 1 {
                break;
            }
            to += 1;
        }
    }
    if to == from {
        return Ok(());
    }
    // Held and quarantined rows stay; the position passes them.
    let gone = tx
        .conn
        .prepare_cached("DELETE FROM exception WHERE sink = ?1 AND seq > ?2 AND seq <= ?3 AND state = ?4")?
        .execute(params![sink.id, db(from), db(to), AHEAD])?;
    sink.exceptions -= gone as u64;
    sink.position = to;
    sink.dirty = true;
    Ok(())
}

/// An event that was read before its boot's clock was right (`left_early`), and settled after: it left with the old times.
fn correct_late(tx: &mut Tx<'_>, at: usize, seq: u64, left_early: bool) -> Result<(), Error> {
    let sink = &tx.state.sinks[at];
    if tx.state.boot.anchor.is_none() || seq < tx.state.boot.first_seq {
        return Ok(());
    }
    if sink.flight != Some(true) && !left_early {
        return Ok(());
    }
    if is_unsynchronised(tx.conn, seq)? {
        add_correction(tx.conn, sink.id, seq)?;
        tx.nudge = true;
    }
    Ok(())
}

pub(super) fn add_correction(conn: &Connection, sink: u32, seq: u64) -> Result<(), Error> {
    conn.prepare_cached("INSERT OR IGNORE INTO correction(sink, seq) VALUES (?1, ?2)")?
        .execute(params![sink, db(seq)])?;
    Ok(())
}

/// A quarantined event is settled as dropped.
pub(super) fn give_up(tx: &mut Tx<'_>, at: usize, seq: u64) -> Result<(), Error> {
    let sink = &mut tx.state.sinks[at];
    if seq <= sink.position {
        delete_exception(tx.conn, sink.id, seq)?;
        sink.exceptions -= 1;
    } else {
        tx.conn
            .prepare_cached("UPDATE exception SET state = 3 WHERE sink = ?1 AND seq = ?2")?
            .execute(params![sink.id, db(seq)])?;
    }
    sink.dropped += 1;
    sink.dirty = true;
    Ok(())
}

/// The place of the sink of this name among the sinks.
pub(super) fn named(tx: &Tx<'_>, name: &str) -> Result<usize, Error> {
    let at = tx.state.sinks.iter().position(|sink| sink.name == name);
    at.ok_or_else(|| Error::NotFound(format!("there is no sink '{name}'")))
}

/// Makes quarantined events pending again.
pub(super) fn release(tx: &mut Tx<'_>, name: &str, seqs: Option<&[Seq]>) -> Result<u64, Error> {
    let id = tx.state.sinks[named(tx, name)?].id;
    let released = match seqs {
        None => tx.conn.execute("UPDATE exception SET state = 1 WHERE sink = ?1 AND state = 2", [id])?,
        Some(seqs) => {
            let mut update =
                tx.conn.prepare_cached("UPDATE exception SET state = 1 WHERE sink = ?1 AND seq = ?2 AND state = 2")?;
            let mut released = 0;
            for seq in seqs {
                released += update.execute(params![id, db(seq.0)])?;
            }
            released
        }
    };
    tx.nudge |= released > 0;
    Ok(released as u64)
}
