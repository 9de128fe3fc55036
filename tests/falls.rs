//! The real gateway killed at every step of applying a bundle: the next start is on the old or the new one, never neither.
//!
//! strace kills it at the N-th call that touches the store of bundles, for every N until it applies one unharmed. The same
//! at the library's own steps, without a gateway, is in `bundles.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a helper that fails is a failed test"
)]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use support::shelf::{Manner, Shelf};
use support::{
    Behaviour, DEADLINE, Gateway, Process, Signer, VendorApi, api_sink, eventually, find_program, free_port, tempdir,
};

/// Every call by which something of the store comes to be on the disk, or goes from it.
const CALLS: &str = "openat,write,fsync,rename,renameat,renameat2,unlink,unlinkat";

/// Swipes between two falls.
const SWIPES: u32 = 3;

/// A gateway that asks a shelf every second, with the yard at its own broker and one vendor.
struct Site {
    gateway: Gateway,
    shelf: Shelf,
    signer: Signer,
    broker: u16,
    vendor: VendorApi,
    dir: tempfile::TempDir,
    played: u32,
}

impl Site {
    fn start() -> Self {
        let (dir, broker, shelf, vendor) = (tempdir(), free_port(), Shelf::start(), VendorApi::start(Behaviour::Ok));
        let signer = Signer::new();
        let config = dir.path().join("portero.toml");
        // Nothing is kept or given back while the test runs: a start counts as one of three.
        let remote = signer.remote(&shelf.url("gw.toml"), "probation_seconds = 3600");
        let listen = format!("listen = \"127.0.0.1:{broker}\"");
        std::fs::write(&config, support::yard_config(dir.path(), &listen, &api_sink(&vendor.url(), 10)) + &remote)
            .unwrap();
        let mut gateway = Gateway::prepare(&config, &[]);
        gateway.restart_ready();
        Self { gateway, shelf, signer, broker, vendor, dir, played: 0 }
    }

    fn push(&self, revision: u64) {
        let body = format!("{}max_body_bytes = {}\n", api_sink(&self.vendor.url(), 10), 50_000 + revision);
        self.signer.lay(&self.shelf, &format!("revision = {revision}\n"), &body);
    }

    /// The revision that is in force; 0 without one.
    fn runs(&self) -> u64 {
        let status = self.gateway.cli_json(&["status", "--json"]);
        status["configuration"]["remote"]["revision"].as_u64().unwrap_or(0)
    }

    fn flows(&mut self) {
        self.played += 1;
        self.gateway.play_yard(self.broker, SWIPES, self.played, &[]);
        let wanted = usize::try_from(self.played * SWIPES).unwrap();
        eventually("what is heard arrives", DEADLINE, || self.vendor.stored_count() >= wanted);
    }
}

/// A call on the store: its name, and how many of that name there are up to it. strace counts each name for itself.
type Step = (String, usize);

/// strace over a gateway's calls on its store while a bundle of that revision comes; kills the gateway as one of them begins.
fn strace(gateway: &Gateway, store: &Path, trace: &Path, new: u64, at: Option<&Step>) -> Process {
    let mut command = Command::new(find_program("strace", &[]));
    command.args(["-f", "-y", "-p", &gateway.pid().to_string(), "-e", &format!("trace={CALLS}"), "-o"]).arg(trace);
    let revisions = new.saturating_sub(3)..=new;
    let bundles: Vec<String> =
        revisions.flat_map(|n| [format!("bundle-{n}.toml"), format!("bundle-{n}.toml.minisig")]).collect();
    command.arg("-P").arg(store);
    for name in bundles.iter().map(String::as_str).chain(["state", "state.copy"]) {
        command.arg("-P").arg(store.join(name)).arg("-P").arg(store.join(format!("{name}.new")));
    }
    if let Some((name, at)) = at {
        command.args(["-e", &format!("inject={name}:signal=SIGKILL:when={at}")]);
    }
    let said = trace.with_extension("said");
    command.stdin(Stdio::null()).stderr(std::fs::File::create(&said).unwrap());
    let process = Process::spawn(&mut command);
    eventually("strace holds the gateway", DEADLINE, || std::fs::read_to_string(&said).unwrap().contains(" attached"));
    process
}

