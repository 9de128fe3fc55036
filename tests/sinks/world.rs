//! A gateway without terminals: a journal on disk, events made up, relays started and stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portero::clock::{Clock, SyncSource, Zone, resolve};
use portero::deliver::gate::Gate;
use portero::deliver::relay::{self, Context, Flow, Pace};
use portero::deliver::{Batch, Mapped, OnAmbiguous, Outcome, Presence, Sink, StatusBoard};
use portero::event::{
    DeviceTime, Event, Identity, Kind, Methods, Origin, Person, Punch, Reading, Source, WrittenTime, identity,
};
use portero::journal::{Appended, Config, Entry, Flight, Journal, Prepared, Record, Seq, SinkStats, SourceId, Start};
use tokio_util::sync::CancellationToken;

use crate::support::{DEADLINE, eventually_async, tempdir};

/// What a poisoned event carries as its person.
pub const POISON: &str = "poison";

pub struct World {
    pub journal: Journal,
    pub clock: Clock,
    pub config: Config,
    pub dir: tempfile::TempDir,
    source: Arc<Source>,
    id: SourceId,
    made: AtomicU64,
}

impl World {
    pub async fn new() -> Self {
        Self::with_clock(Clock::new(SyncSource::Trusted)).await
    }

    /// A gateway whose clock is right once the file `synchronised` stands in its directory.
    pub async fn without_clock() -> Self {
        let dir = tempdir();
        let clock = Clock::new(SyncSource::File(dir.path().join("synchronised")));
        Self::open(dir, clock).await
    }

    async fn with_clock(clock: Clock) -> Self {
        Self::open(tempdir(), clock).await
    }

    async fn open(dir: tempfile::TempDir, clock: Clock) -> Self {
        let config = Config { path: dir.path().join("journal.db"), ..Config::default() };
        let journal = Journal::open(&config, clock.clone()).unwrap();
        let source = Arc::new(Source {
            tenant: "default".to_owned(),
            site_id: "obra-norte".to_owned(),
            gateway_id: "gw-1".to_owned(),
            terminal_id: "yard".to_owned(),
            protocol: "mqtt-json".to_owned(),
            zone: "America/Santiago".to_owned(),
        });
        let id = journal.source((*source).clone()).await.unwrap();
        Self { journal, clock, config, dir, source, id, made: AtomicU64::new(0) }
    }

    pub fn synchronise(&self) {
        std::fs::write(self.dir.path().join("synchronised"), "").unwrap();
    }

    /// Closes the journal and opens it again, as after a restart.
    pub async fn reopen(&mut self) {
        self.journal.close().await.unwrap();
        self.journal = Journal::open(&self.config, self.clock.clone()).unwrap();
        self.id = self.journal.source((*self.source).clone()).await.unwrap();
    }

    /// The next event, the same at each call number; a time in the past, so that no clock calls it bogus.
    pub fn event(&self, person: Option<&str>) -> Event {
        let n = self.made.fetch_add(1, Ordering::Relaxed);
        let wall: jiff::civil::DateTime = "2025-03-10T08:00:00".parse().unwrap();
        let wall = wall.checked_add(jiff::SignedDuration::from_millis(n as i64 * 10)).unwrap();
        let raw = wall.to_string();
        let device_time = DeviceTime { raw: raw.clone(), parsed: Some(WrittenTime { wall, offset_min: None }) };
        let fields = vec![Some(raw), Some(n.to_string())];
        let ms = wall.duration_since(jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0)).as_millis() as i64;
        let now = self.clock.now();
        // Without a right clock a device time is given to some, so that both cases travel.
        let absent = !now.synchronised;
        let zone = Zone::named("America/Santiago").unwrap();
        Event {
            id: identity::derive("obra-norte", "CJ9D232460003", ms, &fields),
            source: Arc::clone(&self.source),
            device_key: "CJ9D232460003".to_owned(),
            times: resolve((!absent).then_some(&device_time), &zone, Origin::Live, now),
            reading: Reading {
                identity: Identity::Record(fields),
                terminal_serial: Some("CJ9D232460003".to_owned()),
                kind: Some(Kind::AttendancePunch),
                origin: Some(Origin::Live),
                methods: [portero::event::Method::Face].into_iter().collect::<Methods>(),
                person: Person {
                    terminal_person_id: Some(person.map_or_else(|| format!("{:06}", n % 977), str::to_owned)),
                    ..Person::default()
                },
                punch: Some(if n.is_multiple_of(2) { Punch::In } else { Punch::Out }),
                device_time: (!absent).then_some(device_time),
                native_seq: Some(n.to_string()),
                ..Reading::default()
            },
            seq_epoch: 0,
            gap_before: None,
            corrects: None,
        }
    }

    /// An event whose id says that it happened now.
    pub fn event_of_now(&self) -> Event {
        let mut event = self.event(None);
        let ms = u64::try_from(self.clock.now().wall.0 / 1000).unwrap();
        event.id.0[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
        event
    }

    pub async fn append(&self, events: &[Event]) -> Vec<Seq> {
        let entries = events.iter().map(|e| Entry::Event(Prepared::new(e, self.id, None))).collect();
        let appended = self.journal.append(entries).await.unwrap();
        appended
            .into_iter()
            .map(|a| match a {
                Appended::New(seq) => seq,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// Appends `n` events; answers their ids.
    pub async fn punches(&self, n: usize) -> Vec<String> {
        let events: Vec<Event> = (0..n).map(|_| self.event(None)).collect();
        self.append(&events).await;
        events.iter().map(|e| e.id.to_string()).collect()
    }

    /// Appends `n` events, those at `poisoned` unacceptable; answers the ids of the good ones and of the bad ones.
    pub async fn poisoned(&self, n: usize, poisoned: &[usize]) -> (Vec<String>, Vec<String>) {
        let events: Vec<Event> = (0..n).map(|i| self.event(poisoned.contains(&i).then_some(POISON))).collect();
        self.append(&events).await;
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for (i, event) in events.iter().enumerate() {
            if poisoned.contains(&i) { &mut bad } else { &mut good }.push(event.id.to_string());
        }
        (good, bad)
    }

    /// Starts a relay.
    pub async fn relay<S: Sink + 'static>(&self, sink: S) -> Running {
        self.relay_with(sink, StatusBoard::default()).await
    }

    pub async fn relay_with<S: Sink + 'static>(&self, sink: S, board: StatusBoard) -> Running {
        self.relay_as(sink, board, Flow::default()).await
    }

    /// Starts a relay as fast and in the order that an operator chose.
    pub async fn relay_as<S: Sink + 'static>(&self, sink: S, board: StatusBoard, flow: Flow) -> Running {
        let name = sink.name().to_owned();
        let state = self.journal.sink(&name, Start::All).await.unwrap();
        let shutdown = CancellationToken::new();
        let context = Context {
            journal: self.journal.clone(),
            clock: self.clock.clone(),
            shutdown: shutdown.clone(),
            grace: Duration::from_secs(2),
            board: board.clone(),
            pace: Pace {
                retry: (Duration::from_millis(5), Duration::from_millis(200)),
                probe: (Duration::from_millis(5), Duration::from_millis(200)),
            },
            directory: portero::deliver::directory::Directory::default(),
            mark: portero::progress::Mark::default(),
        };
        let sends = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: sink, sends: Arc::clone(&sends) };
        let task = tokio::spawn(relay::run_with(counted, state, context, flow));
        Running { name, shutdown, board, sends, task: Some(task) }
    }

    pub async fn stats(&self, sink: &str) -> SinkStats {
        let stats = self.journal.stats().await.unwrap();
        let line = stats.sinks.into_iter().find(|s| s.name == sink).unwrap();
        assert!(line.balances(), "i4: {line:?}");
        line
    }

    /// Waits until nothing is pending at a sink.
    pub async fn drained(&self, sink: &str) -> SinkStats {
        eventually_async("the sink has everything", DEADLINE, || async {
            let stats = self.stats(sink).await;
            stats.pending == 0 && stats.corrections_pending == 0
        })
        .await;
        self.stats(sink).await
    }
}

