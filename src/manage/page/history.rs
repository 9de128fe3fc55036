//! The last 24 hours in memory: events per terminal and sink, and the journal's size, for each five minutes.
//!
//! Must not: grow past its ring, outlive the process, or draw what it does not know: before its start there is nothing.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use crate::event::BootTime;
use crate::journal::Stats;
use crate::terminal::LinkStatus;

/// How much time a count stands for.
const SLOT: Duration = Duration::from_secs(300);

/// The same in microseconds.
const SLOT_MICROS: u64 = SLOT.as_secs() * 1_000_000;

/// 24 hours of them.
const SLOTS: usize = 288;

/// Height of a chart in its own units.
const HEIGHT: u64 = 40;

/// A rate from less time than this says nothing, slots: an hour.
const TELLING: usize = 12;

/// How many slots, the current one included, are "now" for a rate.
const RECENT: usize = 4;

/// A rate of sending from less time than this says nothing, microseconds.
const SAYING: u64 = 30_000_000;

/// What the journal's size varies by although it does not grow, bytes: the WAL is cut back to this.
const NOISE: u64 = 16 << 20;

/// Whose counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Of {
    Link(String),
    Sink(String),
}

/// The ring.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The slot that is being counted, since boot.
    slot: Option<u64>,
    /// How many slots are known, the current one included.
    known: usize,
    lines: BTreeMap<Of, Line>,
    /// The journal's size and what was written at the end of each slot, oldest first.
    sizes: VecDeque<Sizes>,
    /// Whether the kernel says what was written.
    counted: bool,
}

/// Sizes of one moment, bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Sizes {
    journal: u64,
    written: u64,
}

#[derive(Debug)]
struct Line {
    /// Since when it is counted.
    since: BootTime,
    /// The running total when it was last looked at.
    total: u64,
    /// Oldest first; the last one is being counted.
    counts: VecDeque<u64>,
}

/// For how long there is room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// Not enough time has passed.
    Unknown,
    /// About so many days.
    Days(u64),
    /// At least so many: it grows by less than its size varies.
    MoreThan(u64),
}

impl History {
    /// Takes the running totals of this moment.
    pub(super) fn take(&mut self, now: BootTime, links: &[LinkStatus], stats: &Stats, written: Option<u64>) {
        self.counted = written.is_some();
        let first = self.slot.is_none();
        self.advance(now.0 / SLOT_MICROS, Sizes { journal: stats.bytes, written: written.unwrap_or(0) });
        let links = links.iter().filter(|link| link.protocol != "broker");
        let links = links.map(|link| (Of::Link(link.name.clone()), link.events));
        let sinks = stats.sinks.iter().map(|sink| (Of::Sink(sink.name.clone()), sink.delivered));
        for (of, total) in links.chain(sinks) {
            let known = self.known;
            // What was there before us is not counted. A link that is new since then has counted from nothing.
            let total_before = if first || matches!(of, Of::Sink(_)) { total } else { 0 };
            let new = || Line { since: now, total: total_before, counts: VecDeque::new() };
            let line = self.lines.entry(of).or_insert_with(new);
            while line.counts.len() < known {
                line.counts.push_front(0);
            }
            if let Some(count) = line.counts.back_mut() {
                // A total that fell began anew.
                *count += total.saturating_sub(line.total);
            }
            line.total = total;
        }
    }

    fn advance(&mut self, slot: u64, sizes: Sizes) {
        let passed = self.slot.map_or(1, |before| slot.saturating_sub(before));
        self.slot = Some(slot);
        for _ in 0..passed.min(SLOTS as u64) {
            self.known = (self.known + 1).min(SLOTS);
            self.sizes.push_back(sizes);
            self.lines.values_mut().for_each(|line| line.counts.push_back(0));
            if self.sizes.len() > SLOTS {
                self.sizes.pop_front();
                for line in self.lines.values_mut() {
                    line.counts.pop_front();
                }
            }
        }
        if let Some(last) = self.sizes.back_mut() {
            *last = sizes;
        }
    }

