//! Keeps the house in order: the floor table as data, and what must not be left lying about. New rules go into the tables
//! here, their checkers into tidy/rules.rs, and every checker is shown to fail in tidy/bad_inputs.rs.
//! Must not: know one file by name where a rule would do, or pass over a file because it can't be read.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "tidy/bad_inputs.rs"]
mod bad_inputs;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/scan.rs"]
mod scan;

use std::path::Path;
use std::process::Command;

use rules::Source;

/// A module, its floor, and what of ours it may import.
pub(crate) struct Floor {
    pub(crate) module: &'static str,
    pub(crate) floor: u8,
    pub(crate) may: &'static [&'static str],
}

/// A path (crate, module or item) that only these modules may name.
pub(crate) struct Fence {
    pub(crate) path: &'static str,
    pub(crate) only: &'static [&'static str],
    pub(crate) reason: &'static str,
}

const fn floor(floor: u8, module: &'static str, may: &'static [&'static str]) -> Floor {
    Floor { module, floor, may }
}

const fn fence(path: &'static str, only: &'static [&'static str], reason: &'static str) -> Fence {
    Fence { path, only, reason }
}

/// Imports only point down, never sideways. A change here is a commit of its own, together with `src/lib.rs`.
const FLOORS: &[Floor] = &[
    floor(0, "event", &[]),
    floor(0, "clock", &["event"]),
    floor(0, "backoff", &[]),
    floor(0, "progress", &[]),
    floor(0, "secret", &[]),
    floor(0, "tls", &[]),
    floor(0, "telemetry", &[]),
    floor(1, "decode", &["event"]),
    floor(1, "journal", &["event", "clock"]),
    floor(2, "terminal", &["event", "clock", "backoff", "progress", "secret", "tls", "decode", "journal"]),
    floor(2, "deliver", &["event", "clock", "backoff", "progress", "secret", "tls", "journal"]),
    floor(2, "simulate", &["event", "clock", "decode"]),
    floor(3, "manage", NOT_PLAYED),
    floor(4, "gateway", BELOW_GATEWAY),
    floor(5, "cli", BELOW_CLI),
    floor(5, "main", &["cli"]),
];

/// What runs on a site never imports the simulators.
const NOT_PLAYED: &[&str] = &[
    "event",
    "clock",
    "backoff",
    "progress",
    "secret",
    "tls",
    "telemetry",
    "decode",
    "journal",
    "terminal",
    "deliver",
];

const BELOW_GATEWAY: &[&str] = &[
    "event",
    "clock",
    "backoff",
    "progress",
    "secret",
    "tls",
    "telemetry",
    "decode",
    "journal",
    "terminal",
    "deliver",
    "manage",
];

const BELOW_CLI: &[&str] = &[
    "event",
    "clock",
    "backoff",
    "progress",
    "secret",
    "tls",
    "telemetry",
    "decode",
    "journal",
    "terminal",
    "deliver",
    "simulate",
    "manage",
    "gateway",
];

const ALL_BUT_DECODE: &[&str] = &[
    "clock",
    "backoff",
    "progress",
    "secret",
    "tls",
    "telemetry",
    "journal",
    "terminal",
    "deliver",
    "simulate",
    "manage",
    "gateway",
    "cli",
    "main",
];

const NO_IO: &str = "decoders and the event model are pure: input and time come in as arguments";

const FENCES: &[Fence] = &[
    fence("rusqlite", &["journal"], "the journal is the only SQLite in the tree"),
    fence("rumqttc", &["terminal", "simulate"], "MQTT belongs to the links and to what plays a terminal"),
    fence("tokio_serial", &["terminal", "simulate"], "serial lines belong to the links and to what plays a terminal"),
    fence("tokio_postgres", &["deliver"], "PostgreSQL is a sink"),
    fence("tokio_postgres_rustls", &["deliver"], "PostgreSQL is a sink"),
    fence("postgres_protocol", &["deliver"], "PostgreSQL is a sink"),
    fence("reqwest", &["deliver", "simulate", "manage"], "HTTP goes out from sinks, simulators and management"),
    fence("jsonschema", &["deliver::contract"], "a tool for the desk: the gateway never judges by a schema"),
    fence("saphyr_parser", &["deliver::contract"], "YAML is read where a vendor's document is, and nowhere else"),
    fence("axum", &["manage"], "HTTP comes in at management alone"),
    fence("sd_notify", &["manage"], "systemd belongs to management"),
    fence("clap", &["cli", "main"], "arguments are resolved in the command line"),
    fence("anyhow", &["cli", "main"], "each folder has one error enum of its own"),
    fence("comfy_table", &["cli"], "tables are for people, at the command line"),
    fence("std::process::exit", &["cli", "main"], "the exit code is decided in one place"),
    fence("jiff::tz", &["clock"], "clock.rs is the one place that knows time zones"),
    fence("jiff::Zoned", &["clock"], "clock.rs is the one place that knows time zones"),
    fence("jiff::Timestamp::now", &["clock"], "clock.rs is the one place that asks what time it is"),
    fence("Timestamp::now", &["clock"], "clock.rs is the one place that asks what time it is"),
    fence("std::time::SystemTime", &["clock"], "clock.rs is the one place that asks what time it is"),
    fence("std::time::Instant", &["clock"], "clock.rs, or tokio's Instant, which tests can stop"),
    fence(
        "std::thread::spawn",
        &["journal"],
        "only the journal and the watch over the parts have threads of their own",
    ),
    fence(
        "std::thread::Builder",
        &["journal", "gateway"],
        "only the journal and the watch over the parts have threads of their own",
    ),
    fence("tokio::spawn", &["gateway", "deliver"], "the gateway starts what lives long; a sink may own its connection"),
    fence("tokio", ALL_BUT_DECODE, NO_IO),
    fence("tokio_util", ALL_BUT_DECODE, NO_IO),
    fence("futures_util", ALL_BUT_DECODE, NO_IO),
    fence("std::fs", ALL_BUT_DECODE, NO_IO),
    fence("std::net", ALL_BUT_DECODE, NO_IO),
    fence("std::process", ALL_BUT_DECODE, NO_IO),
    fence("std::env", ALL_BUT_DECODE, NO_IO),
    fence("std::thread", ALL_BUT_DECODE, NO_IO),
    fence("fastrand", ALL_BUT_DECODE, NO_IO),
    fence("rustix", ALL_BUT_DECODE, NO_IO),
    fence("libc", ALL_BUT_DECODE, NO_IO),
];

const LEFTOVERS: &[(&str, &str)] = &[
    ("todo!", "finish it"),
    ("unimplemented!", "finish it"),
    ("dbg!", "was for looking"),
    ("#[ignore", "a test that does not run protects nothing"),
    ("unbounded_channel", "bounded everything (I10)"),
    ("spawn_blocking", "the journal has its own thread; nothing else may block"),
];

/// `eventually` sleeps between two looks; `pause` plays something that is slow itself: a screen, a far end.
const SLEEPERS: &[&str] = &["eventually", "pause"];

/// What may be at the top level beside dotfiles: fixed by the user, then what tools demand.
const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "src",
    "config",
    "systemd",
    "tests",
    "cross.toml",
    "README.md",
    "Cargo.lock",
    "Makefile",
    "LICENSE",
    "CHANGELOG.md",
    "deny.toml",
    "benches",
    "examples",
    "fuzz",
];

/// Written in two halves, so that this file may hold them.
const BANNED_WORDS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/Use", "rs/")];

const MOST_LINES: usize = 500;

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file that is, or could be, committed. Without git (a source archive, another owner), everything that is not
/// built.
fn files() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(top())
        .output();
    if let Ok(listed) = listed
        && listed.status.success()
    {
        let names = String::from_utf8(listed.stdout).expect("file names are UTF-8");
        let mut names: Vec<String> = names.split_terminator('\0').map(str::to_owned).collect();
        names.retain(|n| top().join(n).is_file());
        return names;
    }
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(top().join(&folder)).expect("a folder of ours can be read") {
            let entry = entry.expect("an entry of ours can be read");
            let name = format!("{folder}{}", entry.file_name().to_string_lossy());
            if ["target", ".git", ".cross"].contains(&name.as_str()) {
                continue;
            }
            if entry.path().is_dir() { folders.push(format!("{name}/")) } else { found.push(name) }
        }
    }
    found
}