/// A running relay.
pub struct Running {
    pub name: String,
    pub board: StatusBoard,
    pub sends: Arc<AtomicU64>,
    shutdown: CancellationToken,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Running {
    pub fn sends(&self) -> u64 {
        self.sends.load(Ordering::Relaxed)
    }

    pub fn state(&self) -> &'static str {
        self.board.read().iter().find(|s| s.name == self.name).map_or("", |s| s.state)
    }

    pub fn error(&self) -> String {
        self.board.read().into_iter().find(|s| s.name == self.name).and_then(|s| s.error).unwrap_or_default()
    }

    pub async fn until_state(&self, state: &str) {
        eventually_async(&format!("the relay is {state}"), DEADLINE, || async { self.state() == state }).await;
    }

    /// Asks it to end and waits for it.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        if let Some(task) = self.task.take() {
            tokio::time::timeout(DEADLINE, task).await.expect("the relay ends").unwrap();
        }
    }

    /// Ends it where it stands, as a crash would.
    pub async fn kill(mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Counts the batches that a sink is asked to send.
struct Counted<S> {
    inner: S,
    sends: Arc<AtomicU64>,
}

impl<S: Sink> Sink for Counted<S> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn limits(&self) -> (usize, usize) {
        self.inner.limits()
    }

    fn map(&self, records: &[Record], corrections: bool) -> Mapped {
        self.inner.map(records, corrections)
    }

    fn map_late(&self, records: &[Record]) -> Mapped {
        self.inner.map_late(records)
    }

    fn gate(&mut self, gate: Gate) {
        self.inner.gate(gate);
    }

    fn fit(&self, records: &[Record], corrections: bool) -> usize {
        self.inner.fit(records, corrections)
    }

    fn takes(&self, record: &Record) -> bool {
        self.inner.takes(record)
    }

    async fn send(&mut self, batch: &Batch<'_>) -> Outcome {
        self.sends.fetch_add(1, Ordering::Relaxed);
        self.inner.send(batch).await
    }

    fn revision(&self) -> Option<String> {
        self.inner.revision()
    }

    fn on_ambiguous(&self) -> OnAmbiguous {
        self.inner.on_ambiguous()
    }

    async fn look_up(&mut self, batch: &Batch<'_>, item: usize) -> Presence {
        self.inner.look_up(batch, item).await
    }
}

/// The batch in flight as the journal has it.
pub async fn flight(world: &World, sink: &str) -> Option<Flight> {
    world.journal.sink(sink, Start::All).await.unwrap().flight
}

/// An event as a relay would hand it to a sink.
pub fn record(seq: u64, event: Event) -> Record {
    Record { seq: Seq(seq), event, provisional: false, again: None }
}

/// Sends a batch straight to a sink, mapped as a relay would.
pub async fn send<S: Sink>(sink: &mut S, records: &[Record]) -> Outcome {
    let flight = match sink.map(records, false) {
        Mapped::Flight { key, body, .. } => Some(Flight { key, seqs: records.iter().map(|r| r.seq).collect(), body }),
        Mapped::ByEvent => None,
        other => panic!("{other:?}"),
    };
    sink.send(&Batch { records, corrections: false, flight: flight.as_ref() }).await
}
