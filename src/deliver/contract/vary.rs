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
    let mut all = Vec::new();
    for (n, (_, words)) in rule.when.iter().enumerate() {
        all.extend((0..words.len()).map(|at| conditions(Some((n, at)))));
    }
    if let (Origin::Source(source, _), false) = (&rule.origin, rule.map.is_empty()) {
        let is_entry =
            |text: &str| rule.worked(text).is_some_and(|text| rule.map.iter().any(|(from, _)| *from == text));
        let texts: Vec<String> = match source.kind() {
            // A default stands for the words that are no entry.
            Type::Word => source.words().into_iter().map(str::to_owned).collect(),
            _ => rule.map.iter().map(|(from, _)| from.clone()).collect(),
        };
        for text in texts.into_iter().filter(|text| rule.default.is_some() || is_entry(text)) {
            let mut wanted = conditions(None);
            wanted.retain(|(known, _)| known != source);
            wanted.push((*source, text));
            all.push(wanted);
        }
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
