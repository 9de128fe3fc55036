//! A person gives quarantined events up: a recorded verdict, never an oversight (I4).
//!
//! Must not: touch an event that is not quarantined, or count one without a row that says who, when and why.

use rusqlite::params;

use super::error::Error;
use super::schema::db;
use super::settle;
use super::state::Tx;
use super::types::Seq;

/// Longest reason and name kept, characters.
const MAX_TEXT: usize = 500;

/// What a person said, within bounds.
pub(super) fn clipped(said: &str) -> String {
    said.chars().take(MAX_TEXT).collect()
}

/// Drops quarantined events of a sink; answers how many. What isn't quarantined is left alone.
pub(super) fn drop_quarantined(tx: &mut Tx<'_>, name: &str, seqs: &[Seq], why: &str, who: &str) -> Result<u64, Error> {
    let at = settle::named(tx, name)?;
    let (why, who) = (clipped(why), clipped(who));
    let mut dropped = 0;
    for seq in seqs {
        let sink = &tx.state.sinks[at];
        let kept = tx
            .conn
            .prepare_cached(
                "INSERT INTO dropped(sink, seq, why, who, at, reason, answer)
                 SELECT sink, seq, ?3, ?4, ?5, reason, answer FROM exception
                 WHERE sink = ?1 AND seq = ?2 AND state = ?6",
            )?
            .execute(params![sink.id, db(seq.0), why, who, tx.now.wall.0, settle::QUARANTINED])?;
        if kept > 0 {
            settle::give_up(tx, at, seq.0)?;
            dropped += 1;
        }
    }
    Ok(dropped)
}
