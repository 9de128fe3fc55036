//! Draining a backlog, 100,000 events or as many as the argument says: into PostgreSQL, by a login that may write as one gateway
//! only, against a `COPY` of the same rows into the same indexed, partitioned table; and into an HTTP API. Prints rows/s, the
//! ratio, the CPU time that this process spent, and its resident memory.
//!
//! `cargo bench --bench sinks -- 1000000 5000`: how many events, how many a turn (2,000 by default, as in configuration).
//!
//! Must not: be a test. No figure here fails anything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a bench")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a bench")]

#[path = "../tests/support/mod.rs"]
mod support;

#[path = "../tests/sinks/proxy.rs"]
mod proxy;

#[path = "../tests/sinks/rigs.rs"]
mod rigs;

#[path = "../tests/sinks/world.rs"]
mod world;

use portero::deliver::{Sink, api, postgres};
use portero::tls::TlsMode;
use tokio::time::Instant;

use crate::rigs::{TIMEOUT, api_config, server};
use crate::support::{Behaviour, VendorApi};
use crate::world::World;

const EVENTS: usize = 100_000;
const BATCH: usize = 2000;

fn main() {
    // `cargo bench -- --list` and filters that don't mean us.
    if std::env::args().any(|a| a == "--list") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run());
}

/// How many events, and how many of them a turn, from the command line.
fn wanted() -> (usize, usize) {
    let mut numbers = std::env::args().filter_map(|a| a.parse().ok());
    (numbers.next().unwrap_or(EVENTS), numbers.next().unwrap_or(BATCH))
}

async fn run() {
    let (events, batch) = wanted();
    let rounds = if events > EVENTS { 2 } else { 3 };
    let world = World::new().await;
    for _ in 0..events / 1000 {
        world.punches(1000).await;
    }
    println!("{events} events in the journal, {batch} a turn, best of {rounds} rounds");
    let server = server().await;
    server.psql("SELECT portero.make_month('2025-03-01')");
    server.psql(
        "CREATE ROLE own LOGIN IN ROLE portero_login; \
         INSERT INTO portero.login (tenant, login, gateway_id) VALUES ('default', 'own', 'gw-1')",
    );
    let (mut drains, mut copies) = (Vec::new(), Vec::new());
    // What the server itself spent: machine time is shared with whatever else runs, this is not.
    let postmaster = server.psql("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)");
    let (mut drained_cpu, mut copied_cpu) = (f64::INFINITY, f64::INFINITY);
    for round in 0..rounds {
        server.psql("TRUNCATE portero.event; CHECKPOINT");
        let config = postgres::Config {
            url: server.url_as("own"),
            password: None,
            batch,
            tls: TlsMode::Disable,
            ca_file: None,
            timeout: TIMEOUT,
        };
        let sink = postgres::Postgres::new(&format!("central-{round}"), &config, "00ff", world.clock.clone()).unwrap();
        let cpu = spent(&postmaster).await;
        drains.push(drain(&world, sink, events).await);
        drained_cpu = drained_cpu.min(spent(&postmaster).await - cpu);
        assert_eq!(server.psql("SELECT count(*) FROM portero.event"), events.to_string());
        if round == 0 {
            // The same rows in the same order, by the server's own COPY from a file of its own.
            server.psql("COPY (SELECT * FROM portero.event ORDER BY seq) TO '/tmp/portero-bench.copy' (FORMAT binary)");
        }
        server.psql("TRUNCATE portero.event; CHECKPOINT");
        let cpu = spent(&postmaster).await;
        let start = Instant::now();
        server.psql("COPY portero.event FROM '/tmp/portero-bench.copy' (FORMAT binary)");
        copies.push(start.elapsed().as_secs_f64());
        copied_cpu = copied_cpu.min(spent(&postmaster).await - cpu);
    }
    server.psql("COPY (SELECT 1) TO PROGRAM 'rm -f /tmp/portero-bench.copy'");
    let (drained, copied) = (best(&drains), copies.iter().copied().fold(f64::INFINITY, f64::min));
    say("postgresql drain", events, drained);
    println!("postgresql copy: {:.0} rows/s", events as f64 / copied);
    println!("postgresql drain / copy: {:.2} (budget 0.7)", copied / drained.wall);
    let per = 1e5 / events as f64;
    println!(
        "postgresql server: {:.2} CPU-seconds per 100,000 for the drain, {:.2} for the copy",
        drained_cpu * per,
        copied_cpu * per
    );

    if events > EVENTS {
        return;
    }
    let vendor = VendorApi::start_lean(Behaviour::Ok);
    let mut posts = Vec::new();
    for round in 0..rounds {
        let config = api_config(vendor.url(), 100, TIMEOUT);
        let sink = api::Api::new(&format!("vendor-{round}"), config, world.clock.clone()).unwrap();
        posts.push(drain(&world, sink, events).await);
    }
    // The HTTP server runs in this process: its time is in here, too.
    say("api drain, server included", events, best(&posts));
}

/// What a drain took.
#[derive(Clone, Copy)]
struct Taken {
    wall: f64,
    cpu: f64,
    /// Resident memory before it and the most while it ran, KiB.
    resident: (u64, u64),
}

/// Runs a relay until nothing is pending.
async fn drain<S: Sink + 'static>(world: &World, sink: S, events: usize) -> Taken {
    let name = sink.name().to_owned();
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let before = resident();
    let mut most = before;
    let relay = world.relay(sink).await;
    // The board costs nothing to ask; the ledger would flush.
    for look in 1u32.. {
        if relay.board.read().iter().any(|s| s.delivered >= events as u64) {
            break;
        }
        if look.is_multiple_of(16) {
            most = most.max(resident());
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let taken = Taken { wall: start.elapsed().as_secs_f64(), cpu: cpu_seconds() - cpu, resident: (before, most) };
    assert_eq!(world.drained(&name).await.delivered, events as u64);
    relay.stop().await;
    taken
}

fn best(rounds: &[Taken]) -> Taken {
    let quickest = rounds.iter().copied().min_by(|a, b| a.wall.total_cmp(&b.wall)).unwrap();
    // Memory that a round leaves to the allocator is there before the next one.
    let most = rounds.iter().map(|taken| taken.resident.1).max().unwrap();
    Taken { resident: (rounds[0].resident.0, most), ..quickest }
}

fn say(what: &str, events: usize, taken: Taken) {
    let (rate, each) = (events as f64 / taken.wall, taken.cpu * 1e5 / events as f64);
    let (before, most) = taken.resident;
    println!("{what}: {rate:.0} rows/s, {each:.2} CPU-seconds per 100,000 in this process");
    println!("{what}: resident {:.1} MB before, {:.1} MB at most", before as f64 / 1024.0, most as f64 / 1024.0);
}

/// CPU seconds of the server's processes that have ended; waits a moment for those that are ending.
async fn spent(postmaster: &str) -> f64 {
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let stat = std::fs::read_to_string(format!("/proc/{postmaster}/stat")).unwrap_or_default();
    // proc(5): fields 16 and 17, cutime and cstime, in hundredths of a second everywhere Linux runs today.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(13).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// `VmRSS` of this process, KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn cpu_seconds() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}
