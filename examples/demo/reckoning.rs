//! The account: what the terminals say they sent against what each destination holds.
//!
//! Must not: take the gateway's word for anything that can be seen at the other end.

#![allow(clippy::expect_used, reason = "an account that can't be drawn up has failed")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde_json::Value;

use crate::site::Site;

/// What was offered: records by the device's own name for them, and cards of the reader, which has no records.
#[derive(Default)]
struct Offered {
    records: HashSet<String>,
    confirmed: HashSet<String>,
    cards: BTreeMap<String, usize>,
}

/// What one destination holds, counted by different event ids.
struct Held {
    records: HashMap<String, usize>,
    cards: HashMap<String, usize>,
}

/// What is missing and what is there more often than it was offered.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    arrived: usize,
    lost: usize,
    doubled: usize,
    unknown: usize,
}

/// Prints the account and answers whether it holds.
pub(crate) fn draw_up(site: &mut Site) -> bool {
    let offered = offered(site);
    let swipes: usize = offered.cards.values().sum();
    let total = offered.records.len() + swipes;
    let vendor = offered.compare(&at_vendor(site));
    let central = offered.compare(&at_centre(site));
    let oracle = site.vendor.oracle();
    let stats = site.gateway.cli_json(&["journal", "stats", "--json"]);
    let verified = site.gateway.cli_json(&["journal", "verify", "--json"]);
    let journalled = stats["appended"].as_u64().unwrap_or(0);
    let chain = verified["ok"] == true;
    let unconfirmed = offered.records.difference(&offered.confirmed).count();
    println!("\nThe reckoning");
    println!(
        "  sent by the terminals    {total:>7}   ({swipes} of them swipes at the reader, which is never answered)"
    );
    println!("  confirmed to them        {:>7}   ({unconfirmed} never confirmed)", offered.confirmed.len());
    println!("  journalled               {journalled:>7}");
    let line = |name: &str, found: &Difference, more: &str| {
        let Difference { arrived, lost, doubled, unknown } = found;
        println!("  {name:<24} {arrived:>7}   lost {lost}, doubled {doubled}, never sent {unknown}{more}");
    };
    let doubled_at_vendor = oracle.doubled().len();
    let other_bytes = oracle.keys_with_different_bytes.len();
    let requests = format!(
        "; {} requests, {} sent again with the same key and bytes, {other_bytes} with other bytes",
        site.vendor.request_count(),
        oracle.repeated_keys
    );
    line("delivered to vendor API", &vendor, &requests);
    line("delivered to PostgreSQL", &central, "");
    println!(
        "  chain                    {:>7}   journal {} up to {}",
        if chain { "whole" } else { "BROKEN" },
        verified["journal_id"].as_str().unwrap_or("?"),
        verified["seq"]
    );
    let right = |found: &Difference| *found == Difference { arrived: total, ..Difference::default() };
    let held = total > swipes
        && swipes > 0
        && right(&vendor)
        && right(&central)
        && journalled == total as u64
        && chain
        && unconfirmed == 0
        && doubled_at_vendor == 0
        && other_bytes == 0;
    if held {
        println!("\n  lost 0, doubled 0, chain verified: the promise was kept.");
    } else {
        println!("\n  THE PROMISE WAS NOT KEPT. The gateway's log ends with:");
        let log = site.gateway.log();
        let tail: Vec<_> = log.lines().rev().take(15).collect();
        tail.iter().rev().for_each(|line| println!("    {line}"));
    }
    held
}

fn offered(site: &Site) -> Offered {
    let mut offered = Offered::default();
    for (index, terminal) in site.terminals.iter().enumerate() {
        let (sent, confirmed) = site.manifests(index);
        for line in lines(&sent) {
            if terminal.confirmed {
                offered.records.insert(key(&line));
            } else {
                *offered.cards.entry(line["card"].as_str().expect("a swipe has a card").to_owned()).or_default() += 1;
            }
        }
        offered.confirmed.extend(lines(&confirmed).iter().map(key));
    }
    offered
}

impl Offered {
    fn compare(&self, held: &Held) -> Difference {
        let mut found =
            Difference { arrived: held.records.values().chain(held.cards.values()).sum(), ..Default::default() };
        found.lost = self.records.iter().filter(|record| !held.records.contains_key(*record)).count();
        for (record, times) in &held.records {
            if self.records.contains(record) {
                found.doubled += times - 1;
            } else {
                found.unknown += times;
            }
        }
        for (card, swipes) in &self.cards {
            let times = held.cards.get(card).copied().unwrap_or(0);
            found.lost += swipes.saturating_sub(times);
            found.doubled += times.saturating_sub(*swipes);
        }
        found.unknown +=
            held.cards.iter().filter(|(card, _)| !self.cards.contains_key(*card)).map(|(_, n)| n).sum::<usize>();
        found
    }
}

fn at_vendor(site: &Site) -> Held {
    let got = site.got.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let count =
        |all: &HashMap<String, HashSet<String>>| all.iter().map(|(key, ids)| (key.clone(), ids.len())).collect();
    Held { records: count(&got.records), cards: count(&got.cards) }
}

fn at_centre(site: &Site) -> Held {
    let mut held = Held { records: HashMap::new(), cards: HashMap::new() };
    let rows = site.postgres.psql(
        "select terminal_id, body->'credential'->>'bits', \
         concat_ws('|', body->>'terminal_serial', body->>'device_time_raw', body->>'native_seq') from portero.event",
    );
    for row in rows.lines() {
        let mut columns = row.splitn(3, '|');
        let (terminal, bits) = (columns.next().unwrap_or(""), columns.next().unwrap_or(""));
        if terminal == "gate-1" {
            *held.cards.entry(bits.to_owned()).or_default() += 1;
        } else {
            *held.records.entry(columns.next().unwrap_or("").to_owned()).or_default() += 1;
        }
    }
    held
}

fn key(line: &Value) -> String {
    ["device_key", "device_time_raw", "native_seq"].map(|name| line[name].as_str().unwrap_or("")).join("|")
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a manifest is JSON Lines")).collect()
}
