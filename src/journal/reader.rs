//! A thread that reads, and the questions of the relays.
//!
//! Must not: answer with a row that its sink has settled, or let one damaged row hold up the others.

use rusqlite::params;
use tokio::sync::{mpsc, oneshot};

use super::edit;
use super::error::Error;
use super::schema::db;
use super::types::{Record, Seq, SinkId, SourceId};
use super::view::{self, Row, View};
use crate::event::{BootTime, Identity};

/// Questions that may wait for a reader (I10).
pub(super) const QUEUE: usize = 64;

/// How far back the last presence is looked for, rows: half a second of silence ends a presence.
const PRESENCE_DEPTH: u64 = 2048;

pub(super) enum Question {
    Ask(Box<dyn FnOnce(&mut View) + Send>),
    Stop(oneshot::Sender<()>),
}

/// Starts a thread that answers questions until it is stopped or nobody is left to ask.
pub(super) fn start(name: &str, mut view: View) -> Result<mpsc::Sender<Question>, Error> {
    let (sender, mut questions) = mpsc::channel(QUEUE);
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _guard = super::shared::AbortOnPanic;
            while let Some(question) = questions.blocking_recv() {
                match question {
                    Question::Ask(ask) => ask(&mut view),
                    Question::Stop(answer) => {
                        drop(view);
                        let _ = answer.send(());
                        return;
                    }
                }
            }
        })
        .map_err(|error| Error::Io(format!("can't start a thread: {error}")))?;
    Ok(sender)
}

/// Puts a question, waits for the answer. After an error of the disk the connection is opened anew.
pub(super) async fn ask<T: Send + 'static>(
    reader: &mpsc::Sender<Question>,
    question: impl FnOnce(&mut View) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (answer, answered) = oneshot::channel();
    let ask = Box::new(move |view: &mut View| {
        let result = view.ready().and_then(|()| question(view));
        if matches!(result, Err(Error::Io(_) | Error::Corrupt(_))) {
            view.discard();
        }
        let _ = answer.send(result);
    });
    reader.send(Question::Ask(ask)).await.map_err(|_| Error::Closed)?;
    answered.await.map_err(|_| Error::Closed)?
}

/// Records, and the rows that could not be read.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) records: Vec<Record>,
    pub(super) damaged: Vec<Seq>,
}

