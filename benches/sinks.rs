//! Draining a backlog of 100,000 events: into PostgreSQL, against a `COPY` of the same rows into the same indexed table,
//! and into an HTTP API. Prints rows/s, the ratio and the CPU time that this process spent per event.
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
const ROUNDS: usize = 3;

fn main() {
    // `cargo bench -- --list` and filters that don't mean us.
    if std::env::args().any(|a| a == "--list") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run());
}

async fn run() {
    let world = World::new().await;
    for _ in 0..EVENTS / 1000 {
        world.punches(1000).await;
    }
    println!("{EVENTS} events in the journal, best of {ROUNDS} rounds");
    let server = server().await;
    let mut drains = Vec::new();
    for round in 0..ROUNDS {
        server.psql("TRUNCATE portero.event; CHECKPOINT");
        let config = postgres::Config {
            url: server.url_as("gateway"),
            password: None,
            batch: 2000,
            tls: TlsMode::Disable,
            ca_file: None,
            timeout: TIMEOUT,
        };
        let sink = postgres::Postgres::new(&format!("central-{round}"), &config, "00ff", world.clock.clone()).unwrap();
        drains.push(drain(&world, sink).await);
    }
    assert_eq!(server.psql("SELECT count(*) FROM portero.event"), EVENTS.to_string());
    let drained = best(&drains);
    // The same rows in the same order, by the server's own COPY from a file of its own.
    server.psql("COPY (SELECT * FROM portero.event ORDER BY seq) TO '/tmp/portero-bench.copy' (FORMAT binary)");
    let mut copies = Vec::new();
    for _ in 0..ROUNDS {
        server.psql("TRUNCATE portero.event; CHECKPOINT");
        let start = Instant::now();
        server.psql("COPY portero.event FROM '/tmp/portero-bench.copy' (FORMAT binary)");
        copies.push((start.elapsed().as_secs_f64(), 0.0));
    }
    server.psql("COPY (SELECT 1) TO PROGRAM 'rm -f /tmp/portero-bench.copy'");
    let copied = best(&copies);
    say("postgresql drain", drained);
    println!("postgresql copy: {:.0} rows/s", EVENTS as f64 / copied.0);
    println!("postgresql drain / copy: {:.2} (budget 0.7)", copied.0 / drained.0);

    let vendor = VendorApi::start_lean(Behaviour::Ok);
    let mut posts = Vec::new();
    for round in 0..ROUNDS {
        let config = api_config(vendor.url(), 100, TIMEOUT);
        let sink = api::Api::new(&format!("vendor-{round}"), config, world.clock.clone()).unwrap();
        posts.push(drain(&world, sink).await);
    }
    // The HTTP server runs in this process: its time is in here, too.
    say("api drain, server included", best(&posts));
}

/// Wall and CPU seconds until nothing is pending.
async fn drain<S: Sink + 'static>(world: &World, sink: S) -> (f64, f64) {
    let name = sink.name().to_owned();
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let relay = world.relay(sink).await;
    // The board costs nothing to ask; the ledger would flush.
    while relay.board.read().iter().all(|s| s.delivered < EVENTS as u64) {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let taken = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    assert_eq!(world.drained(&name).await.delivered, EVENTS as u64);
    relay.stop().await;
    taken
}

fn best(rounds: &[(f64, f64)]) -> (f64, f64) {
    rounds.iter().copied().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

fn say(what: &str, (wall, cpu): (f64, f64)) {
    let (rate, each) = (EVENTS as f64 / wall, cpu * 1e6 / EVENTS as f64);
    println!("{what}: {rate:.0} rows/s, {each:.1} us CPU per event in this process");
}

fn cpu_seconds() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}
