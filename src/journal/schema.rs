//! The file: settings of a connection, tables, numbered migrations.
//!
//! Must not: weaken a setting silently. Journal mode and sync level are read back and refused if they are not what was
//! asked for. A migration is never edited once released; the next one is added below it.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::error::Error;
use super::lock::beside;
use super::types::Config;

/// Readers of the file must be at least this; written into new files as `min_reader`.
pub(super) const OUR_READER: u32 = 1;

/// Chosen by measuring, see the table in the module's documentation.
pub(super) const PAGE_SIZE: u32 = 512;

/// Pages in the WAL before the writer copies them back. The larger, the fewer times a page that changes with every
/// commit is written; 8192 pages of 1024 bytes are 8 MiB.
const CHECKPOINT_PAGES: u32 = 8192;

/// The WAL file is cut back to this after a checkpoint, bytes.
const WAL_LIMIT: u32 = 16 << 20;

/// The first version whose WAL can't be corrupted by a checkpoint that meets a reset (sqlite.org/wal.html, "The
/// WAL-Reset Bug").
pub(super) const MIN_SQLITE: i32 = 3_051_003;

/// Page cache of the writer and of a reader, KiB.
const WRITER_CACHE_KIB: i32 = 1024;
const READER_CACHE_KIB: i32 = 512;

/// How long a connection waits for another one's lock. The writer is alone; only a recovery or a backup can hold it up.
const BUSY: Duration = Duration::from_secs(5);

