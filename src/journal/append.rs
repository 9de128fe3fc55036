//! Entries into rows: what is new, what was there, what contradicts what was there.
//!
//! Must not: commit, or change a row that is there.

use rusqlite::{CachedStatement, OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};

use super::body::{self, Stored};
use super::chain;
use super::error::Error;
use super::prepared::Prepared;
use super::schema::{db, un};
use super::state::Tx;
use super::types::{Appended, Entry, Redelivery, Seq, SourceId};
use crate::clock::Now;
use crate::event::{Fault, Outcome, Passage, Punch};

/// Rows kept of faults, blind intervals and conflicts, each; their counts stay exact (I10).
pub(super) const NOTES_KEPT: i64 = 10_000;

/// Appends the entries of one caller.
pub(super) fn append(tx: &mut Tx<'_>, entries: &[Entry]) -> Result<Vec<Appended>, Error> {
    let conn = tx.conn;
    let mut insert = conn.prepare_cached("INSERT INTO event(seq, id, hash, body) VALUES (?1, ?2, ?3, ?4)")?;
    let mut answers = Vec::with_capacity(entries.len());
    for (at, entry) in entries.iter().enumerate() {
        answers.push(match entry {
            Entry::Event(event) => append_event(tx, &mut insert, event, &entries[..at])?,
            Entry::Fault { source, device_key, fault, at } => note_fault(tx, *source, device_key, fault, *at)?,
            Entry::Blind { source, from, until, reason } => note_blind(tx, *source, *from, *until, reason)?,
        });
    }
    if tx.state.index.is_due() {
        tx.state.index.fill(conn, tx.state.head)?;
    }
    Ok(answers)
}

fn append_event(
    tx: &mut Tx<'_>,
    insert: &mut CachedStatement<'_>,
    event: &Prepared,
    before: &[Entry],
) -> Result<Appended, Error> {
    let delivery = match &event.redelivery {
        Some(redelivery) => {
            let delivery = Delivery::of(tx, redelivery, before)?;
            if let Some(seq) = delivery.earlier(tx)? {
                return Ok(Appended::Duplicate(Seq(seq)));
            }
            Some(delivery)
        }
        None => None,
    };
    if let Some(seq) = tx.state.index.find(tx.conn, event.id)? {
        return judge_duplicate(tx, seq, event);
    }
    let seq = tx.state.head + 1;
    let hash = chain::link(tx.state.hash, seq, event.id, &event.digest);
    insert.execute(params![db(seq), event.id.0, hash, event.body])?;
    tx.state.head = seq;
    tx.state.hash = hash;
    tx.state.index.add(event.id, seq);
    if let Some(delivery) = delivery {
        delivery.keep(tx, seq)?;
    }
    Ok(Appended::New(Seq(seq)))
}

/// One of the events in one delivery of a message: a message may hold several, told apart by their order.
struct Delivery<'a> {
    link: i64,
    nth: i64,
    redelivery: &'a Redelivery,
}

impl<'a> Delivery<'a> {
    fn of(tx: &mut Tx<'_>, redelivery: &'a Redelivery, before: &[Entry]) -> Result<Self, Error> {
        let same = |entry: &&Entry| matches!(entry, Entry::Event(e) if e.redelivery.as_ref() == Some(redelivery));
        // The events of one message stand together in one call.
        let nth = before.iter().rev().take_while(same).count();
        let link = match tx.state.links.get(&redelivery.session) {
            Some(link) => *link,
            None => {
                tx.conn
                    .prepare_cached("INSERT OR IGNORE INTO link(session) VALUES (?1)")?
                    .execute([&redelivery.session])?;
                let link = tx
                    .conn
                    .prepare_cached("SELECT id FROM link WHERE session = ?1")?
                    .query_row([&redelivery.session], |row| row.get(0))?;
                tx.state.links.insert(redelivery.session.clone(), link);
                link
            }
        };
        Ok(Self { link, nth: i64::try_from(nth).unwrap_or(i64::MAX), redelivery })
    }

    /// Only a repeated delivery (DUP) with the same content can be an earlier one.
    fn earlier(&self, tx: &Tx<'_>) -> Result<Option<u64>, Error> {
        if !self.redelivery.dup {
            return Ok(None);
        }
        let mut find = tx.conn.prepare_cached(
            "SELECT seq FROM redelivery WHERE link = ?1 AND packet = ?2 AND nth = ?3 AND digest = ?4",
        )?;
        let seq = find
            .query_row(params![self.link, self.redelivery.packet_id, self.nth, self.redelivery.digest], |row| {
                row.get::<_, i64>(0)
            })
            .optional()?;
        Ok(seq.map(un))
    }

