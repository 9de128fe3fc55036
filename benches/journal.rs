//! What an event costs in the journal: bytes and syncs per event, and events per second against a bare rusqlite loop.
//!
//! `cargo bench --bench journal` prints the tables; `-- quick` a tenth of the events. Bytes are `write_bytes` of
//! `/proc/self/io`, so the files must lie on a real disk: they go under the target directory, never under /tmp.
//!
//! Must not: assert. A benchmark prints; tests decide.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a benchmark"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use portero::clock::{Clock, SyncSource, Zone};
use portero::event::*;
use portero::journal::*;
use rusqlite::{Connection, params};
use tokio::time::Instant;

const SERIALS: u64 = 40;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let scale = if arguments.iter().any(|a| a == "quick") { 1 } else { 10 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let only = |name: &str| {
        let named: Vec<&String> = arguments.iter().filter(|a| *a != "quick" && !a.starts_with("--")).collect();
        named.is_empty() || named.iter().any(|a| *a == name)
    };
    if only("bytes") {
        runtime.block_on(bytes(scale));
    }
    if only("rate") {
        runtime.block_on(rate(scale));
    }
    if only("million") {
        runtime.block_on(million(scale));
    }
}

/// A directory on the disk that the target directory is on.
fn directory(name: &str) -> PathBuf {
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    let directory = target.join(format!("bench-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    io.lines().find_map(|l| l.strip_prefix("write_bytes: ")).unwrap().parse().unwrap()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn config(directory: &Path) -> Config {
    Config { path: directory.join("journal.db"), ..Config::default() }
}

fn source() -> Source {
    Source {
        tenant: "default".into(),
        site_id: "obra-norte".into(),
        gateway_id: "gw-obra-norte-01".into(),
        terminal_id: "yard".into(),
        protocol: "mqtt-json".into(),
        zone: "UTC".into(),
    }
}

/// The yard's events: forty devices, one after the other, ten milliseconds apart.
struct Yard {
    source: Arc<Source>,
    zone: Zone,
    clock: Clock,
}

impl Yard {
    fn new() -> Self {
        Self { source: Arc::new(source()), zone: Zone::utc(), clock: Clock::new(SyncSource::Trusted) }
    }

    fn event(&self, n: u64) -> Event {
        let since = jiff::SignedDuration::from_millis(i64::try_from(n).unwrap() * 10);
        let wall = jiff::civil::date(2026, 3, 1).at(0, 0, 0, 0).checked_add(since).unwrap();
        let raw = format!("{}Z", wall.strftime("%Y-%m-%dT%H:%M:%S%.3f"));
        let serial = format!("CJ9D2324{:05}", n % SERIALS);
        let native_seq = format!("{serial}-{n:010}");
        let fields = vec![Some(raw.clone()), Some(native_seq.clone())];
        let parsed = Some(WrittenTime { wall, offset_min: Some(0) });
        let reading = Reading {
            identity: Identity::Record(fields.clone()),
            terminal_serial: Some(serial.clone()),
            kind: Some(Kind::AttendancePunch),
            methods: [Method::Pin].into_iter().collect(),
            person: Person { terminal_person_id: Some(format!("{:06}", n % 100_000)), ..Person::default() },
            credential: Credential { card_number: Some(format!("{:010}", n * 7919)), ..Credential::default() },
            punch: Some(Punch::Out),
            door: Place { number: Some(11), label: None },
            device_time: Some(DeviceTime { raw, parsed }),
            native_seq: Some(native_seq),
            ..Reading::default()
        };
        let times = portero::clock::resolve(reading.device_time.as_ref(), &self.zone, Origin::Live, self.clock.now());
        let ms = i64::try_from(1_772_323_200_000 + n * 10).unwrap();
        Event {
            id: identity::derive("obra-norte", &serial, ms, &fields),
            source: Arc::clone(&self.source),
            device_key: serial,
            reading,
            times,
            seq_epoch: 0,
            gap_before: None,
            corrects: None,
        }
    }
}

/// Bytes and commits per event: one waiting and a hundred, two sinks that settle lazily.
async fn bytes(scale: u64) {
    println!(
        "\nbytes handed to the disk per event, two sinks settling, {} and {} events",
        1000 * scale,
        20_000 * scale
    );
    println!(
        "{:>5} {:>8} {:>12} {:>12} {:>12} {:>12}",
        "page", "wal", "1 waiting", "commits", "100 waiting", "commits"
    );
    for page in [512, 1024, 2048, 4096] {
        for wal_bytes in [4 << 20, 8 << 20] {
            let (lone, lone_commits) = bytes_run(page, wal_bytes / page, 1000 * scale, 1).await;
            let (many, many_commits) = bytes_run(page, wal_bytes / page, 20_000 * scale, 100).await;
            println!(
                "{page:>5} {:>8} {lone:>12.0} {lone_commits:>12.3} {many:>12.0} {many_commits:>12.4}",
                wal_bytes >> 10
            );
        }
    }
}

async fn bytes_run(page: u32, checkpoint: u32, events: u64, waiting: u64) -> (f64, f64) {
    let directory = directory("bytes");
    let yard = Yard::new();
    let journal =
        Journal::open_for_measuring(&config(&directory), Clock::new(SyncSource::Trusted), page, checkpoint).unwrap();
    let source = journal.source(source()).await.unwrap();
    let sinks = [journal.sink("vendor", Start::All).await.unwrap(), journal.sink("central", Start::All).await.unwrap()];
    let (before, commits) = (written(), journal.commits());
    for batch in 0..events / waiting {
        let entries: Vec<Entry> =
            (0..waiting).map(|i| Entry::Event(Prepared::new(&yard.event(batch * waiting + i), source, None))).collect();
        // Each event comes from a caller of its own, as from as many terminals.
        let answers =
            futures_util::future::join_all(entries.into_iter().map(|entry| journal.append(vec![entry]))).await;
        let mut seqs: Vec<Seq> = answers
            .into_iter()
            .map(|answer| match answer.unwrap()[0] {
                Appended::New(seq) => seq,
                other => panic!("{other:?}"),
            })
            .collect();
        seqs.sort_unstable();
        for sink in &sinks {
            let verdicts = seqs.iter().map(|seq| (*seq, Settlement::Delivered)).collect();
            journal.settle(sink.id, verdicts, When::Lazy).await.unwrap();
        }
    }
    let commits = journal.commits() - commits;
    journal.close().await.unwrap();
    let bytes = written() - before;
    std::fs::remove_dir_all(&directory).unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a printed figure")]
    (bytes as f64 / events as f64, commits as f64 / events as f64)
}

/// Events per second of `append`, against the same rows in a bare loop with the same settings and batch.
async fn rate(scale: u64) {
    let events = 20_000 * scale;
    println!("\nevents per second, {events} events, best of three, interleaved");
    println!(
        "{:>5} {:>6} {:>10} {:>10} {:>10} {:>15} {:>6} {:>6} {:>6}",
        "page", "batch", "journal", "bare", "bare+index", "bare, 4096 page", "ratio", "ratio", "ratio"
    );
    for (page, batch) in [(512, 100), (512, 1000), (1024, 100), (1024, 1000)] {
        let mut best = [Duration::MAX; 4];
        for _ in 0..3 {
            best[0] = best[0].min(journal_run(events, batch, page).await);
            best[1] = best[1].min(bare_run(events, batch, page, false));
            best[2] = best[2].min(bare_run(events, batch, page, true));
            best[3] = best[3].min(bare_run(events, batch, 4096, false));
        }
        #[expect(clippy::cast_precision_loss, reason = "a printed figure")]
        let [journal, bare, indexed, large] = best.map(|time| events as f64 / time.as_secs_f64());
        println!(
            "{page:>5} {batch:>6} {journal:>10.0} {bare:>10.0} {indexed:>10.0} {large:>15.0} {:>6.2} {:>6.2} {:>6.2}",
            journal / bare,
            journal / indexed,
            journal / large
        );
    }
}

async fn journal_run(events: u64, batch: u64, page: u32) -> Duration {
    let directory = directory("rate");
    let yard = Yard::new();
    let journal =
        Journal::open_for_measuring(&config(&directory), Clock::new(SyncSource::Trusted), page, (8 << 20) / page)
            .unwrap();
    let source = journal.source(source()).await.unwrap();
    // Encoding and digests are made by the callers, in parallel: not part of either side.
    let batches: Vec<Vec<Entry>> = (0..events / batch)
        .map(|b| (0..batch).map(|i| Entry::Event(Prepared::new(&yard.event(b * batch + i), source, None))).collect())
        .collect();
    let started = Instant::now();
    for entries in batches {
        journal.append(entries).await.unwrap();
    }
    let took = started.elapsed();
    journal.close().await.unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    took
}

fn bare_run(events: u64, batch: u64, page: u32, index: bool) -> Duration {
    let directory = directory("bare");
    let yard = Yard::new();
    let conn = Connection::open(directory.join("bare.db")).unwrap();
    conn.execute_batch(&format!("PRAGMA page_size={page}; PRAGMA auto_vacuum=INCREMENTAL;")).unwrap();
    conn.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(())).unwrap();
    conn.execute_batch(
        "PRAGMA synchronous=FULL; PRAGMA cache_size=-1024;
         CREATE TABLE event(seq INTEGER PRIMARY KEY, id BLOB NOT NULL, hash BLOB NOT NULL, body BLOB NOT NULL) STRICT;",
    )
    .unwrap();
    conn.query_row(&format!("PRAGMA wal_autocheckpoint={}", (8 << 20) / page), [], |_| Ok(())).unwrap();
    if index {
        conn.execute_batch("CREATE UNIQUE INDEX event_id ON event(id)").unwrap();
    }
    let rows: Vec<([u8; 16], [u8; 16], Vec<u8>)> = (0..events)
        .map(|n| {
            let prepared = Prepared::new(&yard.event(n), SourceId(1), None);
            (prepared.id().0, [7; 16], prepared.body().to_vec())
        })
        .collect();
    let started = Instant::now();
    let mut insert = conn.prepare("INSERT INTO event(seq, id, hash, body) VALUES (?1, ?2, ?3, ?4)").unwrap();
    let mut begin = conn.prepare("BEGIN IMMEDIATE").unwrap();
    let mut commit = conn.prepare("COMMIT").unwrap();
    let mut seq = 0i64;
    for chunk in rows.chunks(usize::try_from(batch).unwrap()) {
        begin.execute([]).unwrap();
        for (id, hash, body) in chunk {
            seq += 1;
            insert.execute(params![seq, id, hash, body]).unwrap();
        }
        commit.execute([]).unwrap();
    }
    let took = started.elapsed();
    drop((insert, begin, commit));
    conn.close().unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    took
}

/// A million rows: how long until it is open, how much memory it takes, how fast a relay reads it.
async fn million(scale: u64) {
    let events = 100_000 * scale;
    let directory = directory("million");
    let yard = Yard::new();
    let journal = Journal::open(&config(&directory), Clock::new(SyncSource::Trusted)).unwrap();
    let source = journal.source(source()).await.unwrap();
    for batch in 0..events / 1000 {
        let entries =
            (0..1000).map(|i| Entry::Event(Prepared::new(&yard.event(batch * 1000 + i), source, None))).collect();
        journal.append(entries).await.unwrap();
    }
    journal.close().await.unwrap();
    let before = resident_kib();
    let started = Instant::now();
    let journal = Journal::open(&config(&directory), Clock::new(SyncSource::Trusted)).unwrap();
    println!("\n{events} rows: open in {:.1} ms", started.elapsed().as_secs_f64() * 1000.0);
    let sink = journal.sink("central", Start::All).await.unwrap();
    let started = Instant::now();
    let mut after = sink.position;
    loop {
        let records = journal.read_after(sink.id, after, 2000, 1 << 20).await.unwrap();
        let Some(last) = records.last() else { break };
        after = last.seq;
    }
    #[expect(clippy::cast_precision_loss, reason = "a printed figure")]
    let per_second = events as f64 / started.elapsed().as_secs_f64();
    println!("read by a relay at {per_second:.0} events/s; resident memory {before} KiB, then {} KiB", resident_kib());
    let started = Instant::now();
    let verdict = journal.verify(None).await.unwrap();
    println!(
        "verified in {:.2} s: ok {}; resident memory {} KiB",
        started.elapsed().as_secs_f64(),
        verdict.ok,
        resident_kib()
    );
    let size = std::fs::metadata(directory.join("journal.db")).unwrap().len();
    println!("file {} bytes per event", size / events);
    journal.close().await.unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
}
