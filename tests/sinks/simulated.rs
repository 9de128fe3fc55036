//! Outages of days in simulated time: the real relay and the real journal, a vendor made up.
//!
//! Time stands still while the journal works and while anybody can go on; then it moves by one step. So what is measured does
//! not depend on this machine.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portero::deliver::relay::{self, Context, Flow, Order, Pace};
use portero::deliver::{Batch, Mapped, Outcome, Sink, StatusBoard, Verdict};
use portero::event::Event;
use portero::journal::{Record, Start};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const BATCH: usize = 50;

/// What a vendor saw.
#[derive(Default)]
struct Seen {
    down: bool,
    /// Requests a minute that it takes; it answers 429 to the others.
    cap: usize,
    /// It refuses every event whose number can be divided by this, and every batch with one in it.
    poison: Option<u64>,
    /// When requests left, and how they were answered.
    requests: Vec<(Instant, u16)>,
    /// When requests arrived that were let in.
    arrived: Vec<Instant>,
    /// Per event: when it was delivered, and whether it was called late.
    delivered: HashMap<u64, (Instant, bool)>,
    doubled: usize,
}

/// A vendor some hundred milliseconds away.
struct Vendor {
    seen: Arc<Mutex<Seen>>,
    random: fastrand::Rng,
}

fn flight(records: &[Record], late: bool) -> Mapped {
    let seqs: Vec<String> = records.iter().map(|r| r.seq.0.to_string()).collect();
    let body = format!("{late} {}", seqs.join(" "));
    Mapped::Flight { key: body.clone(), body: body.into_bytes(), keep: false }
}

impl Sink for Vendor {
    fn name(&self) -> &str {
        "far"
    }

    fn limits(&self) -> (usize, usize) {
        (BATCH, 1 << 20)
    }

    fn map(&self, records: &[Record], _: bool) -> Mapped {
        flight(records, false)
    }

    fn map_late(&self, records: &[Record]) -> Mapped {
        flight(records, true)
    }

    async fn send(&mut self, batch: &Batch<'_>) -> Outcome {
        let left = Instant::now();
        let (there, back) = (self.random.u64(20..200), self.random.u64(20..200));
        tokio::time::sleep(Duration::from_millis(there)).await;
        let now = Instant::now();
        let late = batch.flight.is_some_and(|flight| flight.body.starts_with(b"true"));
        let (status, outcome) = {
            let mut seen = self.seen.lock().unwrap();
            let recent = seen.arrived.iter().rev().take_while(|at| now - **at < MINUTE).count();
            if seen.down {
                (0, Outcome::Retry { reason: "no connection".to_owned(), after: None })
            } else if recent >= seen.cap {
                (429, Outcome::Retry { reason: "too many".to_owned(), after: Some(10 * SECOND) })
            } else if seen.poison.is_some_and(|n| batch.records.iter().any(|r| r.seq.0.is_multiple_of(n))) {
                seen.arrived.push(now);
                (422, Outcome::Refused { reason: "http 422".to_owned(), answer: String::new() })
            } else {
                seen.arrived.push(now);
                for record in batch.records {
                    if seen.delivered.insert(record.seq.0, (now, late)).is_some() {
                        seen.doubled += 1;
                    }
                }
                (200, Outcome::Settled(vec![Verdict::Delivered; batch.records.len()]))
            }
        };
        self.seen.lock().unwrap().requests.push((left, status));
        tokio::time::sleep(Duration::from_millis(back)).await;
        outcome
    }
}

/// The driver of a simulation.
struct Simulation {
    world: World,
    seen: Arc<Mutex<Seen>>,
    random: fastrand::Rng,
    /// When each event was heard, by its number less one.
    heard: Vec<Instant>,
    relay: tokio::task::JoinHandle<()>,
    shutdown: CancellationToken,
    board: StatusBoard,
    begin: Instant,
    /// Time that we let pass. Tokio's paused clock would move on by itself whenever nobody can go on, also while the journal's
    /// threads work; so somebody always can, and at the end the two must agree.
    passed: Duration,
}

