//! Events by which every entry of every value map of a sink is used, whatever the journal holds.
//!
//! Must not: judge what becomes of them.

use std::sync::Arc;

use crate::deliver::api::Config;
use crate::deliver::api::mapping::{Origin, Rule, Source, Type};
use crate::event::{
    AlarmKind, ClockQuality, DenialReason, DoorState, Event, EventId, Kind, Mask, Method, Methods,
    Origin as EventOrigin, Outcome, Passage, Punch, ScoreScale, TzSource,
};
use crate::journal::{Record, Seq};

/// Most events that are made.
const MOST: usize = 4_000;

/// What an event holds so that one entry of one rule is used: places, and the text at each.
pub type Wanted = Vec<(Source, String)>;

/// What each rule of the sink wants, entry by entry.
pub fn wanted(sink: &Config) -> Vec<Vec<Wanted>> {
    let request = sink.request.as_deref();
    let fields = sink.map.iter().flat_map(|map| &map.fields).map(|field| &field.rule);
    let named = request.into_iter().flat_map(|r| r.params.iter().chain(&r.headers)).map(|(_, rule)| rule);
    let routes = request.into_iter().flat_map(|r| [&r.method, &r.path]).flatten();
    fields.chain(named).chain(routes).map(of_rule).filter(|wanted| !wanted.is_empty()).collect()
}

fn of_rule(rule: &Rule) -> Vec<Wanted> {
    // One text for each of the conditions, the first unless another one is asked for.
    let conditions = |other: Option<(usize, usize)>| -> Wanted {
        let word = |(n, (source, words)): (usize, &(Source, Vec<String>))| {
            let at = other.filter(|(which, _)| *which == n).map_or(0, |(_, at)| at);
            Some((*source, words.get(at)?.clone()))
        };
        rule.when.iter().enumerate().filter_map(word).collect()
    };
    let mut entries: Vec<(Source, String)> = Vec::new();
    if let (Origin::Source(source, _), false) = (&rule.origin, rule.map.is_empty()) {
        let is_entry =
            |text: &str| rule.worked(text).is_some_and(|text| rule.map.iter().any(|(from, _)| *from == text));
        let (mut texts, rest): (Vec<String>, Vec<String>) = match source.kind() {
            Type::Word => source.words().into_iter().map(str::to_owned).partition(|text| is_entry(text)),
            _ => (rule.map.iter().map(|(from, _)| from.clone()).filter(|text| is_entry(text)).collect(), Vec::new()),
        };
        // A default stands for the words that are no entry.
        texts.extend(rest.into_iter().filter(|_| rule.default.is_some()));
        entries.extend(texts.into_iter().map(|text| (*source, text)));
    }
    let with = |mut wanted: Wanted, entry: Option<&(Source, String)>| {
        if let Some(entry) = entry {
            wanted.retain(|(source, _)| *source != entry.0);
            wanted.push(entry.clone());
        }
        wanted
    };
    let mut all: Vec<Wanted> = entries.iter().map(|entry| with(conditions(None), Some(entry))).collect();
    for (n, (_, words)) in rule.when.iter().enumerate() {
        all.extend((0..words.len()).map(|at| with(conditions(Some((n, at))), entries.first())));
    }
    all
}

/// Makes an event one that every rule can map, if it was one that some can't: each rule gets its first entry.
pub fn completed(record: &Record, wanted: &[Vec<Wanted>], seq: Seq) -> Option<Record> {
    let mut record = renumbered(record, seq);
    for first in wanted.iter().filter_map(|of_rule| of_rule.first()) {
        first.iter().all(|(source, text)| set(&mut record.event, source.pointer(), text)).then_some(())?;
    }
    Some(record)
}

/// Each of these events with each entry, from a sequence number on.
pub fn events(bases: &[Record], wanted: &[Vec<Wanted>], first: Seq) -> Vec<Record> {
    let mut made = Vec::new();
    for base in bases {
        for entry in wanted.iter().flatten() {
            let mut record = renumbered(base, Seq(first.0 + made.len() as u64));
            let set = entry.iter().all(|(source, text)| set(&mut record.event, source.pointer(), text));
            if set && made.len() < MOST {
                made.push(record);
            }
        }
    }
    made
}

fn renumbered(record: &Record, seq: Seq) -> Record {
    let mut record = record.clone();
    let mut id = [0x5b; 16];
    id[..8].copy_from_slice(&seq.0.to_be_bytes());
    (record.seq, record.event.id) = (seq, EventId(id));
    record
}