    fn keep(&self, tx: &Tx<'_>, seq: u64) -> Result<(), Error> {
        tx.conn
            .prepare_cached(
                "INSERT OR REPLACE INTO redelivery(link, packet, nth, digest, seq) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![self.link, self.redelivery.packet_id, self.nth, self.redelivery.digest, db(seq)])?;
        Ok(())
    }
}

/// The same id again: does it say the same? A stub, whose body is gone, can't contradict.
fn judge_duplicate(tx: &Tx<'_>, seq: u64, event: &Prepared) -> Result<Appended, Error> {
    let mut find = tx.conn.prepare_cached("SELECT body FROM event WHERE seq = ?1")?;
    let mut rows = find.query([db(seq)])?;
    let Some(row) = rows.next()? else { return Ok(Appended::Duplicate(Seq(seq))) };
    // A damaged row can't contradict either; `verify` names it.
    let Ok(was) = body::decode(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?) else {
        return Ok(Appended::Duplicate(Seq(seq)));
    };
    let Ok(is) = body::decode(&event.body) else { return Ok(Appended::Duplicate(Seq(seq))) };
    let differing = differences(&was, &is);
    if differing.is_empty() {
        return Ok(Appended::Duplicate(Seq(seq)));
    }
    note_conflict(tx, seq, &is, &differing)?;
    Ok(Appended::Conflict(Seq(seq)))
}

/// Where two records of one id contradict each other. A replay may say less; only what both say is compared.
fn differences(was: &Stored, is: &Stored) -> Vec<&'static str> {
    let both = |a: Option<&str>, b: Option<&str>| matches!((a, b), (Some(a), Some(b)) if a != b);
    let (a, b) = (&was.reading, &is.reading);
    let mut differing = Vec::new();
    if both(a.person.terminal_person_id.as_deref(), b.person.terminal_person_id.as_deref())
        || both(a.person.external_id.as_deref(), b.person.external_id.as_deref())
    {
        differing.push("person");
    }
    let raw = |s: &Stored| s.reading.device_time.as_ref().map(|t| t.raw.clone());
    if both(raw(was).as_deref(), raw(is).as_deref()) {
        differing.push("device_time");
    }
    // "undefined" and "unknown" are ways to say nothing.
    let punch = |p: Option<Punch>| p.filter(|p| *p != Punch::Undefined).map(Punch::as_str);
    let passage = |p: Option<Passage>| p.filter(|p| *p != Passage::Unknown).map(Passage::as_str);
    if both(punch(a.punch), punch(b.punch)) || both(passage(a.passage), passage(b.passage)) {
        differing.push("direction");
    }
    let outcome = |o: Option<Outcome>| o.filter(|o| *o != Outcome::Unknown).map(Outcome::as_str);
    if both(outcome(a.outcome), outcome(b.outcome)) {
        differing.push("outcome");
    }
    differing
}

/// Keeps a conflict once, however often the terminal repeats it. Which fields differ is kept, what they say is not.
fn note_conflict(tx: &Tx<'_>, seq: u64, is: &Stored, differing: &[&str]) -> Result<(), Error> {
    let mut digest = Sha256::new();
    let r = &is.reading;
    let facts = [
        r.person.terminal_person_id.as_deref(),
        r.person.external_id.as_deref(),
        r.device_time.as_ref().map(|t| t.raw.as_str()),
        r.punch.map(Punch::as_str),
        r.passage.map(Passage::as_str),
        r.outcome.map(Outcome::as_str),
    ];
    for fact in facts {
        digest.update([u8::from(fact.is_some())]);
        digest.update(fact.unwrap_or_default());
        digest.update([0xFF]);
    }
    let digest = digest.finalize();
    let added = tx
        .conn
        .prepare_cached("INSERT OR IGNORE INTO conflict(seq, digest, what, at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![db(seq), &digest[..16], differing.join(" "), tx.now.wall.0])?;
    if added > 0 {
        trim(tx, "DELETE FROM conflict WHERE n <= ?1")?;
    }
    Ok(())
}

/// Forgets the oldest notes. Their number is the largest one ever given, so the count survives.
fn trim(tx: &Tx<'_>, sql: &str) -> Result<(), Error> {
    let last = tx.conn.last_insert_rowid();
    if last > NOTES_KEPT {
        tx.conn.prepare_cached(sql)?.execute([last - NOTES_KEPT])?;
    }
    Ok(())
}

fn note_fault(
    tx: &Tx<'_>,
    source: Option<SourceId>,
    device_key: &str,
    fault: &Fault,
    at: Now,
) -> Result<Appended, Error> {
    tx.conn
        .prepare_cached(
            "INSERT INTO fault(source, device_key, kind, detail, length, stream_offset, digest, excerpt, wall, boot_us,
             synchronised) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            source.map(|s| s.0),
            device_key,
            fault.kind.as_str(),
            fault.detail,
            db(fault.length),
            fault.offset.map(db),
            fault.digest,
            fault.excerpt,
            at.wall.0,
            db(at.boot.0),
            at.synchronised
        ])?;
    trim(tx, "DELETE FROM fault WHERE n <= ?1")?;
    Ok(Appended::Noted)
}

fn note_blind(tx: &Tx<'_>, source: SourceId, from: Now, until: Now, reason: &str) -> Result<Appended, Error> {
    tx.conn
        .prepare_cached(
            "INSERT INTO blind(source, from_wall, from_boot_us, until_wall, until_boot_us, synchronised, reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            source.0,
            from.wall.0,
            db(from.boot.0),
            until.wall.0,
            db(until.boot.0),
            from.synchronised && until.synchronised,
            reason
        ])?;
    trim(tx, "DELETE FROM blind WHERE n <= ?1")?;
    Ok(Appended::Noted)
}