const MIGRATIONS: &[&str] = &[
    // 1: the first layout.
    "
    CREATE TABLE meta(key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO meta(key, value) VALUES ('journal_id', randomblob(16)), ('min_reader', 1), ('indexed_to', 0);

    CREATE TABLE source(
        id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, site TEXT NOT NULL, gateway TEXT NOT NULL,
        terminal TEXT NOT NULL, protocol TEXT NOT NULL, zone TEXT NOT NULL,
        UNIQUE(tenant, site, gateway, terminal, protocol, zone)) STRICT;
    -- The rows from first_seq up to the next boot's were heard in this boot.
    CREATE TABLE boot(first_seq INTEGER PRIMARY KEY, boot_id BLOB NOT NULL) STRICT;
    CREATE TABLE anchor(
        boot_id BLOB PRIMARY KEY, boot_us INTEGER NOT NULL, utc_us INTEGER NOT NULL,
        at_seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;

    CREATE TABLE event(seq INTEGER PRIMARY KEY, id BLOB NOT NULL, hash BLOB NOT NULL, body BLOB NOT NULL) STRICT;
    -- 63 bits of an id, and for ids that share them with another the whole id.
    CREATE TABLE seen(key INTEGER PRIMARY KEY, seq INTEGER NOT NULL) STRICT;
    CREATE TABLE clash(id BLOB PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE stub(
        seq INTEGER PRIMARY KEY, id BLOB NOT NULL, digest BLOB NOT NULL, hash BLOB NOT NULL,
        day INTEGER NOT NULL) STRICT;
    -- kind 'body': bodies up to seq are erased; kind 'stub': nothing is left up to seq.
    CREATE TABLE checkpoint(
        kind TEXT PRIMARY KEY, seq INTEGER NOT NULL, hash BLOB NOT NULL, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE conflict(
        n INTEGER PRIMARY KEY, seq INTEGER NOT NULL, digest BLOB NOT NULL, what TEXT NOT NULL, at INTEGER NOT NULL,
        UNIQUE(seq, digest)) STRICT;
    CREATE TABLE link(id INTEGER PRIMARY KEY, session TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE redelivery(
        link INTEGER NOT NULL, packet INTEGER NOT NULL, nth INTEGER NOT NULL, digest BLOB NOT NULL,
        seq INTEGER NOT NULL, PRIMARY KEY(link, packet, nth)) STRICT, WITHOUT ROWID;
    CREATE TABLE fault(
        n INTEGER PRIMARY KEY, source INTEGER, device_key TEXT NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL,
        length INTEGER NOT NULL, stream_offset INTEGER, digest BLOB NOT NULL, excerpt TEXT NOT NULL,
        wall INTEGER NOT NULL, boot_us INTEGER NOT NULL, synchronised INTEGER NOT NULL) STRICT;
    CREATE TABLE blind(
        n INTEGER PRIMARY KEY, source INTEGER NOT NULL, from_wall INTEGER NOT NULL, from_boot_us INTEGER NOT NULL,
        until_wall INTEGER NOT NULL, until_boot_us INTEGER NOT NULL, synchronised INTEGER NOT NULL,
        reason TEXT NOT NULL) STRICT;

    CREATE TABLE sink(
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, started_after INTEGER NOT NULL, position INTEGER NOT NULL,
        delivered INTEGER NOT NULL DEFAULT 0, filtered INTEGER NOT NULL DEFAULT 0,
        dropped INTEGER NOT NULL DEFAULT 0, removed_at INTEGER,
        revision TEXT NOT NULL DEFAULT '', proven TEXT NOT NULL DEFAULT '') STRICT;
    -- state 1: held (pending again), 2: quarantined, 3: settled ahead of the position.
    CREATE TABLE exception(
        sink INTEGER NOT NULL, seq INTEGER NOT NULL, state INTEGER NOT NULL, reason TEXT NOT NULL DEFAULT '',
        answer TEXT NOT NULL DEFAULT '', attempts INTEGER NOT NULL DEFAULT 0, at INTEGER NOT NULL DEFAULT 0,
        revision TEXT NOT NULL DEFAULT '', PRIMARY KEY(sink, seq)) STRICT, WITHOUT ROWID;
    -- Runs of deliveries: when, and under which revision of the sink's mapping.
    CREATE TABLE delivery(
        sink INTEGER NOT NULL, last_seq INTEGER NOT NULL, first_seq INTEGER NOT NULL, first_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL, revision TEXT NOT NULL, PRIMARY KEY(sink, last_seq)) STRICT, WITHOUT ROWID;
    -- What a sink calls an event.
    CREATE TABLE remote(
        sink INTEGER NOT NULL, seq INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY(sink, seq)) STRICT, WITHOUT ROWID;
    -- Quarantined events that a person gave up.
    CREATE TABLE dropped(
        sink INTEGER NOT NULL, seq INTEGER NOT NULL, why TEXT NOT NULL, who TEXT NOT NULL, at INTEGER NOT NULL,
        reason TEXT NOT NULL, answer TEXT NOT NULL, PRIMARY KEY(sink, seq)) STRICT, WITHOUT ROWID;
    CREATE TABLE flight(
        sink INTEGER PRIMARY KEY, key TEXT NOT NULL, seqs BLOB NOT NULL, body BLOB NOT NULL,
        provisional INTEGER NOT NULL) STRICT;
    CREATE TABLE correction(
        sink INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY(sink, seq)) STRICT, WITHOUT ROWID;

    -- The worker directory: a number or card, and what the platform calls the person.
    CREATE TABLE person(key TEXT PRIMARY KEY, external_id TEXT NOT NULL, name TEXT) STRICT, WITHOUT ROWID;
    CREATE TABLE session(client_id TEXT PRIMARY KEY, subscriptions TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE device(
        source INTEGER NOT NULL, device_key TEXT NOT NULL, last_heard INTEGER NOT NULL, last_native_seq INTEGER,
        epoch INTEGER NOT NULL, gaps INTEGER NOT NULL, PRIMARY KEY(source, device_key)) STRICT, WITHOUT ROWID;
    ",
    // 2: what a person puts in the place of what would go out, the event itself stays as it is; how a sink was failing, times
    // in microseconds.
    "
    CREATE TABLE edit(
        sink INTEGER NOT NULL, seq INTEGER NOT NULL, fields TEXT NOT NULL, why TEXT NOT NULL, who TEXT NOT NULL,
        at INTEGER NOT NULL, PRIMARY KEY(sink, seq)) STRICT, WITHOUT ROWID;
    CREATE TABLE setback(
        sink INTEGER PRIMARY KEY, attempts INTEGER NOT NULL, open INTEGER NOT NULL, live_first INTEGER NOT NULL,
        wait INTEGER NOT NULL, until_wall INTEGER NOT NULL, until_boot INTEGER NOT NULL,
        boot_id BLOB NOT NULL) STRICT;
    -- The held and the quarantined among the many that are only settled ahead.
    CREATE INDEX exception_held ON exception(sink, seq) WHERE state = 1;
    CREATE INDEX exception_quarantined ON exception(sink, seq) WHERE state = 2;
    ",
    // 3: everything above after_seq, up to last_seq, that a sink had not got when a person gave the sink up.
    "
    CREATE TABLE abandoned(
        n INTEGER PRIMARY KEY, sink INTEGER NOT NULL, after_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL,
        count INTEGER NOT NULL, why TEXT NOT NULL, who TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
    ",
];

/// Settings that a benchmark may change; everybody else uses the default.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tuning {
    pub(super) page_size: u32,
    pub(super) checkpoint_pages: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { page_size: PAGE_SIZE, checkpoint_pages: CHECKPOINT_PAGES }
    }
}

/// Opens the write connection, sets it up, migrates.
pub(super) fn open_writer(config: &Config, tuning: Tuning) -> Result<Connection, Error> {
    if rusqlite::version_number() < MIN_SQLITE {
        return Err(Error::Unsafe(format!(
            "SQLite {} may damage a WAL; build with the bundled one",
            rusqlite::version()
        )));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(&config.path, flags)?;
    conn.busy_timeout(BUSY)?;
    conn.set_prepared_statement_cache_capacity(48);
    let pages: i64 = conn.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    if pages > 0
        && version(&conn)? == 0
        && conn.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get::<_, i64>(0))? > 0
    {
        return Err(Error::Unsafe(format!(
            "{} is another program's database; check [journal] path",
            config.path.display()
        )));
    }
    if pages == 0 {
        conn.pragma_update(None, "page_size", tuning.page_size)?;
        conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    let mode: String = conn.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Error::Unsafe(format!("the file system gives journal mode '{mode}' where WAL is needed")));
    }
    conn.pragma_update(None, "synchronous", "FULL")?;
    common(&conn, WRITER_CACHE_KIB)?;
    conn.query_row(&format!("PRAGMA journal_size_limit={WAL_LIMIT}"), [], |_| Ok(()))?;
    conn.query_row(&format!("PRAGMA wal_autocheckpoint={}", tuning.checkpoint_pages), [], |_| Ok(()))?;
    conn.pragma_update(None, "foreign_keys", "OFF")?;
    let sync: i64 = conn.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
    if sync != 2 {
        return Err(Error::Unsafe(format!("synchronous is {sync} where FULL (2) is needed")));
    }
    bound(&conn, config.max_bytes, false)?;
    migrate(&mut conn, &config.path)?;
    Ok(conn)
}

/// Sets how far the file may grow. Appends may use fifteen parts of sixteen: settling and pruning, which make room, must
/// still find some.
pub(super) fn bound(conn: &Connection, max_bytes: u64, appends: bool) -> Result<(), Error> {
    let page_size: u64 = conn.query_row("PRAGMA page_size", [], |row| row.get::<_, u32>(0))?.into();
    let pages = pages(max_bytes, page_size, appends);
    Ok(conn.query_row(&format!("PRAGMA max_page_count={pages}"), [], |_| Ok(()))?)
}

/// The same in pages.
pub(super) fn pages(max_bytes: u64, page_size: u64, appends: bool) -> u64 {
    let all = (max_bytes / page_size.max(1)).clamp(128, u64::from(u32::MAX) - 2);
    if appends { all - all / 16 } else { all }
}

/// Opens a connection that can't write.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let attempt = Connection::open_with_flags(path, flags).map_err(Error::from).and_then(|conn| {
        conn.busy_timeout(BUSY)?;
        check_reader(&conn, path)?;
        Ok(conn)
    });
    let conn = match attempt {
        Ok(conn) => conn,
        // A closed journal in a directory that we may not write to: SQLite can't make the WAL index that it would need,
        // and without a WAL nothing can be missing from the file itself.
        Err(Error::Io(_)) if path.exists() && wal_is_empty(path) => {
            let uri = format!("file:{}?immutable=1", escape(path));
            let conn = Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?;
            check_reader(&conn, path)?;
            conn
        }
        Err(error) => return Err(error),
    };
    common(&conn, READER_CACHE_KIB)?;
    conn.pragma_update(None, "query_only", "ON")?;
    conn.set_prepared_statement_cache_capacity(32);
    Ok(conn)
}

fn common(conn: &Connection, cache_kib: i32) -> Result<(), Error> {
    conn.query_row("PRAGMA mmap_size=0", [], |_| Ok(())).or_else(ignore_no_row)?;
    conn.pragma_update(None, "cell_size_check", "ON")?;
    conn.pragma_update(None, "trusted_schema", "OFF")?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "cache_size", -cache_kib)?;
    Ok(())
}