    /// The first and the last sizes, and the seconds between them, if that is enough to tell a rate.
    fn told(&self) -> Option<(Sizes, Sizes, u64)> {
        let (first, last) = (self.sizes.front()?, self.sizes.back()?);
        (self.known >= TELLING).then(|| (*first, *last, (self.known as u64 - 1) * SLOT.as_secs()))
    }

    /// Bytes that this process writes in a day at the rate of the last one.
    pub(super) fn written_a_day(&self) -> Option<u64> {
        let (first, last, seconds) = self.told().filter(|_| self.counted)?;
        let written = u128::from(last.written.saturating_sub(first.written));
        u64::try_from(written * 86_400 / u128::from(seconds)).ok()
    }

    /// What was counted in the last quarter of an hour or so, and in how many microseconds.
    pub(super) fn rate(&self, of: &Of, now: BootTime) -> Option<(u64, u64)> {
        let (line, slot) = (self.lines.get(of)?, self.slot?);
        let count = line.counts.iter().rev().take(RECENT).sum();
        let from = (slot + 1).saturating_sub(RECENT as u64) * SLOT_MICROS;
        let micros = now.micros_since(line.since.max(BootTime(from)));
        (micros >= SAYING).then_some((count, micros))
    }

    /// For how long the journal may grow as it did.
    pub(super) fn room(&self, max_bytes: u64) -> Room {
        let Some((first, last, seconds)) = self.told() else { return Room::Unknown };
        let grown = last.journal.saturating_sub(first.journal);
        let free = u128::from(max_bytes.saturating_sub(last.journal));
        let days = free * u128::from(seconds) / u128::from(grown.max(NOISE)) / 86_400;
        let days = u64::try_from(days).unwrap_or(u64::MAX);
        if grown < NOISE { Room::MoreThan(days) } else { Room::Days(days) }
    }