impl Found {
    fn add(&mut self, view: &mut View, row: &Row) -> Result<(), Error> {
        match view.record(row) {
            Ok(record) => self.records.push(record),
            Err(Error::Corrupt(reason)) => {
                tracing::error!(seq = row.seq, reason, "journal row is damaged and is set aside");
                self.damaged.push(Seq(row.seq));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn rows(
    view: &View,
    sql: &str,
    params: impl rusqlite::Params,
    most: usize,
    mut bytes: usize,
) -> Result<Vec<Row>, Error> {
    let mut statement = view.conn()?.prepare_cached(sql)?;
    let mut found = statement.query(params)?;
    let mut rows = Vec::with_capacity(most.min(1024));
    while let Some(row) = found.next()? {
        let row = view::row(row)?;
        let size = row.body.len();
        if !rows.is_empty() && size > bytes {
            break;
        }
        bytes = bytes.saturating_sub(size);
        rows.push(row);
    }
    Ok(rows)
}

fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// Unsettled events after `after` and after the sink's position, ascending.
pub(super) fn read_after(view: &mut View, sink: SinkId, after: Seq, most: usize, bytes: usize) -> Result<Found, Error> {
    found(
        view,
        "SELECT seq, id, body FROM event
         WHERE seq > max(?2, (SELECT position FROM sink WHERE id = ?1))
           AND NOT EXISTS (SELECT 1 FROM exception x WHERE x.sink = ?1 AND x.seq = event.seq)
         ORDER BY seq LIMIT ?3",
        params![sink.0, db(after.0), limit(most)],
        most,
        bytes,
    )
}

/// Events that a person released from quarantine, ascending.
pub(super) fn held(view: &mut View, sink: SinkId, most: usize) -> Result<Found, Error> {
    let mut found = found(
        view,
        "SELECT e.seq, e.id, e.body FROM exception x JOIN event e ON e.seq = x.seq
         WHERE x.sink = ?1 AND x.state = 1 ORDER BY x.seq LIMIT ?2",
        params![sink.0, limit(most)],
        most,
        usize::MAX,
    )?;
    edit::attach(view.conn()?, sink, &mut found.records)?;
    Ok(found)
}

/// Events whose corrections a sink still has to learn, ascending.
pub(super) fn corrections(view: &mut View, sink: SinkId, most: usize) -> Result<Found, Error> {
    found(
        view,
        "SELECT e.seq, e.id, e.body FROM correction c JOIN event e ON e.seq = c.seq
         WHERE c.sink = ?1 ORDER BY c.seq LIMIT ?2",
        params![sink.0, limit(most)],
        most,
        usize::MAX,
    )
}

/// These events as a sink gets them, ascending: with what happened to them there before.
pub(super) fn read_for(view: &mut View, sink: SinkId, seqs: &[Seq]) -> Result<Found, Error> {
    let mut found = read(view, seqs)?;
    edit::attach(view.conn()?, sink, &mut found.records)?;
    Ok(found)
}

/// These events, ascending; what was pruned or can't be read is left out.
pub(super) fn read(view: &mut View, seqs: &[Seq]) -> Result<Found, Error> {
    let mut ordered = seqs.to_vec();
    ordered.sort_unstable();
    ordered.dedup();
    view.snapshot(|view| {
        let mut found = Found::default();
        for seq in ordered {
            let row = rows(view, "SELECT seq, id, body FROM event WHERE seq = ?1", [db(seq.0)], 1, usize::MAX)?;
            for row in &row {
                found.add(view, row)?;
            }
        }
        Ok(found)
    })
}

/// Rows, and what they say, as of one moment.
fn found(view: &mut View, sql: &str, params: impl rusqlite::Params, most: usize, bytes: usize) -> Result<Found, Error> {
    view.snapshot(|view| {
        let rows = rows(view, sql, params, most, bytes)?;
        let mut found = Found { records: Vec::with_capacity(rows.len()), damaged: Vec::new() };
        for row in &rows {
            found.add(view, row)?;
        }
        Ok(found)
    })
}

/// The card or tag of the last presence of a terminal in this boot.
pub(super) fn last_presence(
    view: &mut View,
    source: SourceId,
    boot_id: [u8; 16],
) -> Result<Option<(String, BootTime)>, Error> {
    let (boot, first): ([u8; 16], i64) =
        match view.conn()?.query_row("SELECT boot_id, first_seq FROM boot ORDER BY first_seq DESC LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        }) {
            Ok(found) => found,
            Err(rusqlite::Error::QueryReturnedNoRows) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
    if boot != boot_id {
        return Ok(None);
    }
    let from = view.head()?.0.saturating_sub(PRESENCE_DEPTH);
    let mut statement =
        view.conn()?.prepare_cached("SELECT body FROM event WHERE seq >= max(?1, ?2) ORDER BY seq DESC")?;
    let mut found = statement.query([first, db(from)])?;
    while let Some(row) = found.next()? {
        let bytes = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        if !super::body::peek(bytes).is_ok_and(|head| head.source == source) {
            continue;
        }
        let Ok(stored) = super::body::decode(bytes) else { continue };
        if stored.reading.identity == Identity::Presence {
            let c = &stored.reading.credential;
            let person = stored.reading.person.terminal_person_id.as_ref();
            let shown = c.card_number.as_ref().or(c.bits_hex.as_ref()).or(person);
            return Ok(shown.map(|text| (text.clone(), stored.times.received_boot)));
        }
    }
    Ok(None)
}