/// Puts a text at a place of an event; false where no terminal could say it there.
fn set(event: &mut Event, pointer: &str, text: &str) -> bool {
    let mut source = (*event.source).clone();
    let owned = || Some(text.to_owned());
    let reading = &mut event.reading;
    match pointer {
        "/site_id" => text.clone_into(&mut source.site_id),
        "/gateway_id" => text.clone_into(&mut source.gateway_id),
        "/terminal_id" => text.clone_into(&mut source.terminal_id),
        "/protocol" => text.clone_into(&mut source.protocol),
        "/zone" => text.clone_into(&mut source.zone),
        "/terminal_serial" => reading.terminal_serial = owned(),
        "/channel" => reading.channel = owned(),
        "/origin" => return word(EventOrigin::from_word(text), &mut reading.origin),
        "/kind" => return word(Kind::from_word(text), &mut reading.kind),
        "/outcome" => return word(Outcome::from_word(text), &mut reading.outcome),
        "/denial_reason" => return word(DenialReason::from_word(text), &mut reading.denial_reason),
        "/vendor_code" => reading.vendor_code = owned(),
        "/vendor_subcode" => reading.vendor_subcode = owned(),
        "/methods/0" | "/methods/1" => return method(text, pointer == "/methods/1", &mut reading.methods),
        "/credential/format" => reading.credential.format = owned(),
        "/credential/facility" => return number(text, &mut reading.credential.facility),
        "/credential/bit_length" => return number(text, &mut reading.credential.bit_length),
        "/credential/card_number" => reading.credential.card_number = owned(),
        "/credential/parity_ok" => return number(text, &mut reading.credential.parity_ok),
        "/person/external_id" => reading.person.external_id = owned(),
        "/person/terminal_person_id" => reading.person.terminal_person_id = owned(),
        "/person/second_person_id" => reading.person.second_person_id = owned(),
        "/person/name" => reading.person.name = owned(),
        "/punch" => return word(Punch::from_word(text), &mut reading.punch),
        "/passage" => return word(Passage::from_word(text), &mut reading.passage),
        "/door/number" => return number(text, &mut reading.door.number),
        "/door/label" => reading.door.label = owned(),
        "/reader/number" => return number(text, &mut reading.reader.number),
        "/reader/label" => reading.reader.label = owned(),
        "/score/scale" => match (ScoreScale::from_word(text), &mut reading.score) {
            (Some(scale), Some(score)) => score.scale = scale,
            _ => return false,
        },
        "/mask" => return word(Mask::from_word(text), &mut reading.mask),
        "/alarm/kind" => match AlarmKind::from_word(text) {
            Some(kind) => reading.alarm = Some((kind, reading.alarm.is_none_or(|(_, active)| active))),
            None => return false,
        },
        "/alarm/active" => match (text.parse(), &mut reading.alarm) {
            (Ok(active), Some(alarm)) => alarm.1 = active,
            _ => return false,
        },
        "/door_state" => return word(DoorState::from_word(text), &mut reading.door_state),
        "/tz_source" => match TzSource::from_word(text) {
            Some(word) => event.times.tz_source = word,
            None => return false,
        },
        "/clock_quality" => match ClockQuality::from_word(text) {
            Some(word) => event.times.quality = word,
            None => return false,
        },
        "/utc_offset_min" => return number(text, &mut event.times.utc_offset_min),
        "/native_seq" => reading.native_seq = owned(),
        "/native_prev" => reading.native_prev = owned(),
        _ => return false,
    }
    event.source = Arc::new(source);
    true
}

fn word<T>(word: Option<T>, place: &mut Option<T>) -> bool {
    let there = word.is_some();
    if there {
        *place = word;
    }
    there
}

fn number<T: std::str::FromStr>(text: &str, place: &mut Option<T>) -> bool {
    word(text.parse().ok(), place)
}

