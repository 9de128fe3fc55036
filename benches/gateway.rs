//! The whole gateway measured from outside: the real binary, real clients, mosquitto, PostgreSQL and a vendor API.
//!
//! `cargo bench --bench gateway [-- PART …]`, parts: `own`, `mosquitto`, `latency`, `isolation`, `start`. All of them without
//! an argument. Each line names what was measured; figures that mean something stand in `benches/README.md`.
//! Must not: assert on time. A benchmark reports.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::{Behaviour, Gateway, Mosquitto, MosquittoOptions, Postgres, VendorApi, eventually};

const DEADLINE: Duration = Duration::from_secs(600);

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let is_wanted = |part: &str| wanted.is_empty() || wanted.iter().any(|w| w == part);
    if is_wanted("own") {
        ingest(None, false);
        ingest(None, true);
    }
    if is_wanted("mosquitto") {
        ingest(Some(()), false);
        ingest(Some(()), true);
    }
    if is_wanted("latency") {
        latency();
    }
    if is_wanted("isolation") {
        isolation();
    }
    if is_wanted("start") {
        start();
    }
}

struct Site {
    dir: tempfile::TempDir,
    url: String,
    postgres: Option<Postgres>,
    vendor: Option<VendorApi>,
    gateway: Gateway,
    _mosquitto: Option<Mosquitto>,
}

impl Site {
    fn new(mosquitto: bool, sinks: bool) -> Self {
        let dir = support::tempdir();
        let mosquitto = mosquitto.then(|| {
            Mosquitto::start(
                dir.path(),
                &MosquittoOptions { persistence: false, max_inflight: 2000, ..Default::default() },
            )
        });
        let (url, broker) = match &mosquitto {
            Some(broker) => (broker.url(), format!("url = \"{}\"\nclient_id = \"gw-bench\"", broker.url())),
            None => {
                let port = support::free_port();
                (format!("mqtt://127.0.0.1:{port}"), format!("listen = \"127.0.0.1:{port}\""))
            }
        };
        let postgres = sinks.then(Postgres::start);
        let vendor = sinks.then(|| VendorApi::start_lean(Behaviour::Ok));
        let mut tables = String::new();
        if let (Some(postgres), Some(vendor)) = (&postgres, &vendor) {
            tables = support::api_sink(&vendor.url(), 500) + &support::postgres_sink(&postgres.url());
        }
        let config = dir.path().join("portero.toml");
        std::fs::write(&config, support::yard_config(dir.path(), &broker, &tables)).unwrap();
        let gateway = Gateway::prepare(&config, &[]);
        if let Some(postgres) = &postgres {
            let applied = gateway.cli(&["central", "init", "--apply", "--tls", "disable", "--url", &postgres.url()]);
            assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        }
        Self { dir, url, postgres, vendor, gateway, _mosquitto: mosquitto }
    }

    fn ready(&mut self) {
        self.gateway.restart_ready();
        let gateway = &self.gateway;
        eventually("the broker link is up", DEADLINE, || {
            gateway.cli_json(&["status", "--json"]).to_string().contains("\"up\"")
        });
    }

    fn load(&self, count: u64, rate: u64) -> serde_json::Value {
        let manifest = self.dir.path().join("manifest.jsonl");
        let (count, rate) = (count.to_string(), rate.to_string());
        self.gateway.cli_json(&[
            "simulate",
            "mqtt-json",
            "--broker",
            &self.url,
            "--count",
            &count,
            "--rate",
            &rate,
            "--devices",
            "16",
            "--connections",
            "4",
            "--window",
            "2000",
            "--manifest",
            manifest.to_str().unwrap(),
            "--json",
        ])
    }

    fn appended(&self) -> u64 {
        self.gateway.cli_json(&["journal", "stats", "--json"])["appended"].as_u64().unwrap()
    }

    fn delivered(&self, sink: &str) -> u64 {
        let stats = self.gateway.cli_json(&["journal", "stats", "--json"]);
        let sinks = stats["sinks"].as_array().unwrap().clone();
        sinks.iter().find(|s| s["name"] == sink).map_or(0, |s| s["delivered"].as_u64().unwrap())
    }
}

