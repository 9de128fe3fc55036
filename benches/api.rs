//! Draining a backlog into an HTTP API, one request after the other as a relay does it, against a bare reqwest loop that posts
//! the same bytes to the same server, one that answers at once and one that takes its time. Prints events/s and the ratio at 1,
//! 100 and 500 events a request.
//!
//! Must not: be a test. No figure here fails anything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a bench")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a bench")]

#[path = "../tests/support/mod.rs"]
mod support;

#[path = "../tests/sinks/world.rs"]
mod world;

use std::time::Duration;

use bytes::Bytes;
use portero::deliver::{Mapped, Sink as _, api};
use portero::journal::{Seq, Start};
use tokio::time::Instant;

use crate::world::World;

const ROUNDS: usize = 3;

/// What a request to an API on the internet takes at least.
const FAR: Duration = Duration::from_millis(10);

fn main() {
    // `cargo bench -- --list` and filters that don't mean us.
    if std::env::args().any(|a| a == "--list") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run());
}

async fn run() {
    let (at_once, far) = (serve(Duration::ZERO), serve(FAR));
    for (events, batch, url) in [
        (20_000, 1, &at_once),
        (100_000, 100, &at_once),
        (100_000, 500, &at_once),
        (2_000, 1, &far),
        (100_000, 100, &far),
        (100_000, 500, &far),
    ] {
        let world = World::new().await;
        for _ in 0..events / 1000 {
            world.punches(1000).await;
        }
        let bodies = bodies(&world, &sink(url, batch, "bytes")).await;
        let (mut bare, mut drained) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            bare.push(post(url, &bodies).await);
            let name = format!("round {round}");
            let begun = Instant::now();
            let relay = world.relay(sink(url, batch, &name)).await;
            let delivered = world.drained(&name).await.delivered;
            drained.push(begun.elapsed());
            assert_eq!(delivered, events as u64);
            relay.stop().await;
        }
        let rate = |times: &[Duration]| events as f64 / times.iter().min().unwrap().as_secs_f64();
        let (bare, drained) = (rate(&bare), rate(&drained));
        println!(
            "batch {batch}: drain {drained:.0} events/s, bare loop {bare:.0} events/s, {:.2} of it",
            drained / bare
        );
    }
}

/// A server that reads the body and says yes, on a thread of its own.
fn serve(after: Duration) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let router = axum::Router::new()
                .fallback(move |body: Bytes| async move {
                    drop(body);
                    tokio::time::sleep(after).await;
                })
                .layer(axum::extract::DefaultBodyLimit::disable());
            axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap();
        });
    });
    format!("http://{address}/events")
}

fn sink(url: &str, batch: usize, name: &str) -> api::Api {
    let config = api::Config {
        url: url.to_owned(),
        batch,
        max_body_bytes: 4 << 20,
        timeout: Duration::from_secs(30),
        ..api::Config::default()
    };
    let clock = portero::clock::Clock::new(portero::clock::SyncSource::Trusted);
    api::Api::new(name, config, clock).unwrap()
}

/// What leaves for the whole journal, request by request.
async fn bodies(world: &World, sink: &api::Api) -> Vec<(String, Bytes)> {
    let id = world.journal.sink("bytes", Start::All).await.unwrap().id;
    let (rows, bytes) = sink.limits();
    let (mut after, mut bodies) = (Seq(0), Vec::new());
    loop {
        let records = world.journal.read_after(id, after, rows, bytes).await.unwrap();
        let Some(last) = records.last() else { return bodies };
        after = last.seq;
        let Mapped::Flight { key, body, .. } = sink.map(&records, false) else { panic!("an API sink gives a flight") };
        bodies.push((key, body.into()));
    }
}

async fn post(url: &str, bodies: &[(String, Bytes)]) -> Duration {
    let tls = portero::tls::client_config(portero::tls::TlsMode::Require, None).unwrap();
    let client = reqwest::Client::builder().tls_backend_preconfigured((*tls).clone()).no_proxy().build().unwrap();
    let begun = Instant::now();
    for (key, body) in bodies {
        let request = client.post(url).header("idempotency-key", key).header("content-type", "application/json");
        let answer = request.body(body.clone()).send().await.unwrap();
        assert!(answer.status().is_success());
        drop(answer.bytes().await.unwrap());
    }
    begun.elapsed()
}