/// The first method, or the second one beside another.
fn method(text: &str, second: bool, place: &mut Methods) -> bool {
    let Some(wanted) = Method::from_word(text) else { return false };
    let mut sets = match second {
        false => vec![[wanted].into_iter().collect::<Methods>()],
        true => Method::ALL.iter().map(|other| [*other, wanted].into_iter().collect()).collect(),
    };
    sets.retain(|set| set.iter().nth(usize::from(second)) == Some(wanted));
    match sets.first() {
        Some(set) => {
            *place = *set;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SyncSource};
    use crate::deliver::api::mapping::source::Found;
    use crate::deliver::api::mapping::{Field, Mapping, Scalar, Subject};
    use crate::deliver::contract::generated;
    use crate::event::Source as Origins;

    fn one() -> Record {
        let source = Origins {
            tenant: "default".to_owned(),
            site_id: "s".to_owned(),
            gateway_id: "g".to_owned(),
            terminal_id: "t".to_owned(),
            protocol: "mqtt-json".to_owned(),
            zone: "UTC".to_owned(),
        };
        generated::events(&[Arc::new(source)], Clock::new(SyncSource::Trusted).now()).swap_remove(0)
    }

    #[test]
    fn every_place_at_which_a_map_may_look_can_hold_every_word() {
        // What no terminal says as it likes, what stands at a third place only, and what is said of the delivery.
        let left_out = [
            "/event_id",
            "/corrects",
            "/device_time_raw",
            "/device_time_local",
            "/methods/2",
            "/credential/bits",
            "/late",
        ];
        for source in Source::pointers().filter_map(Source::at) {
            let words = match source.kind() {
                Type::Word => source.words(),
                Type::Text => vec!["x-1"],
                Type::Boolean => vec!["true", "false"],
                _ => continue,
            };
            for word in words.into_iter().filter(|word| !left_out.contains(&source.pointer()) && *word != "correction")
            {
                let mut record = one();
                if source.pointer() == "/methods/1" && word == Method::ALL[0].as_str() {
                    continue; // it is always the first
                }
                assert!(set(&mut record.event, source.pointer(), word), "{} {word}", source.pointer());
                let found = source.read(Subject::of(&record, false, false));
                let said = match found {
                    Some(Found::Text(text)) => text.into_owned(),
                    Some(Found::Boolean(value)) => value.to_string(),
                    other => panic!("{} {word}: {other:?}", source.pointer()),
                };
                assert_eq!(said, word, "{}", source.pointer());
            }
        }
    }

    #[test]
    fn every_entry_of_every_map_is_used_by_some_event() {
        let scalar = |text: &str| Scalar::Text(text.to_owned());
        let rule = |pointer: &str, entries: &[&str], default: Option<&str>| {
            let mut rule = Rule::plain(Origin::Source(Source::at(pointer).expect("a place"), None));
            rule.map = entries.iter().map(|entry| ((*entry).to_owned(), scalar(&entry.to_uppercase()))).collect();
            rule.default = default.map(scalar);
            rule
        };
        let mut conditional = rule("/vendor_code", &["5", "7"], None);
        conditional.when =
            vec![(Source::at("/kind").expect("a place"), vec!["alarm".to_owned(), "door_state".to_owned()])];
        let mut upper = rule("/punch", &["BREAK_OUT"], None);
        upper.text.case = crate::deliver::api::mapping::Case::Upper;
        let rules = [
            rule("/mask", &["yes", "no"], Some("?")),
            rule("/terminal_id", &["gate-1", "gate-2"], None),
            conditional,
            upper,
        ];
        let fields =
            rules.iter().enumerate().map(|(n, rule)| Field { target: vec![format!("f{n}")], rule: rule.clone() });
        let sink = Config { map: Some(Mapping { fields: fields.collect() }), ..Config::default() };
        let wanted = wanted(&sink);
        let counts: Vec<usize> = wanted.iter().map(Vec::len).collect();
        // Of the mask each word, for there is a default; two entries; two entries and two conditions; the one that is worked.
        assert_eq!(counts, [Mask::ALL.len(), 2, 4, 1]);
        let base = one();
        let made = events(std::slice::from_ref(&base), &wanted, Seq(7));
        assert_eq!(made.len(), counts.iter().sum::<usize>());
        let mut seqs: Vec<u64> = made.iter().map(|record| record.seq.0).collect();
        seqs.dedup();
        assert_eq!((seqs.len(), seqs[0]), (made.len(), 7));
        let said = |pointer: &str, word: &str| {
            let source = Source::at(pointer).expect("a place");
            made.iter().any(|record| {
                let found = source.read(Subject::of(record, false, false));
                found == Some(Found::Text(word.into()))
            })
        };
        for (pointer, word) in [
            ("/mask", "yes"),
            ("/mask", "no"),
            ("/terminal_id", "gate-2"),
            ("/vendor_code", "7"),
            ("/punch", "break_out"),
        ] {
            assert!(said(pointer, word), "{pointer} {word}");
        }
        let completed = completed(&base, &wanted, Seq(1)).expect("every place can be filled").event;
        assert_eq!(
            (completed.source.terminal_id.as_str(), completed.reading.vendor_code.as_deref()),
            ("gate-1", Some("5"))
        );
        assert_eq!((completed.reading.kind, completed.reading.punch), (Some(Kind::Alarm), Some(Punch::BreakOut)));
    }
}
