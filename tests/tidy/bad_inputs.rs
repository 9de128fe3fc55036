//! Shows every checker failing on the smallest input that it must not let pass, and passing on its nearest good neighbour.

use crate::rules::{self, Source};
use crate::scan::{code_only, paths, without_tests};
use crate::{BANNED_WORDS, FENCES, FLOORS, LEFTOVERS, SLEEPERS, TOP_LEVEL};

fn floors(path: &str, text: &str) -> Vec<String> {
    rules::floors(&Source::new(path, text), FLOORS)
}

fn fences(path: &str, text: &str) -> Vec<String> {
    rules::fences(&Source::new(path, text), FENCES)
}

#[test]
fn an_import_that_points_up_or_sideways_is_found_however_it_is_written() {
    for bad in [
        "use crate::journal::Seq;",
        "use crate::{event, deliver::Sink};",
        "use crate::{event::{self, Event}, terminal};",
        "use crate::manage as boss;",
        "pub(crate) use crate::journal;",
        "fn f(x: &crate::journal::Seq) {}",
        "fn f() { <crate::journal::Journal as Clone>::clone(j) }",
        "use super::journal::Seq;",
        "use super::super::journal;",
        "use crate::*;",
        "use crate as c;",
        "use portero::cli;",
    ] {
        assert!(!floors("src/decode/mod.rs", bad).is_empty(), "let pass: {bad}");
    }
    for good in [
        "use crate::event::Event;",
        "use crate::{event::{Event, Fault}};",
        "use crate::decode::fields;",
        "use super::event::Event;",
        "/// See [`crate::journal`].\nstruct S;",
        "const WHERE: &str = \"crate::journal::Seq\";",
        "#[cfg(test)]\nmod tests { use crate::journal::Journal; }",
        "#[cfg(test)]\nuse crate::journal::{Journal, Seq};\nfn f() {}",
    ] {
        assert_eq!(floors("src/decode/mod.rs", good), Vec::<String>::new(), "refused: {good}");
    }
}

#[test]
fn super_leads_to_the_root_only_from_the_right_depth() {
    assert!(!floors("src/decode/anviz.rs", "use super::super::journal::Seq;").is_empty());
    assert!(floors("src/decode/anviz.rs", "use super::journal::Seq;").is_empty());
    assert!(!floors("src/event.rs", "use super::clock::Now;").is_empty());
    assert!(floors("src/event/json.rs", "use super::clock::Now;").is_empty());
}

#[test]
fn a_module_that_the_table_does_not_know_is_found() {
    assert!(!floors("src/utils.rs", "fn f() {}").is_empty());
}

#[test]
fn a_crate_outside_its_fence_is_found() {
    for (path, bad) in [
        ("src/deliver/api.rs", "use rusqlite::Connection;"),
        ("src/deliver/api.rs", "fn f(c: &::rusqlite::Connection) {}"),
        ("src/journal/mod.rs", "use {rumqttc, std::io};"),
        ("src/cli/run.rs", "use tokio_postgres as pg;"),
        ("src/gateway.rs", "use anyhow::Context as _;"),
        ("src/manage/mod.rs", "#[derive(clap::Parser)]\nstruct S;"),
        ("src/terminal/mqtt.rs", "fn f() { tokio::spawn(g()); }"),
        ("src/terminal/mqtt.rs", "use tokio::spawn;"),
        ("src/terminal/mod.rs", "let at = std::time::Instant::now();"),
        ("src/deliver/relay.rs", "use jiff::{Timestamp, Zoned};"),
        ("src/deliver/relay.rs", "use jiff::Timestamp;\nfn f() { Timestamp::now(); }"),
        ("src/gateway.rs", "fn f() { std::process::exit(1) }"),
        ("src/deliver/api/preview.rs", "use jsonschema::Validator;"),
        ("src/deliver/contracts.rs", "use saphyr_parser::Parser;"),
    ] {
        assert!(!fences(path, bad).is_empty(), "let pass in {path}: {bad}");
    }
    for (path, good) in [
        ("src/journal/writer.rs", "use rusqlite::Connection;"),
        ("src/cli/run.rs", "use anyhow::Context as _;"),
        ("src/terminal/mqtt.rs", "use tokio::time::Instant;"),
        ("src/deliver/relay.rs", "use jiff::civil::DateTime;"),
        ("src/deliver/relay.rs", "use std::time::Duration;"),
        ("src/deliver/contract/schema.rs", "use jsonschema::Validator;"),
        ("examples/demo.rs", "use axum::Router;"),
        ("tests/sinks.rs", "use tokio_postgres::NoTls;"),
    ] {
        assert_eq!(fences(path, good), Vec::<String>::new(), "refused in {path}: {good}");
    }
}