/// Goes on with a future that waits for another thread, without letting time pass.
async fn still<T>(future: impl Future<Output = T>) -> T {
    let spin = async {
        loop {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! { biased; done = future => done, () = spin => unreachable!() }
}

impl Simulation {
    async fn start(cap: usize, flow: Flow) -> Self {
        let begin = Instant::now();
        let world = still(World::new()).await;
        let seen = Arc::new(Mutex::new(Seen { down: true, cap, ..Seen::default() }));
        let shutdown = CancellationToken::new();
        let board = StatusBoard::default();
        let context = Context {
            journal: world.journal.clone(),
            clock: world.clock.clone(),
            shutdown: shutdown.clone(),
            grace: SECOND,
            board: board.clone(),
            pace: Pace::default(),
            directory: portero::deliver::directory::Directory::default(),
            mark: portero::progress::Mark::default(),
        };
        let state = still(world.journal.sink("far", Start::All)).await.unwrap();
        let vendor = Vendor { seen: Arc::clone(&seen), random: fastrand::Rng::with_seed(3) };
        let relay = tokio::spawn(relay::run_with(vendor, state, context, flow));
        let random = fastrand::Rng::with_seed(5);
        Self { world, seen, random, heard: Vec::new(), relay, shutdown, board, begin, passed: Duration::ZERO }
    }

    /// Nobody can go on before time does: the journal has answered everything, and the relay waits.
    async fn quiet(&self) {
        let mut calm = 0;
        while calm < 6 {
            tokio::task::yield_now().await;
            calm = if self.world.journal.unanswered() == 0 { calm + 1 } else { 0 };
            if calm == 0 {
                std::thread::yield_now();
            }
        }
    }

    async fn step(&mut self, time: Duration) {
        self.passed += time;
        tokio::time::advance(time).await;
        self.quiet().await;
    }

    async fn hear(&mut self, count: usize) {
        let events: Vec<Event> = (0..count).map(|_| self.world.event(None)).collect();
        let seqs = still(self.world.append(&events)).await;
        assert_eq!(seqs.last().map(|s| s.0), Some((self.heard.len() + count) as u64));
        self.heard.extend(std::iter::repeat_n(Instant::now(), count));
        self.quiet().await;
    }

    /// The outage: `pending` events are heard in it, evenly.
    async fn outage(&mut self, lasting: Duration, pending: usize) {
        const PORTIONS: usize = 100;
        let portion = lasting / PORTIONS as u32;
        for _ in 0..PORTIONS {
            self.hear(pending / PORTIONS).await;
            let until = Instant::now() + portion;
            while Instant::now() < until {
                self.step((5 * SECOND).min(until - Instant::now())).await;
            }
        }
    }

    fn delivered(&self) -> usize {
        self.seen.lock().unwrap().delivered.len()
    }

    /// The sink is back, and people go on: about twenty events a minute, and every ten minutes forty within half a minute.
    /// Until everything that waited is delivered.
    async fn back(&mut self) -> Figures {
        const TICK: Duration = Duration::from_millis(25);
        let begin = Instant::now();
        let (waited, requests) = (self.heard.len(), self.seen.lock().unwrap().requests.len());
        self.seen.lock().unwrap().down = false;
        // Nothing can tell that it is back but the next probe, at most five minutes away.
        while self.delivered() == 0 {
            self.step(TICK).await;
        }
        let waited_for = begin.elapsed();
        assert!(waited_for <= 5 * MINUTE + SECOND, "{waited_for:?}");
        let begin = Instant::now();
        while self.delivered() < self.heard.len() {
            let shift = begin.elapsed().as_secs() % 600;
            let per_minute = if (240..270).contains(&shift) { 80.0 } else { 20.0 };
            let more = self.seen.lock().unwrap().delivered.len() < self.heard.len() - 1;
            if more && self.random.f64() < per_minute * TICK.as_secs_f64() / 60.0 {
                self.hear(1).await;
            }
            self.step(TICK).await;
            assert!(begin.elapsed() < 48 * 60 * MINUTE, "the backlog does not drain");
        }
        self.figures(waited, requests, begin)
    }

    fn figures(&self, waited: usize, requests: usize, begin: Instant) -> Figures {
        let seen = self.seen.lock().unwrap();
        let sent = &seen.requests[requests..];
        let in_a_minute = |at: usize| sent[at..].iter().take_while(|r| r.0 < sent[at].0 + MINUTE).count();
        let live = self.heard.iter().enumerate().skip(waited);
        let mut waits: Vec<Duration> = live.map(|(at, heard)| seen.delivered[&(at as u64 + 1)].0 - *heard).collect();
        waits.sort_unstable();
        let late = |late: bool| seen.delivered.iter().filter(move |(_, (_, said))| *said == late);
        let figures = Figures {
            minutes: begin.elapsed().as_secs() / 60,
            requests: sent.len(),
            most_in_a_minute: (0..sent.len()).map(in_a_minute).max().unwrap_or(0),
            refused: sent.iter().filter(|r| r.1 == 429).count(),
            live: waits.len(),
            p95: waits[waits.len() * 95 / 100],
            most: waits[waits.len() - 1],
            late: late(true).count(),
            late_though_live: late(true).filter(|(seq, _)| **seq > waited as u64).count(),
            doubled: seen.doubled,
        };
        #[expect(clippy::print_stdout, reason = "the figures are what people read this test for")]
        {
            println!("{figures:?}");
        }
        figures
    }

    async fn end(mut self) {
        self.shutdown.cancel();
        while !self.relay.is_finished() {
            self.step(Duration::from_millis(25)).await;
        }
        assert_eq!(self.begin.elapsed(), self.passed, "time stood still but for our steps");
        let stats = still(self.world.stats("far")).await;
        assert_eq!((stats.delivered, stats.pending), (self.heard.len() as u64, 0));
        still(self.world.journal.close()).await.unwrap();
    }
}

/// What was measured after the sink came back.
#[derive(Debug)]
#[expect(dead_code, reason = "some are only printed")]
struct Figures {
    minutes: u64,
    requests: usize,
    most_in_a_minute: usize,
    refused: usize,
    live: usize,
    p95: Duration,
    most: Duration,
    late: usize,
    late_though_live: usize,
    doubled: usize,
}

#[tokio::test(start_paused = true)]
async fn after_72_hours_of_outage_new_events_arrive_in_seconds_while_50_000_drain_under_the_cap() {
    let flow = Flow { requests_per_minute: Some(60), order: Order::LiveFirst, ..Flow::default() };
    let mut simulation = Simulation::start(60, flow).await;
    simulation.outage(72 * 60 * MINUTE, 50_000).await;
    let probes = simulation.seen.lock().unwrap().requests.len();
    assert!(probes < 72 * 60, "probes stay rare: {probes}");
    let status = simulation.board.read().remove(0);
    assert_eq!(status.state, "open");
    assert!(status.next_try.is_some() && status.attempt as usize == probes, "{status:?}");
    let figures = simulation.back().await;
    simulation.end().await;
    assert!(figures.most_in_a_minute <= 60, "{figures:?}");
    assert!(figures.refused * 100 < figures.requests, "{figures:?}");
    assert!(figures.live >= 300 && figures.p95 < 5 * SECOND, "{figures:?}");
    // All that waited is marked, and nothing else.
    assert_eq!((figures.late, figures.late_though_live, figures.doubled), (50_000, 0, 0), "{figures:?}");
}

#[tokio::test(start_paused = true)]
async fn the_requests_that_look_for_poison_count_against_the_cap_too() {
    let flow = Flow { requests_per_minute: Some(30), ..Flow::default() };
    let mut simulation = Simulation::start(30, flow).await;
    {
        let mut seen = simulation.seen.lock().unwrap();
        seen.down = false;
        seen.poison = Some(97);
    }
    simulation.hear(400).await;
    let settled = |board: &StatusBoard| board.read().iter().map(|s| s.delivered + s.quarantined).sum::<u64>();
    while settled(&simulation.board) < 400 {
        simulation.step(Duration::from_millis(25)).await;
        assert!(simulation.begin.elapsed() < 60 * MINUTE, "it goes on");
    }
    let quarantined = simulation.board.read()[0].quarantined;
    let requests = simulation.seen.lock().unwrap().requests.clone();
    assert!(quarantined == 4 && requests.len() > 40, "{quarantined} quarantined, {} requests", requests.len());
    for (at, (from, _)) in requests.iter().enumerate() {
        let count = requests[at..].iter().take_while(|r| r.0 < *from + MINUTE).count();
        assert!(count <= 30, "{count} in a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn what_waited_in_an_outage_leaves_no_faster_than_catch_up_per_minute_and_in_order() {
    let flow = Flow { catch_up_per_minute: Some(120), ..Flow::default() };
    let mut simulation = Simulation::start(10_000, flow).await;
    simulation.outage(30 * MINUTE, 600).await;
    let figures = simulation.back().await;
    assert_eq!((figures.late, figures.doubled), (0, 0), "{figures:?}");
    {
        let seen = simulation.seen.lock().unwrap();
        let mut order: Vec<(Instant, u64)> = seen.delivered.iter().map(|(seq, (at, _))| (*at, *seq)).collect();
        order.sort_unstable();
        assert!(order.is_sorted_by_key(|(_, seq)| *seq));
        // What was on its way all the time went at once; a portion may leave at each end of a minute.
        let old: Vec<Instant> = order.iter().skip(BATCH).take(600 - BATCH).map(|(at, _)| *at).collect();
        for from in 0..old.len() {
            let count = old[from..].iter().take_while(|at| **at < old[from] + MINUTE).count();
            assert!(count <= 120 + 20, "{count} in a minute");
        }
    }
    simulation.end().await;
}