fn read(name: &str) -> String {
    let bytes = std::fs::read(top().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Our Rust files; those that are declared for tests alone have no product in them.
fn sources() -> Vec<Source> {
    let mut sources: Vec<Source> =
        files().iter().filter(|n| n.ends_with(".rs")).map(|n| Source::new(n, &read(n))).collect();
    assert!(sources.len() > 20, "found only {} Rust files, where are they?", sources.len());
    let mut for_tests = Vec::new();
    for source in &sources {
        let folder = source.path.strip_suffix("/mod.rs").or_else(|| source.path.strip_suffix(".rs"));
        for module in &source.test_modules {
            for_tests.push(format!("{}/{module}", folder.expect("it ends with .rs")));
        }
    }
    for source in &mut sources {
        if for_tests.iter().any(|t| source.path == format!("{t}.rs") || source.path.starts_with(&format!("{t}/"))) {
            source.product.clear();
        }
    }
    sources
}

fn nothing_wrong(problems: impl Iterator<Item = String>) {
    let problems: Vec<String> = problems.collect();
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn imports_only_point_down() {
    nothing_wrong(sources().iter().flat_map(|s| rules::floors(s, FLOORS)));
}

#[test]
fn the_floor_table_is_a_house() {
    nothing_wrong(FLOORS.iter().flat_map(|f| {
        f.may.iter().filter_map(move |below| {
            let below = FLOORS.iter().find(|b| b.module == *below)?;
            let down = below.floor < f.floor || (f.module == "clock" && below.module == "event");
            let down = down || (f.module == "main" && below.module == "cli");
            (!down).then(|| format!("{} may not import {}: that is not below it", f.module, below.module))
        })
    }));
}

#[test]
fn the_floor_table_for_people_says_the_same() {
    nothing_wrong(rules::written_floors(&read("src/lib.rs"), FLOORS).into_iter());
}

#[test]
fn fenced_crates_and_items_stay_where_they_belong() {
    nothing_wrong(sources().iter().flat_map(|s| rules::fences(s, FENCES)));
}

#[test]
fn every_file_says_first_what_it_is() {
    nothing_wrong(sources().iter().flat_map(rules::opening));
}

#[test]
fn no_file_is_too_long() {
    let sources = sources();
    nothing_wrong(sources.iter().filter(|s| s.path.starts_with("src/")).flat_map(|s| rules::length(s, MOST_LINES)));
}

#[test]
fn nothing_is_left_lying_about() {
    nothing_wrong(sources().iter().flat_map(|s| rules::leftovers(s, LEFTOVERS)));
}

#[test]
fn nobody_sleeps_to_synchronise() {
    nothing_wrong(sources().iter().flat_map(|s| rules::sleeps(s, SLEEPERS)));
}

#[test]
fn unwrap_is_for_tests() {
    nothing_wrong(sources().iter().flat_map(rules::unwraps));
}

#[test]
fn the_top_level_holds_only_what_belongs_there() {
    let files = files();
    nothing_wrong(rules::top_level(files.iter().map(String::as_str), TOP_LEVEL).into_iter());
}

#[test]
fn no_file_names_the_machine_it_was_written_on() {
    nothing_wrong(files().iter().flat_map(|n| rules::banned_words(n, &read(n), BANNED_WORDS)));
}

#[test]
fn every_make_target_in_a_page_exists() {
    let makefile = read("Makefile");
    nothing_wrong(
        files().iter().filter(|n| n.ends_with(".md")).flat_map(|n| rules::make_targets(n, &read(n), &makefile)),
    );
}

#[test]
fn every_subcommand_in_a_page_exists() {
    let mut problems = Vec::new();
    for page in files().iter().filter(|n| n.ends_with(".md")) {
        for words in rules::commands(&read(page), "portero") {
            let Some(subcommand) = words.get(1).filter(|w| !w.starts_with('-')) else { continue };
            let help = Command::new(env!("CARGO_BIN_EXE_portero"))
                .args([subcommand, "--help"])
                .output()
                .unwrap_or_else(|e| panic!("portero does not start: {e}"));
            if !help.status.success() {
                problems.push(format!("{page}: portero {subcommand} does not exist"));
            }
        }
    }
    nothing_wrong(problems.into_iter());
}
