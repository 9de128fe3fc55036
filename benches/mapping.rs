//! What it costs to turn an event into the vendor's words: the plain JSON, a mapping of plain fields and times, and one with
//! a template. Prints microseconds of CPU per event, and the ratio to the plain JSON.
//!
//! Must not: be a test. No figure here fails anything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a bench")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a bench")]

#[path = "../tests/support/mod.rs"]
mod support;

#[path = "../tests/sinks/world.rs"]
mod world;

use std::path::Path;

use portero::deliver::{Kind, Mapped, Sink as _, api};
use portero::journal::Record;
use portero::manage::config::{Options, Secrets, load_text};

use crate::world::{World, record};

const EVENTS: usize = 20_000;
const ROUNDS: usize = 5;

const FIELDS: &str = r#"
[sink.map]
serialNumber = "/terminal_serial"
idNumber = { from = "/person/external_id", trim = true, strip = "." }
time = { from = "/event_time", zone = "site", format = "%Y-%m-%d %H:%M:%S" }
isEntry = { from = "/punch", map = { in = true, out = false } }
"#;

const TEMPLATE: &str = r#"
[sink.map]
who = { template = "{{ site_id }}-{{ person.external_id }}" }
"#;

fn main() {
    // `cargo bench -- --list` and filters that don't mean us.
    if std::env::args().any(|a| a == "--list") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run());
}

async fn run() {
    let world = World::new().await;
    let records: Vec<Record> = (1..=EVENTS as u64).map(|seq| record(seq, world.event(None))).collect();
    println!("{EVENTS} events, best of {ROUNDS} rounds");
    for batch in [1, 100, 500] {
        let plain = best(&sink(&world, batch, ""), &records, batch);
        let made = allocations(&sink(&world, batch, ""), &records, batch);
        println!("batch {batch}: the event's own JSON {plain:.2} us and {made:.2} allocations per event");
        for (what, keys) in [("four fields, one a local time", FIELDS), ("one template", TEMPLATE)] {
            let mapped = best(&sink(&world, batch, keys), &records, batch);
            let made = allocations(&sink(&world, batch, keys), &records, batch);
            println!(
                "batch {batch}: {what} {mapped:.2} us and {made:.2} allocations per event, {:.2} of the plain JSON",
                mapped / plain
            );
        }
    }
}

fn sink(world: &World, batch: usize, keys: &str) -> api::Api {
    let text = format!(
        "[gateway]\nid = \"g\"\nsite = \"s\"\nzone = \"America/Santiago\"\n[[sink]]\nname = \"far\"\ntype = \"api\"\n\
         url = \"http://127.0.0.1:9\"\nbatch = {batch}\non_ambiguous = \"resend\"\n{keys}"
    );
    let options = Options { secrets: Secrets::Ignore, environment: Vec::new(), credentials: None, units: Vec::new() };
    let config = load_text(Path::new("bench.toml"), &text, &options).unwrap().config;
    let Kind::Api(api) = config.sinks[0].kind.clone() else { panic!("an API") };
    api::Api::new("far", api, world.clock.clone()).unwrap()
}

/// Microseconds of CPU per event: how many fit, and their bytes.
fn best(sink: &api::Api, records: &[Record], batch: usize) -> f64 {
    let round = || {
        let start = cpu_seconds();
        for part in records.chunks(batch) {
            assert_eq!(sink.fit(part, false), part.len());
            assert!(matches!(std::hint::black_box(sink.map(part, false)), Mapped::Flight { .. }));
        }
        (cpu_seconds() - start) * 1e6 / records.len() as f64
    };
    (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min)
}

/// Allocations per event of one round.
fn allocations(sink: &api::Api, records: &[Record], batch: usize) -> f64 {
    let counted = allocation_counter::measure(|| {
        for part in records.chunks(batch) {
            assert_eq!(sink.fit(part, false), part.len());
            assert!(matches!(std::hint::black_box(sink.map(part, false)), Mapped::Flight { .. }));
        }
    });
    counted.count_total as f64 / records.len() as f64
}

fn cpu_seconds() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}