/// The steps that a trace shows. All are of one thread: the one that applies.
fn steps(trace: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in trace.lines().filter(|line| !line.contains("resumed>")) {
        let Some((name, _)) = line.split_once(' ').and_then(|(_, call)| call.trim_start().split_once('(')) else {
            continue;
        };
        let at = 1 + steps.iter().filter(|step| step.0 == name).count();
        steps.push((name.to_owned(), at));
    }
    steps
}

/// Which of them are tried: all of them in a long run, else the first and last few and some between.
fn tried(steps: &[Step]) -> Vec<&Step> {
    let (count, between) = (steps.len(), steps.len().div_ceil(8));
    let is_tried = |at: usize| support::scale() >= 10 || at < 3 || at + 3 >= count || at.is_multiple_of(between);
    steps.iter().enumerate().filter(|(at, _)| is_tried(*at)).map(|(_, step)| step).collect()
}

#[test]
fn a_kill_at_any_step_of_a_live_apply_leaves_the_old_or_the_new_one_and_the_flow_goes_on() {
    let mut site = Site::start();
    let (store, trace) = (site.dir.path().join("config"), site.dir.path().join("trace"));
    let reaches = |site: &Site, revision: u64| {
        eventually(&format!("revision {revision} runs"), DEADLINE, || site.runs() == revision);
    };
    for revision in 1..=3 {
        site.push(revision);
        reaches(&site, revision);
    }
    site.flows();
    // Which steps there are.
    let mut watch = strace(&site.gateway, &store, &trace, 4, None);
    site.push(4);
    reaches(&site, 4);
    watch.signal(rustix::process::Signal::INT);
    watch.wait(DEADLINE);
    let text = std::fs::read_to_string(&trace).unwrap();
    let steps = steps(&text);
    let count = steps.len();
    assert!(count >= 28, "two files of a bundle and two states are written, renamed and synced:\n{text}");

    let (mut old, mut new) = (0, 0);
    for (step, before) in tried(&steps).into_iter().zip(4..) {
        let after = before + 1;
        let mut strace = strace(&site.gateway, &store, &trace, after, Some(step));
        site.push(after);
        eventually(&format!("it is killed at {step:?}"), DEADLINE, || !site.gateway.running());
        strace.wait(DEADLINE);
        // Nobody brings the new one again before it is seen what the start is on.
        site.shelf.behave(Manner::Page);
        site.gateway.restart_ready();
        let runs = site.runs();
        assert!(runs == before || runs == after, "step {step:?} of {count}: {runs} is neither {before} nor {after}");
        let shown = site.gateway.cli(&["config", "show"]);
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains(&format!("max_body_bytes = {}", 50_000 + runs)), "step {step:?} of {count}: {shown}");
        assert!(!site.gateway.log().contains("configuration is not as it should be"), "{}", site.gateway.log());
        if runs == before {
            old += 1;
        } else {
            new += 1;
        }
        site.flows();
        site.shelf.behave(Manner::Files);
        reaches(&site, after);
    }
    println!("{count} steps, {} falls: {old} starts on the old one, {new} on the new one", old + new);
    assert!(old > 0 && new > 0, "{old} on the old one, {new} on the new one");
    assert_eq!(site.vendor.oracle().doubled(), Vec::<&str>::new());
    let verified = site.gateway.cli_json(&["journal", "verify", "--json"]);
    assert_eq!(verified["ok"], true, "{verified}");
    assert_eq!(site.gateway.sigterm().code(), Some(0), "{}", site.gateway.log());
}