#[test]
fn a_decoder_with_input_output_or_a_clock_is_found() {
    for bad in [
        "use std::fs;",
        "use std::{fs::File, fmt};",
        "use std::net::TcpStream;",
        "use std::time::{Duration, SystemTime};",
        "use std::time::Instant;",
        "use std::time;",
        "use std::time::*;",
        "let now = std::time::Instant::now();",
        "use tokio::sync::mpsc;",
        "use tokio_util::codec::Decoder;",
        "let id = fastrand::u64(..);",
    ] {
        assert!(!fences("src/decode/rdm6300.rs", bad).is_empty(), "let pass: {bad}");
    }
    assert!(fences("src/decode/rdm6300.rs", "use std::time::Duration;\nuse std::fmt::Write as _;").is_empty());
}

#[test]
fn a_file_that_does_not_say_what_it_is_is_found() {
    assert!(!rules::opening(&Source::new("src/x.rs", "use std::fmt;\n")).is_empty());
    assert!(!rules::opening(&Source::new("src/x.rs", "// A comment for nobody's documentation.\n")).is_empty());
    assert!(!rules::opening(&Source::new("tests/x.rs", "#[test]\nfn f() {}\n")).is_empty());
    assert!(!rules::opening(&Source::new("tests/x.rs", "")).is_empty());
    assert!(rules::opening(&Source::new("src/x.rs", "//! What it is.\n")).is_empty());
    assert!(rules::opening(&Source::new("tests/x.rs", "// What it shows.\n")).is_empty());
}

#[test]
fn a_file_that_is_too_long_is_found() {
    assert!(!rules::length(&Source::new("src/x.rs", &"//!\n".repeat(501)), 500).is_empty());
    assert!(rules::length(&Source::new("src/x.rs", &"//!\n".repeat(500)), 500).is_empty());
}

#[test]
fn what_was_left_lying_about_is_found() {
    for bad in [
        "fn f() { todo!() }",
        "fn f() { unimplemented!(\"later\") }",
        "fn f() { dbg!(1); }",
        "#[test]\n#[ignore]\nfn f() {}",
        "#[ignore = \"slow\"]",
        "let (a, b) = tokio::sync::mpsc::unbounded_channel();",
        "tokio::task::spawn_blocking(f);",
        "#[cfg(test)]\nmod tests { fn f() { todo!() } }",
    ] {
        assert!(!rules::leftovers(&Source::new("src/x.rs", bad), LEFTOVERS).is_empty(), "let pass: {bad}");
    }
    for good in
        ["// todo!", "let s = \"todo!()\";", "let s = r#\"dbg!(\"x\")\"#;", "my_dbg!(1);", "let c = '\"'; // todo!"]
    {
        assert!(rules::leftovers(&Source::new("src/x.rs", good), LEFTOVERS).is_empty(), "refused: {good}");
    }
}

#[test]
fn a_sleep_outside_of_the_named_helpers_is_found() {
    let sleeps = |text: &str| rules::sleeps(&Source::new("tests/x.rs", text), SLEEPERS);
    assert!(!sleeps("fn it_works() { std::thread::sleep(SECOND); }").is_empty());
    assert!(!sleeps("fn eventually() {}\nfn it_works() { thread::sleep(SECOND); }").is_empty());
    assert!(sleeps("fn eventually() { loop { std::thread::sleep(TICK); } }").is_empty());
}

