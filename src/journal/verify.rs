//! Walks the chain and says, row by row, what does not fit.
//!
//! Must not: claim more than it proves. Without an anchor from outside, a journal whose rows were all rewritten, or whose
//! last rows were cut off, is still internally consistent.

use rusqlite::{OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};

use super::body;
use super::chain::{self, GENESIS, hex};
use super::error::Error;
use super::index;
use super::schema::{db, un};
use super::types::{Anchor, Seq, Verification};
use super::view::View;
use crate::event::EventId;

/// Rows read under one snapshot: the writer's checkpoints must not wait for us.
const PAGE: i64 = 1024;

/// Problems listed; the rest is only counted in `ok`.
const PROBLEMS: usize = 100;

struct Walk {
    seq: u64,
    hash: [u8; 16],
    problems: Vec<String>,
    anchor: Option<Anchor>,
    anchored: Option<Seq>,
    indexed_to: u64,
}

struct Link {
    seq: u64,
    id: EventId,
    hash: [u8; 16],
    /// Of a row whose body is gone.
    digest: Option<[u8; 32]>,
    body: Option<Vec<u8>>,
}

/// Verifies everything that is kept.
pub(super) fn verify(view: &mut View, anchor: Option<Anchor>) -> Result<Verification, Error> {
    let conn = view.conn()?;
    let journal_id: [u8; 16] =
        conn.query_row("SELECT value FROM meta WHERE key = 'journal_id'", [], |row| row.get(0))?;
    let journal_id = hex(&journal_id);
    let (seq, hash) = forgotten_to(view)?;
    let indexed_to =
        un(conn.query_row("SELECT value FROM meta WHERE key = 'indexed_to'", [], |row| row.get::<_, i64>(0))?);
    let mut walk = Walk { seq, hash, problems: Vec::new(), anchor: None, anchored: None, indexed_to };
    match anchor {
        Some(anchor) if !anchor.journal_id.eq_ignore_ascii_case(&journal_id) => {
            walk.problem(format!("the anchor is of journal {}, this is {journal_id}", anchor.journal_id));
        }
        anchor => walk.anchor = anchor,
    }
    walk.meet_anchor();
    while walk.page(view)? {}
    walk.end(view)?;
    let anchored = walk.anchored.filter(|_| walk.problems.is_empty());
    Ok(Verification {
        ok: walk.problems.is_empty(),
        journal_id,
        seq: Seq(walk.seq),
        head: hex(&walk.hash),
        anchored,
        problems: walk.problems,
    })
}

/// The last row of which nothing is kept, and its hash.
fn forgotten_to(view: &View) -> Result<(u64, [u8; 16]), Error> {
    let found = view
        .conn()?
        .query_row("SELECT seq, hash FROM checkpoint WHERE kind = 'stub'", [], |row| Ok((un(row.get(0)?), row.get(1)?)))
        .optional()?;
    Ok(found.unwrap_or((0, GENESIS)))
}

impl Walk {
    fn problem(&mut self, text: String) {
        if self.problems.len() < PROBLEMS {
            self.problems.push(text);
        }
    }

    /// Follows the next rows; answers whether there were any.
    fn page(&mut self, view: &View) -> Result<bool, Error> {
        let conn = view.conn()?;
        let mut rows = conn.prepare_cached(
            "SELECT seq, id, hash, digest, NULL FROM stub WHERE seq > ?1
             UNION ALL SELECT seq, id, hash, NULL, body FROM event WHERE seq > ?1 ORDER BY 1 LIMIT ?2",
        )?;
        let links = rows
            .query_map(params![db(self.seq), PAGE], |row| {
                Ok(Link {
                    seq: un(row.get(0)?),
                    id: EventId(row.get(1)?),
                    hash: row.get(2)?,
                    digest: row.get(3)?,
                    body: row.get(4)?,
                })
            })?
            .collect::<rusqlite::Result<Vec<Link>>>()?;
        for link in &links {
            self.follow(view, link)?;
        }
        Ok(!links.is_empty())
    }

    fn follow(&mut self, view: &View, link: &Link) -> Result<(), Error> {
        if link.seq != self.seq + 1 {
            // Retention may have gone past us since we began.
            let (seq, hash) = forgotten_to(view)?;
            if link.seq == seq + 1 {
                (self.seq, self.hash) = (seq, hash);
            } else {
                self.problem(format!("rows {} to {} are missing", self.seq + 1, link.seq - 1));
            }
        }
        if let Some(Err(damage)) = link.body.as_deref().map(body::check) {
            self.problem(format!("row {}: {damage}", link.seq));
        }
        let digest =
            link.digest.or_else(|| link.body.as_ref().map(|body| Sha256::digest(body).into())).unwrap_or_default();
        if chain::link(self.hash, link.seq, link.id, &digest) != link.hash {
            self.problem(format!("row {} does not fit the chain", link.seq));
        }
        if link.seq <= self.indexed_to && !index::is_indexed(view.conn()?, link.id, link.seq)? {
            self.problem(format!("row {} is not in the index of ids", link.seq));
        }
        (self.seq, self.hash) = (link.seq, link.hash);
        self.meet_anchor();
        Ok(())
    }

    fn meet_anchor(&mut self) {
        if let Some(anchor) = self.anchor.take_if(|anchor| anchor.seq.0 == self.seq) {
            if anchor.head == self.hash {
                self.anchored = Some(anchor.seq);
            } else {
                self.problem(format!("row {} is not the row that the anchor saw", anchor.seq.0));
            }
        }
    }

    /// What refers to rows beyond the end shows that the end was cut off.
    fn end(&mut self, view: &View) -> Result<(), Error> {
        if let Some(anchor) = self.anchor.take_if(|anchor| anchor.seq.0 > self.seq) {
            self.problem(format!("the journal ends at row {}, the anchor saw row {}", self.seq, anchor.seq.0));
        }
        let known: i64 = view.conn()?.query_row(
            "SELECT max(coalesce((SELECT max(position) FROM sink), 0), coalesce((SELECT max(seq) FROM checkpoint), 0),
                        (SELECT value FROM meta WHERE key = 'indexed_to'))",
            [],
            |row| row.get(0),
        )?;
        // The reader's snapshot may be older than a settlement that we see now: only the final rows decide.
        let head = view.head()?.0;
        if un(known) > head.max(self.seq) {
            self.problem(format!("rows {} to {known} are missing at the end", head + 1));
        }
        Ok(())
    }
}