/// User and system CPU seconds of a process so far (`proc(5)`, fields 14 and 15, in clock ticks of 10 ms).
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn proc_value(pid: u32, file: &str, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line = text.lines().find(|l| l.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn ingest(mosquitto: Option<()>, sinks: bool) {
    const COUNT: u64 = 300_000;
    let mut site = Site::new(mosquitto.is_some(), sinks);
    site.ready();
    site.load(2_000, 0); // warm
    let before =
        (cpu_seconds(site.gateway.pid()), proc_value(site.gateway.pid(), "io", "write_bytes:"), site.appended());
    let begun = Instant::now();
    let summary = site.load(COUNT, 0);
    let target = before.2 + COUNT;
    eventually("all of it is in the journal", DEADLINE, || site.appended() >= target);
    let journalled = begun.elapsed().as_secs_f64();
    if sinks {
        eventually("all of it is delivered", DEADLINE, || {
            site.delivered("vendor") >= target && site.delivered("central") >= target
        });
    }
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = cpu_seconds(site.gateway.pid()) - before.0;
    let bytes = proc_value(site.gateway.pid(), "io", "write_bytes:") - before.1;
    println!(
        "{} {}: {:.0} events/s confirmed by the broker, {:.0} events/s into the journal, {:.0} events/s to the end, {:.2} CPU-s per 100,000, {:.0} bytes to disk per event, VmRSS {} KiB, VmHWM {} KiB",
        if mosquitto.is_some() { "behind mosquitto" } else { "own broker" },
        if sinks { "to both sinks" } else { "journal only" },
        summary["events_per_second"].as_f64().unwrap_or(0.0),
        COUNT as f64 / journalled,
        COUNT as f64 / seconds,
        cpu / (COUNT as f64 / 100_000.0),
        bytes as f64 / COUNT as f64,
        proc_value(site.gateway.pid(), "status", "VmRSS:"),
        proc_value(site.gateway.pid(), "status", "VmHWM:"),
    );
}

/// From the device's send to the row at the centre, at 50 events/s: the central table stamps each row on arrival.
fn latency() {
    let mut site = Site::new(false, true);
    let postgres = site.postgres.as_ref().unwrap();
    postgres.psql("ALTER TABLE portero.event ADD COLUMN arrived timestamptz DEFAULT clock_timestamp()");
    let arrivals: Arc<Mutex<Vec<(String, i64)>>> = Arc::default();
    let seen = Arc::clone(&arrivals);
    site.vendor.as_ref().unwrap().behave(Behaviour::Custom(Arc::new(move |request| {
        let now = jiff::Timestamp::now().as_microsecond();
        let natives = request.events().into_iter().filter_map(|e| Some((e["native_seq"].as_str()?.to_owned(), now)));
        seen.lock().unwrap().extend(natives);
        support::Reply::ok()
    })));
    site.ready();
    site.load(1_000, 50);
    eventually("all of it is delivered", DEADLINE, || {
        site.delivered("central") >= 1_000 && site.delivered("vendor") >= 1_000
    });
    let manifest = std::fs::read_to_string(site.dir.path().join("manifest.jsonl")).unwrap();
    let mut sent = std::collections::HashMap::new();
    for line in manifest.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let at: jiff::Timestamp = line["sent_at"].as_str().unwrap().parse().unwrap();
        sent.insert(line["native_seq"].as_str().unwrap().to_owned(), at.as_microsecond());
    }
    let postgres = site.postgres.as_ref().unwrap();
    let rows = postgres.psql(
        "SELECT body->>'native_seq' || ' ' || (extract(epoch FROM arrived) * 1000000)::bigint FROM portero.event",
    );
    report(
        "terminal to PostgreSQL",
        rows.lines()
            .filter_map(|row| {
                let (native, arrived) = row.split_once(' ')?;
                Some(arrived.parse::<i64>().ok()? - sent.get(native)?)
            })
            .collect(),
    );
    let arrivals = arrivals.lock().unwrap();
    report(
        "terminal to vendor API",
        arrivals.iter().filter_map(|(native, arrived)| Some(arrived - sent.get(native)?)).collect(),
    );
}

fn report(what: &str, mut micros: Vec<i64>) {
    micros.sort_unstable();
    let at = |q: f64| micros[((micros.len() - 1) as f64 * q) as usize] as f64 / 1000.0;
    println!(
        "{what} at 50 events/s: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms of {}",
        at(0.5),
        at(0.99),
        at(1.0),
        micros.len()
    );
}

/// Each sink's throughput with the other in order, and with the other down.
fn isolation() {
    let (central, vendor) = drained(None);
    let (alone, _) = drained(Some("vendor"));
    let (_, alone_too) = drained(Some("central"));
    println!("isolation: PostgreSQL at {:.2} of its throughput while the vendor is down", alone / central);
    println!("isolation: the vendor at {:.2} of its throughput while PostgreSQL is down", alone_too / vendor);
}

/// Rows/s into PostgreSQL and events/s to the vendor of a backlog, with one of the two down or none.
fn drained(down: Option<&str>) -> (f64, f64) {
    const COUNT: u64 = 100_000;
    let mut site = Site::new(false, true);
    site.ready();
    match down {
        Some("vendor") => site.vendor.as_mut().unwrap().stop(),
        Some(_) => site.postgres.as_mut().unwrap().stop_immediate(),
        None => {}
    }
    // A backlog first, so that the sink and not the load is what is measured.
    site.gateway.sigkill();
    let mut backlog = Gateway::prepare(&without_sinks(site.dir.path()), &[]);
    backlog.restart_ready();
    site.load(COUNT, 0);
    backlog.sigterm();
    let begun = Instant::now();
    site.gateway.restart_ready();
    let (postgres, vendor) = (site.postgres.as_ref().unwrap(), site.vendor.as_ref().unwrap());
    let (mut central_at, mut vendor_at) = (None, None);
    eventually("each sink that is up has everything", DEADLINE, || {
        if central_at.is_none()
            && down != Some("central")
            && postgres.psql("SELECT count(*) FROM portero.event").trim() == COUNT.to_string()
        {
            central_at = Some(begun.elapsed().as_secs_f64());
        }
        if vendor_at.is_none() && vendor.stored_count() as u64 >= COUNT {
            vendor_at = Some(begun.elapsed().as_secs_f64());
        }
        (central_at.is_some() || down == Some("central")) && (vendor_at.is_some() || down == Some("vendor"))
    });
    let rate = |at: Option<f64>| at.map_or(0.0, |seconds| COUNT as f64 / seconds);
    let (central, vendor) = (rate(central_at), rate(vendor_at));
    println!(
        "drain with {} down: PostgreSQL {central:.0} rows/s, vendor {vendor:.0} events/s",
        down.unwrap_or("nothing")
    );
    (central, vendor)
}

/// The same site without its sinks: the sinks keep their place in the journal.
fn without_sinks(dir: &Path) -> std::path::PathBuf {
    let text = std::fs::read_to_string(dir.join("portero.toml")).unwrap();
    let path = dir.join("backlog.toml");
    std::fs::write(&path, text.split("\n[[sink]]").next().unwrap()).unwrap();
    path
}

fn start() {
    let mut site = Site::new(false, true);
    let begun = Instant::now();
    site.gateway.restart_ready();
    println!("start to ready, empty: {:.0} ms", begun.elapsed().as_secs_f64() * 1000.0);
    // Idle means idle: what a start allocates and gives back is over after some seconds.
    std::thread::park_timeout(Duration::from_secs(5));
    println!(
        "idle resident memory, one terminal, both sinks: {} KiB",
        proc_value(site.gateway.pid(), "status", "VmRSS:")
    );
    site.vendor.as_mut().unwrap().stop();
    site.postgres.as_mut().unwrap().stop_immediate();
    site.ready();
    site.load(1_000_000, 0);
    println!("resident memory with 1,000,000 pending: {} KiB", proc_value(site.gateway.pid(), "status", "VmRSS:"));
    site.gateway.sigterm();
    let begun = Instant::now();
    site.gateway.restart_ready();
    println!("start to ready with 1,000,000 pending: {:.0} ms", begun.elapsed().as_secs_f64() * 1000.0);
    println!("resident memory after that start: {} KiB", proc_value(site.gateway.pid(), "status", "VmRSS:"));
}
