//! The newest events, each with where it stands at each sink.
//!
//! Must not: name anybody unless `[manage] page_people` says so, or repeat what a sink said of an event: that may name
//! people, too.

use minijinja::Value as Shown;

use super::view::{Show, object};
use crate::deliver;
use crate::event::{Kind, Outcome, Passage, Punch, Reading, json::rfc3339};
use crate::journal::{Fate, Traced};

/// How many are shown.
pub(super) const MOST: u32 = 20;

/// What of them is shown.
pub(super) struct Recent<'a> {
    pub(super) events: &'a [Traced],
    /// The sinks that run, for what they take.
    pub(super) sinks: &'a [deliver::Config],
    /// Whether people are named.
    pub(super) people: bool,
}

impl Recent<'_> {
    pub(super) fn show(&self, show: &Show<'_>) -> Vec<Shown> {
        self.events.iter().map(|traced| self.event(show, traced)).collect()
    }

    fn event(&self, show: &Show<'_>, traced: &Traced) -> Shown {
        let event = &traced.record.event;
        let terminal = event.source.terminal_id.as_str();
        let device = Some(event.device_key.as_str()).filter(|device| !device.is_empty() && *device != terminal);
        let fates = traced.fates.iter().filter_map(|(sink, fate)| {
            let (key, class) = self.fate(sink, traced, fate)?;
            let word = show.language.word(key);
            Some(object([("sink", sink.as_str().into()), ("class", class.into()), ("state", word.into())]))
        });
        object([
            ("seq", traced.record.seq.0.into()),
            // By a clock that is ahead it has not happened yet.
            ("time", show.time(&rfc3339(event.times.event.min(event.times.received)).as_str().into())),
            ("unsure", traced.record.provisional.into()),
            ("terminal", terminal.into()),
            ("device", device.map_or(Shown::UNDEFINED, Shown::from)),
            ("what", what(show, &event.reading).into()),
            ("who", self.people.then(|| who(&event.reading)).flatten().map_or(Shown::UNDEFINED, Shown::from)),
            ("fates", fates.collect::<Vec<_>>().into()),
        ])
    }

    /// The word for it and how it looks; `None`: nobody asked this sink to take it.
    fn fate(&self, sink: &str, traced: &Traced, fate: &Fate) -> Option<(&'static str, &'static str)> {
        let takes = || {
            let running = self.sinks.iter().find(|config| config.name == sink);
            running.is_none_or(|config| config.filter.takes(&traced.record.event))
        };
        Some(match fate {
            Fate::Pending | Fate::Released => ("fate_pending", "wait"),
            Fate::Settled { delivery: None, .. } if !takes() => ("fate_filtered", "wait"),
            Fate::Settled { .. } => ("fate_delivered", "good"),
            Fate::Quarantined { .. } => ("fate_quarantined", "warn"),
            Fate::Dropped { .. } => ("fate_dropped", "warn"),
            Fate::BeforeItsStart => return None,
        })
    }
}

/// What happened, in words: the kind, and what of it is known.
fn what(show: &Show<'_>, reading: &Reading) -> String {
    let word = |prefix: &str, key: &str| show.language.word(&format!("{prefix}_{key}")).to_owned();
    let mut words = vec![word("kind", reading.kind.unwrap_or(Kind::Unknown).as_str())];
    if let Some(punch) = reading.punch.filter(|punch| *punch != Punch::Undefined) {
        words.push(word("punch", punch.as_str()));
    }
    if let Some(passage) = reading.passage.filter(|passage| *passage != Passage::Unknown) {
        words.push(word("passage", passage.as_str()));
    }
    if let Some(outcome) = reading.outcome.filter(|outcome| matches!(outcome, Outcome::Granted | Outcome::Denied)) {
        words.push(word("outcome", outcome.as_str()));
    }
    if let Some((alarm, active)) = reading.alarm {
        words.push(word("alarm", alarm.as_str()));
        words.extend((!active).then(|| show.language.word("alarm_over").to_owned()));
    }
    words.extend(reading.door_state.map(|state| word("door", state.as_str())));
    words.join(", ")
}

/// The person's number and name, else the card's number.
fn who(reading: &Reading) -> Option<String> {
    let person = &reading.person;
    let number = person.external_id.as_deref().or(person.terminal_person_id.as_deref());
    let known: Vec<&str> = number.into_iter().chain(person.name.as_deref()).collect();
    if known.is_empty() { reading.credential.card_number.clone() } else { Some(known.join(" ")) }
}

#[cfg(test)]
mod tests {
    use super::super::words::Language;
    use crate::event::{AlarmKind, DoorState, Kind, Outcome, Passage, Punch};

    #[test]
    fn every_word_of_an_event_is_translated() {
        let mut keys: Vec<String> = Vec::new();
        keys.extend(Kind::ALL.iter().map(|word| format!("kind_{word}")));
        keys.extend(Punch::ALL.iter().filter(|word| **word != Punch::Undefined).map(|word| format!("punch_{word}")));
        keys.extend(Passage::ALL.iter().filter(|word| **word != Passage::Unknown).map(|w| format!("passage_{w}")));
        keys.extend([Outcome::Granted, Outcome::Denied].map(|word| format!("outcome_{word}")));
        keys.extend(AlarmKind::ALL.iter().map(|word| format!("alarm_{word}")));
        keys.extend(DoorState::ALL.iter().map(|word| format!("door_{word}")));
        for key in keys {
            assert_ne!(Language::English.word(&key), key, "has no words");
        }
    }
}