#[test]
fn an_unwrap_outside_of_tests_is_found() {
    let unwraps = |path: &str, text: &str| rules::unwraps(&Source::new(path, text));
    assert_eq!(unwraps("src/x.rs", "fn f() {\n    g().unwrap();\n}"), ["src/x.rs:2: unwrap outside of tests"]);
    assert!(!unwraps("src/x.rs", "#[cfg(test)]\nmod tests {}\nfn f() { g().unwrap(); }").is_empty());
    assert!(unwraps("src/x.rs", "#[cfg(test)]\nmod tests { fn f() { g().unwrap(); } }").is_empty());
    assert!(unwraps("src/x.rs", "fn f() { g().unwrap_or_default(); }").is_empty());
    assert!(unwraps("tests/x.rs", "fn f() { g().unwrap(); }").is_empty());
    assert!(unwraps("examples/x.rs", "fn f() { g().unwrap(); }").is_empty());
}

#[test]
fn a_stranger_at_the_top_level_is_found() {
    assert_eq!(
        rules::top_level(["notes.md", "utils/a.rs", "utils/b.rs", "src/lib.rs", ".ci/run"].into_iter(), TOP_LEVEL),
        ["notes.md: does not belong at the top level", "utils: does not belong at the top level"]
    );
}

#[test]
fn a_path_of_the_writers_machine_is_found() {
    let text = format!("first\nsee {}me/notes\n", BANNED_WORDS[1]);
    assert_eq!(rules::banned_words("README.md", &text, BANNED_WORDS).len(), 1);
    assert!(rules::banned_words("README.md", "homework/ and network/", BANNED_WORDS).is_empty());
}

#[test]
fn a_make_target_that_does_not_exist_is_found() {
    let makefile = "help: ## list\n\t@echo hi\ntest: deps ## all\n";
    let page = "make peace\n```sh\nmake test\n$ make fly DEMO_ARGS='--keep so'  # up\n```\nmake love\n";
    assert_eq!(rules::make_targets("README.md", page, makefile), ["README.md: make fly is not in the Makefile"]);
}

#[test]
fn commands_are_read_from_fenced_blocks_alone() {
    let page = "portero fly\n```sh\nsudo portero check --config x.toml\ncat x | A=b target/demo/portero decode > y\n# portero x\n```\n";
    assert_eq!(
        rules::commands(page, "portero"),
        [vec!["portero", "check", "--config", "x.toml"], vec!["target/demo/portero", "decode"]]
    );
}

#[test]
fn a_written_floor_table_that_says_otherwise_is_found() {
    let row = |floor: &str, may: &str| format!("//! | {floor} | [`journal`] | {may} |\n");
    let wrong = |text: &str| rules::written_floors(text, FLOORS).iter().filter(|p| p.contains("journal ")).count();
    assert_eq!(wrong(&row("1", "event, clock")), 0);
    assert_eq!(wrong(&row("1", "event")), 1);
    assert_eq!(wrong(&row("2", "event, clock")), 1);
    assert!(rules::written_floors("", FLOORS).len() >= FLOORS.len());
}

#[test]
fn comments_strings_and_characters_are_not_code() {
    for (text, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        ("f(\"x\\\"y\") g", "f(      ) g"),
        ("r#\"a\"b\"# c", "         c"),
        ("b'\\'' 'x' '\\u{41}' c", "                   c"),
        ("&'a str", "& a str"),
        ("bar\"x\"", "bar   "),
        ("'é' c", "     c"),
    ] {
        assert_eq!(code_only(text), code, "{text}");
    }
}

#[test]
fn what_is_built_for_tests_alone_is_not_product() {
    let (product, modules) = without_tests("a;\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n b { c } }\nd;");
    assert_eq!(product.split_whitespace().collect::<Vec<_>>(), ["a;", "d;"]);
    assert!(modules.is_empty());
    let (product, modules) = without_tests("#[cfg(test)]\nmod tests;\nfn f() {}");
    assert_eq!(product.trim(), "fn f() {}");
    assert_eq!(modules, ["tests"]);
}

#[test]
fn paths_are_read_whole() {
    let named = |code: &str| paths(code).into_iter().map(|n| n.segments.join("::")).collect::<Vec<_>>();
    assert_eq!(named("use a::{b, c::{self, d as e}, f::*};"), ["a::b", "a::c", "a::c::d", "a::f::*"]);
    assert_eq!(named("let x: a::b<c::d> = e::<f::g>();"), ["a::b", "c::d", "f::g"]);
    assert_eq!(named("use a;\nx.y::<Z>()"), ["a"]);
}
