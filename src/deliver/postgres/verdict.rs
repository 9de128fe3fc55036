//! What an error of the database means, by SQLSTATE (PostgreSQL manual, appendix A).
//!
//! Must not: judge by the text of a message, or put detail text, which may quote a row, into a reason.
//!
//! | Class | Meaning |
//! |---|---|
//! | 22 data exception, 23 integrity violation | the event's fault: split, then quarantine |
//! | 23514 without a constraint name ("no partition") | our fault: the schema is incomplete |
//! | 28 login, 42 syntax or access, 3D no database, 3F no schema | our fault |
//! | the driver gives up in words of its own (no password, no TLS) | our fault |
//! | everything else: 08, 40, 53, 57, 58, XX, no code at all | the sink's fault: again |

use tokio_postgres::error::{DbError, SqlState};

use crate::deliver::{Outcome, answer, trust};

pub(in crate::deliver) fn outcome(error: &tokio_postgres::Error, synchronised: bool) -> Outcome {
    if let Some(db) = error.as_db_error() {
        // A month was taken out of the default partition while our rows were on their way into it.
        if *db.code() == SqlState::CHECK_VIOLATION && db.constraint().is_none() && db.table() == Some(DEFAULT) {
            return Outcome::Retry { reason: "the partition of these rows was just made".to_owned(), after: None };
        }
        return judge(db.code(), db.constraint().is_some(), db.message(), || words(db));
    }
    if let Some(problem) = trust::certificate_problem(error) {
        return trust::outcome(problem, synchronised);
    }
    // Everything else comes from the driver or the operating system and speaks of the connection, never of a row. The
    // driver's own text leaves the system's reason out.
    let io = std::error::Error::source(error).and_then(|e| e.downcast_ref::<std::io::Error>());
    let why = io.map_or_else(|| error.to_string(), |io| io.kind().to_string());
    Outcome::Retry { reason: format!("no connection to the database: {why}"), after: None }
}

/// The same for an error of connecting: what the driver refuses in words of its own, and not because of an answer or of the
/// operating system, comes from settings, here or there.
pub(super) fn no_connection(error: &tokio_postgres::Error, synchronised: bool) -> Outcome {
    let found = outcome(error, synchronised);
    let Some(source) = std::error::Error::source(error) else { return found };
    if let Some(io) = source.downcast_ref::<std::io::Error>() {
        // The driver's word for a server that is up and read-only, where one that takes writes is wanted.
        let standby = io.kind() == std::io::ErrorKind::PermissionDenied && io.raw_os_error().is_none();
        return if standby { Outcome::Retry { reason: STANDBY.to_owned(), after: None } } else { found };
    }
    if !matches!(found, Outcome::Retry { .. }) || source.is::<DbError>() {
        return found;
    }
    Outcome::Blocked {
        reason: format!(
            "cannot log in: {source}; check password and tls of the sink, and TLS and pg_hba.conf of the server"
        ),
    }
}

/// The partition of ids that have no month.
const DEFAULT: &str = "event_default";

/// Why a server that takes no writes is no reason to give anything up.
const STANDBY: &str = "the database takes no writes now (a standby, or in recovery)";

/// `message` is the primary message, which names objects and users but no values in the classes where it is used.
fn judge(code: &SqlState, constraint: bool, message: &str, words: impl FnOnce() -> String) -> Outcome {
    let state = code.code();
    let blocked = |remedy: &str| Outcome::Blocked { reason: format!("{message} (SQLSTATE {state}); {remedy}") };
    match state.get(..2).unwrap_or_default() {
        "23" if *code == SqlState::CHECK_VIOLATION && !constraint => Outcome::Blocked {
            reason: format!(
                "no partition takes the row (SQLSTATE {state}); run: portero central init --apply --url URL"
            ),
        },
        "22" | "23" => Outcome::Refused { reason: format!("SQLSTATE {state}"), answer: words() },
        "28" => blocked("check user and password of the sink, and pg_hba.conf"),
        "3D" => blocked("check the database name in the sink's url, or create the database"),
        "3F" => blocked("run: portero central init --apply --url URL"),
        "42" if *code == SqlState::INSUFFICIENT_PRIVILEGE => blocked(
            "the login may not write as this gateway; run: portero central add-gateway ID --login NAME --apply --url URL, \
             or for a login that gateways share: GRANT portero_gateway TO NAME",
        ),
        "42" => {
            blocked("the schema is missing or older than this release; run: portero central init --apply --url URL")
        }
        "25" if *code == SqlState::READ_ONLY_SQL_TRANSACTION => {
            Outcome::Retry { reason: format!("{STANDBY} (SQLSTATE {state})"), after: None }
        }
        _ => Outcome::Retry { reason: format!("the database answered SQLSTATE {state}"), after: None },
    }
}

fn words(error: &DbError) -> String {
    let mut text = error.message().to_owned();
    for part in [error.detail(), error.constraint(), error.column()].into_iter().flatten() {
        text.push_str("; ");
        text.push_str(part);
    }
    answer::keep(&text, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(code: &str, constraint: bool) -> &'static str {
        match judge(&SqlState::from_code(code), constraint, "message", || "detail".to_owned()) {
            Outcome::Settled(_) => "settled",
            Outcome::Refused { .. } => "refused",
            Outcome::Retry { .. } => "retry",
            Outcome::Blocked { .. } => "blocked",
            Outcome::Lost { .. } | Outcome::Gone { .. } => "not of a database",
        }
    }

    #[test]
    fn every_class_has_one_of_three_kinds_of_failure() {
        for code in ["22P02", "22021", "22003", "23502", "23503", "23505"] {
            assert_eq!(judged(code, true), "refused", "{code}");
        }
        assert_eq!((judged("23514", true), judged("23514", false)), ("refused", "blocked"));
        for code in ["28P01", "28000", "42P01", "42501", "42703", "3D000", "3F000"] {
            assert_eq!(judged(code, false), "blocked", "{code}");
        }
        for code in
            ["08006", "40001", "40P01", "53300", "53100", "57P01", "57014", "58030", "XX000", "25006", "0A000", ""]
        {
            assert_eq!(judged(code, false), "retry", "{code}");
        }
    }
}
