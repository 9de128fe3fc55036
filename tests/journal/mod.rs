//! What the journal's tests share: a directory with a journal, events that look like the yard's.
//!
//! Must not: hold a test.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test file uses a part of it")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use portero::clock::{Clock, Now, SyncSource};
use portero::event::*;
use portero::journal::*;

/// A directory with one journal in it.
pub struct Bench {
    pub dir: tempfile::TempDir,
    pub config: Config,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config { path: dir.path().join("journal.db"), ..Config::default() };
        change(&mut config);
        Self { dir, config }
    }

    pub fn open(&self) -> Journal {
        Journal::open(&self.config, clock()).unwrap()
    }

    /// The files as they are now, copied by another process: what a kill would leave.
    pub fn crash_image(&self) -> Self {
        let copy = Self::with(|_| {});
        for suffix in ["", "-wal"] {
            let from = self.file(suffix);
            if from.exists() {
                let to = copy.dir.path().join(from.file_name().unwrap());
                assert!(Command::new("cp").arg(&from).arg(&to).status().unwrap().success());
            }
        }
        let config = Config { path: copy.config.path.clone(), ..self.config.clone() };
        Self { config, ..copy }
    }

    /// A connection behind the journal's back; the journal must be closed.
    pub fn sql(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(&self.config.path).unwrap()
    }

    pub fn file(&self, suffix: &str) -> PathBuf {
        let mut name = self.config.path.clone().into_os_string();
        name.push(suffix);
        name.into()
    }
}

pub fn clock() -> Clock {
    Clock::new(SyncSource::Trusted)
}

pub fn source() -> Source {
    Source {
        tenant: "default".into(),
        site_id: "obra-norte".into(),
        gateway_id: "gw-1".into(),
        terminal_id: "yard".into(),
        protocol: "mqtt-json".into(),
        zone: "America/Santiago".into(),
    }
}

/// 2026-11-24T00:00:00Z.
pub const DAY: i64 = 1_795_478_400_000_000;

/// The `n`-th event of the yard, heard at the second `n` of the day.
pub fn swipe(n: u64) -> Event {
    swipe_at(n, Now { wall: UtcMicros(DAY + n as i64 * 1_000_000), boot: BootTime(n * 1_000_000), synchronised: true })
}

/// The `n`-th event of the yard, heard at `now`.
pub fn swipe_at(n: u64, now: Now) -> Event {
    let wall = jiff::civil::date(2026, 11, 24).at(0, 0, 0, 0).saturating_add(jiff::SignedDuration::from_secs(n as i64));
    let raw = format!("{}.000Z", wall.strftime("%Y-%m-%dT%H:%M:%S"));
    let serial = "CJ9D232460003".to_owned();
    let native_seq = format!("{serial}-{n:010}");
    let fields = vec![Some(raw.clone()), Some(native_seq.clone())];
    let device_time = DeviceTime { raw, parsed: Some(WrittenTime { wall, offset_min: Some(0) }) };
    let ms = DAY / 1000 + n as i64 * 1000;
    let reading = Reading {
        identity: Identity::Record(fields.clone()),
        terminal_serial: Some(serial.clone()),
        kind: Some(Kind::AttendancePunch),
        methods: [Method::Pin].into_iter().collect(),
        person: Person { terminal_person_id: Some(format!("{:06}", n % 1000)), ..Person::default() },
        credential: Credential { card_number: Some(format!("{:010}", n * 7919)), ..Credential::default() },
        punch: Some(Punch::Out),
        door: Place { number: Some(11), label: None },
        device_time: Some(device_time),
        native_seq: Some(native_seq),
        ..Reading::default()
    };
    let zone = portero::clock::Zone::named("America/Santiago").unwrap();
    let times = portero::clock::resolve(reading.device_time.as_ref(), &zone, Origin::Live, now);
    Event {
        id: identity::derive("obra-norte", &serial, ms, &fields),
        source: Arc::new(source()),
        device_key: serial,
        reading,
        times,
        seq_epoch: 0,
        gap_before: None,
        corrects: None,
    }
}

pub fn entry(source: SourceId, event: &Event) -> Entry {
    Entry::Event(Prepared::new(event, source, None))
}

pub fn entries(source: SourceId, numbers: impl IntoIterator<Item = u64>) -> Vec<Entry> {
    numbers.into_iter().map(|n| entry(source, &swipe(n))).collect()
}

pub fn quarantine(reason: &str) -> Settlement {
    Settlement::Quarantined { reason: reason.into(), answer: "400 Bad Request".into(), attempts: 3 }
}

/// So many days after the yard's day, by a clock that is right.
pub fn days_later(days: i64) -> Now {
    Now { wall: UtcMicros(DAY + days * 86_400_000_000), boot: BootTime(1), synchronised: true }
}

impl Bench {
    /// The ledger; it must balance.
    pub async fn stats(&self, journal: &Journal) -> Stats {
        let stats = journal.stats().await.unwrap();
        assert!(stats.sinks.iter().all(SinkStats::balances), "{stats:?}");
        stats
    }

    /// Directories into which damaged files were moved.
    pub fn set_aside(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().path());
        entries.filter(|p| p.file_name().unwrap().to_string_lossy().starts_with("quarantine-")).collect()
    }
}
