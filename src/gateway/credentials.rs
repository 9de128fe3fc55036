//! Looks once an hour until when sinks and the directory's source know us, and says so in time; and whether the bundle that runs
//! has expired.
//!
//! Must not: judge by a clock that may be wrong, or say the same more than once a day.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use tokio::time::{MissedTickBehavior, interval};

use super::Parts;
use crate::deliver::expiry::{self, Expiry, Nearness};
use crate::event::UtcMicros;
use crate::manage::config::Config;

/// How often secrets are looked at; a renewed one is seen that soon. While the clock is not right, `SOON`.
const EVERY: Duration = Duration::from_secs(3600);

/// How often whether the clock is right, and whether a server has said something new.
const SOON: Duration = Duration::from_secs(5);

/// Watches until it is dropped.
pub(super) async fn watch(parts: Arc<Parts>) {
    let mut ticks = interval(SOON);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut said, mut wait, mut heard) = (HashMap::new(), Duration::ZERO, Vec::new());
    let mut expired = None;
    loop {
        ticks.tick().await;
        let now = parts.clock.now();
        if !now.synchronised {
            continue;
        }
        let words = parts.gateway.remote.expired(now);
        if words != expired
            && let Some(reason) = &words
        {
            tracing::error!(reason, "configuration from afar has expired");
        }
        expired = words;
        let relays = parts.gateway.relays.read();
        // What a server says of its tokens is news at once.
        let told: Vec<_> = relays.iter().filter_map(|relay| relay.refresh_token_until).collect();
        let news = told != heard;
        heard = told;
        match wait.checked_sub(SOON) {
            Some(left) if !news => {
                wait = left;
                continue;
            }
            _ => wait = EVERY,
        }
        let config = parts.gateway.running.get();
        for sink in &config.sinks {
            let told = relays.iter().find(|relay| relay.name == sink.name).and_then(|relay| relay.refresh_token_until);
            let told = told.map(|at| Expiry { what: "the refresh token".to_owned(), at });
            let declared = declared(&config, |expiring| expiring == Some(&sink.name));
            let first = first(expiry::of_sink(&sink.kind).into_iter().chain(declared).chain(told));
            say(&mut said, &sink.name, first.as_ref(), now.wall);
            parts.gateway.relays.update(&sink.name, |status| status.expiry = first);
        }
        // What belongs to no sink: brokers, and the directory.
        let mut others: Vec<Expiry> = declared(&config, |sink| sink.is_none()).collect();
        if let Some(directory) = &config.directory {
            let own = others.extract_if(.., |expiry| expiry.what.starts_with("directory."));
            let first = first(own.chain(expiry::of_source(&directory.source)).collect::<Vec<_>>().into_iter());
            say(&mut said, "[directory]", first.as_ref(), now.wall);
            parts.gateway.directory.expires(first);
        }
        for expiry in &others {
            say(&mut said, &expiry.what, Some(expiry), now.wall);
        }
    }
}

/// What people have said of secrets.
fn declared(config: &Config, of: impl Fn(Option<&String>) -> bool) -> impl Iterator<Item = Expiry> {
    let expiring = config.expiring.iter().filter(move |expiring| of(expiring.sink.as_ref()));
    expiring.filter_map(|expiring| Some(Expiry { what: expiring.key.clone(), at: end_of(expiring.last_day)? }))
}

/// The end of a day by UTC.
fn end_of(day: Date) -> Option<UtcMicros> {
    let epoch = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);
    let end = day.at(0, 0, 0, 0).duration_since(epoch).as_micros().checked_add(86_400_000_000)?;
    Some(UtcMicros(i64::try_from(end).ok()?))
}

fn first(all: impl Iterator<Item = Expiry>) -> Option<Expiry> {
    all.min_by_key(|expiry| expiry.at.0)
}

/// Once for each day that is left, and for each that is past.
fn say(said: &mut HashMap<String, Nearness>, whose: &str, expiry: Option<&Expiry>, now: UtcMicros) {
    let Some((expiry, reason)) = expiry.and_then(|expiry| Some((expiry, expiry.said(now)?))) else {
        said.remove(whose);
        return;
    };
    let nearness = expiry.nearness(now);
    if said.insert(whose.to_owned(), nearness) == Some(nearness) {
        return;
    }
    match nearness {
        Nearness::Past(_) => tracing::error!(sink = whose, reason, "a credential has ended"),
        _ => tracing::warn!(sink = whose, reason, "a credential ends soon"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_that_is_declared_is_good_until_its_end() {
        let day: Date = "2027-01-31".parse().expect("a day");
        assert_eq!(end_of(day), Some(UtcMicros(1_801_440_000_000_000)));
    }

    #[test]
    fn the_same_is_said_once_a_day_and_again_after_it_was_mended() {
        let (mut said, day) = (HashMap::new(), 86_400_000_000);
        let expiry = Expiry { what: "the token".to_owned(), at: UtcMicros(20 * day) };
        let mut news = |days: i64, hours: i64, expiry: Option<&Expiry>| {
            let before = said.get("hr").copied();
            say(&mut said, "hr", expiry, UtcMicros(days * day + hours * day / 24));
            said.get("hr").copied() != before
        };
        assert!(!news(5, 0, Some(&expiry)), "fifteen days before");
        assert!(news(6, 1, Some(&expiry)) && !news(6, 23, Some(&expiry)) && news(7, 1, Some(&expiry)));
        assert!(news(20, 0, Some(&expiry)) && !news(20, 9, Some(&expiry)) && news(21, 0, Some(&expiry)));
        assert!(news(21, 1, None) && !news(21, 2, None));
    }
}