    /// The counts as an SVG picture and the largest of them; `None` where there are none. `label` is escaped by us.
    pub(super) fn chart(&self, of: &Of, label: &str) -> Option<(String, u64)> {
        let line = self.lines.get(of)?;
        let most = line.counts.iter().copied().max().filter(|most| *most > 0)?;
        let first = SLOTS - line.counts.len().min(SLOTS);
        let mut path = String::new();
        for (index, count) in line.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let height = (count * HEIGHT).div_ceil(most);
            // Writing to a String can't fail.
            let _ = write!(path, "M{} {HEIGHT}v-{height}h1v{height}z", first + index);
        }
        let label = label.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
        let svg = format!(
            "<svg viewBox=\"0 0 {SLOTS} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{label}\">\
             <path class=\"base\" d=\"M{first} {HEIGHT}H{SLOTS}\"/><path class=\"bars\" d=\"{path}\"/></svg>"
        );
        Some((svg, most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::LinkState;

    fn link(events: u64) -> LinkStatus {
        LinkStatus {
            name: "gate".to_owned(),
            protocol: "rdm6300".to_owned(),
            state: LinkState::Up,
            last_heard: None,
            events,
            duplicates: 0,
            faults: 0,
            devices: Vec::new(),
        }
    }

    fn stats(bytes: u64) -> Stats {
        Stats { appended: 0, pruned: 0, faults: 0, blind: 0, conflicts: 0, bytes, sinks: Vec::new() }
    }

    fn at(minutes: u64) -> BootTime {
        BootTime(minutes * 60_000_000)
    }

    fn take(history: &mut History, now: BootTime, links: &[LinkStatus], stats: &Stats) {
        history.take(now, links, stats, None);
    }

    fn counts(history: &History) -> Vec<u64> {
        history.lines[&Of::Link("gate".to_owned())].counts.iter().copied().collect()
    }

    #[test]
    fn counts_fall_into_their_five_minutes_and_a_day_is_kept() {
        let mut history = History::default();
        for (minute, events) in [(0, 10), (1, 12), (4, 15), (5, 16), (16, 20)] {
            take(&mut history, at(minute), &[link(events)], &stats(0));
        }
        assert_eq!(counts(&history), [5, 1, 0, 4], "what was there before is not counted");
        // The process began anew.
        take(&mut history, at(17), &[link(3)], &stats(0));
        take(&mut history, at(18), &[link(5)], &stats(0));
        assert_eq!(counts(&history), [5, 1, 0, 6]);
        take(&mut history, at(3 * 24 * 60), &[link(9)], &stats(0));
        let day = counts(&history);
        assert_eq!((day.len(), day.iter().sum::<u64>(), day.last()), (SLOTS, 4, Some(&4)));
    }

    #[test]
    fn a_link_that_came_after_us_has_counted_from_nothing() {
        let mut history = History::default();
        take(&mut history, at(0), &[], &stats(0));
        take(&mut history, at(1), &[link(7)], &stats(0));
        assert_eq!(counts(&history), [7]);
    }

    #[test]
    fn a_chart_shows_only_what_is_known() {
        let mut history = History::default();
        let gate = Of::Link("gate".to_owned());
        take(&mut history, at(0), &[link(0)], &stats(0));
        assert_eq!(history.chart(&gate, ""), None);
        take(&mut history, at(1), &[link(8)], &stats(0));
        take(&mut history, at(6), &[link(9)], &stats(0));
        let (svg, most) = history.chart(&gate, "a \"b\" <c>").unwrap();
        assert_eq!(most, 8);
        assert!(svg.contains("d=\"M286 40H288\"") && svg.contains("d=\"M286 40v-40h1v40zM287 40v-5h1v5z\""), "{svg}");
        assert!(svg.contains("aria-label=\"a &quot;b&quot; &lt;c>\""), "{svg}");
    }

    #[test]
    fn a_rate_is_that_of_the_last_quarter_of_an_hour() {
        let mut history = History::default();
        let gate = Of::Link("gate".to_owned());
        take(&mut history, at(0), &[link(100)], &stats(0));
        assert_eq!(history.rate(&gate, at(0)), None, "too early");
        take(&mut history, at(2), &[link(130)], &stats(0));
        assert_eq!(history.rate(&gate, at(2)), Some((30, 120_000_000)));
        take(&mut history, at(22), &[link(140)], &stats(0));
        // Since minute 5: three slots, and two minutes of the current one.
        assert_eq!(history.rate(&gate, at(22)), Some((10, 17 * 60_000_000)));
    }

    #[test]
    fn what_is_written_a_day_is_told_after_an_hour_and_where_the_kernel_says_it() {
        let mut history = History::default();
        history.take(at(0), &[], &stats(0), Some(500));
        assert_eq!(history.written_a_day(), None);
        history.take(at(120), &[], &stats(0), Some(1_500));
        assert_eq!(history.written_a_day(), Some(12_000));
        history.take(at(121), &[], &stats(0), None);
        assert_eq!(history.written_a_day(), None);
    }

    #[test]
    fn room_is_told_after_an_hour_and_never_better_than_it_is() {
        let mut history = History::default();
        let gib = 1 << 30;
        take(&mut history, at(0), &[], &stats(gib));
        assert_eq!(history.room(8 * gib), Room::Unknown);
        take(&mut history, at(120), &[], &stats(gib + 1000));
        // 7 GiB at no more than 16 MiB in two hours.
        assert_eq!(history.room(8 * gib), Room::MoreThan(37));
        take(&mut history, at(1200), &[], &stats(2 * gib));
        // 6 GiB at 1 GiB in 20 hours.
        assert_eq!(history.room(8 * gib), Room::Days(5));
        assert_eq!(history.room(gib), Room::Days(0));
    }
}