fn ignore_no_row(error: rusqlite::Error) -> rusqlite::Result<()> {
    match error {
        rusqlite::Error::QueryReturnedNoRows => Ok(()),
        other => Err(other),
    }
}

fn wal_is_empty(path: &Path) -> bool {
    std::fs::metadata(beside(path, "-wal")).map_or(true, |meta| meta.len() == 0)
}

/// Percent-encodes what a SQLite URI gives a meaning to.
fn escape(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

fn version(conn: &Connection) -> Result<usize, Error> {
    let version: u32 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok(version as usize)
}

fn check_min_reader(conn: &Connection, path: &Path) -> Result<(), Error> {
    let needs: u32 = conn.query_row("SELECT value FROM meta WHERE key='min_reader'", [], |row| row.get(0))?;
    if needs > OUR_READER {
        return Err(Error::TooNew { path: path.to_owned(), needs, ours: OUR_READER });
    }
    Ok(())
}

fn check_reader(conn: &Connection, path: &Path) -> Result<(), Error> {
    if version(conn)? == 0 {
        return Err(Error::NotFound(format!(
            "{} is not a journal, or no gateway has made it one yet; start the gateway, or mend [journal] path",
            path.display()
        )));
    }
    check_min_reader(conn, path)
}

fn migrate(conn: &mut Connection, path: &Path) -> Result<(), Error> {
    let from = version(conn)?;
    if from > 0 {
        check_min_reader(conn, path)?;
    }
    for (number, script) in MIGRATIONS.iter().enumerate().skip(from) {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(script)?;
        tx.pragma_update(None, "user_version", number as u32 + 1)?;
        tx.commit()?;
    }
    Ok(())
}

/// SQLite's integers are signed; sequence numbers and counters never come near the limit, and what can (a device's own
/// numbers) keeps its bits.
pub(super) const fn db(value: u64) -> i64 {
    value.cast_signed()
}

/// The inverse of [`db`].
pub(super) const fn un(value: i64) -> u64 {
    value.cast_unsigned()
}
