//! The devices behind the terminals of one link: last heard, sequence epoch, gaps. A bounded table.
//!
//! Must not: decide anything about identity (I3): what it knows is lost when a device is evicted or the gateway stops
//! hard, and may only ever inform.

mod drift;

use std::collections::HashMap;
use std::sync::Arc;

use drift::Drift;
use jiff::civil::DateTime;

use super::DeviceStatus;
use crate::event::{Event, Origin, UtcMicros};
use crate::journal::{DeviceState, SourceId};

/// Most devices remembered per link; beyond it the one that has been silent longest (about: second chance) makes room.
pub(crate) const MAX_DEVICES: usize = 10_000;

/// Most devices shown per terminal on the board.
const MAX_SHOWN: usize = 1_000;

/// A sequence that falls back by more than this began anew even if no device time says so: it is the largest window of
/// messages that a broker re-sends after a reconnect in practice (`max_inflight_messages` of our own mosquitto.conf).
const REDELIVERY_WINDOW: u64 = 1_000;

/// A place in the table, valid until the device is evicted; used for counters only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(u32);

#[derive(Debug)]
struct Device {
    terminal: usize,
    key: Arc<str>,
    last_heard: UtcMicros,
    last_seq: Option<u64>,
    last_wall: Option<DateTime>,
    /// `last_seq` comes from before this start, and may be older than what the journal holds: no gap is counted from it.
    stale: bool,
    epoch: u32,
    gaps: u64,
    events: u64,
    online: Option<bool>,
    drift: Drift,
    recent: bool,
    unsaved: bool,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Devices {
    index: Vec<HashMap<Arc<str>, u32>>,
    devices: Vec<Device>,
    capacity: usize,
    hand: usize,
    changed: bool,
    epoch_changed: bool,
}

impl Devices {
    /// A table for so many terminals.
    pub(crate) fn new(terminals: usize, capacity: usize) -> Self {
        let index = (0..terminals).map(|_| HashMap::new()).collect();
        Self { index, devices: Vec::new(), capacity, hand: 0, changed: false, epoch_changed: false }
    }

    /// What the journal knew of a device at the last stop.
    pub(crate) fn seed(&mut self, terminal: usize, state: &DeviceState) {
        if self.devices.len() >= self.capacity {
            return;
        }
        let Slot(slot) = self.heard(terminal, &state.device_key, state.last_heard);
        let device = &mut self.devices[slot as usize];
        device.last_seq = state.last_native_seq;
        device.stale = true;
        device.epoch = state.epoch;
        device.gaps = state.gaps;
        device.unsaved = false;
    }

    /// A device spoke.
    pub(crate) fn heard(&mut self, terminal: usize, key: &str, at: UtcMicros) -> Slot {
        self.changed = true;
        if let Some(&slot) = self.index[terminal].get(key) {
            let device = &mut self.devices[slot as usize];
            device.last_heard = at;
            device.recent = true;
            device.unsaved = true;
            return Slot(slot);
        }
        let key: Arc<str> = Arc::from(key);
        let device = Device {
            terminal,
            key: Arc::clone(&key),
            last_heard: at,
            last_seq: None,
            last_wall: None,
            stale: false,
            epoch: 0,
            gaps: 0,
            events: 0,
            online: None,
            drift: Drift::default(),
            recent: true,
            unsaved: true,
        };
        let slot = if self.devices.len() < self.capacity {
            self.devices.push(device);
            self.devices.len() - 1
        } else {
            let slot = self.victim();
            let old = std::mem::replace(&mut self.devices[slot], device);
            self.index[old.terminal].remove(&old.key);
            slot
        };
        // The capacity is far below 2^32.
        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
        self.index[terminal].insert(key, slot);
        Slot(slot)
    }

    fn victim(&mut self) -> usize {
        loop {
            self.hand = (self.hand + 1) % self.devices.len();
            if !std::mem::take(&mut self.devices[self.hand].recent) {
                return self.hand;
            }
        }
    }

    /// Fills `seq_epoch` and `gap_before` from the device's native sequence, where that is a number. Only live records
    /// move the cursor.
    pub(crate) fn sequence(&mut self, slot: Slot, event: &mut Event) {
        let Some(device) = self.devices.get_mut(slot.0 as usize) else { return };
        event.seq_epoch = device.epoch;
        let Some(seq) = event.reading.native_seq.as_deref().and_then(|s| s.parse::<u64>().ok()) else { return };
        if event.reading.origin.unwrap_or(Origin::Live) != Origin::Live {
            return;
        }
        let wall = event.reading.device_time.as_ref().and_then(|t| t.parsed).map(|t| t.wall);
        match device.last_seq {
            Some(last) if seq <= last => {
                if seq == last || !began_anew(last, seq, device.last_wall, wall) {
                    // Heard again, or late: not news.
                    return;
                }
                device.epoch = device.epoch.saturating_add(1);
                event.seq_epoch = device.epoch;
                self.epoch_changed = true;
            }
            Some(last) if seq - last > 1 && !device.stale => {
                event.gap_before = Some(seq - last - 1);
                device.gaps = device.gaps.saturating_add(seq - last - 1);
            }
            Some(_) | None => {}
        }
        device.last_seq = Some(seq);
        device.last_wall = wall;
        device.stale = false;
    }

    /// What the times of a record say of the device's clock.
    pub(crate) fn clock(&mut self, slot: Slot, event: &Event) {
        if let Some(device) = self.devices.get_mut(slot.0 as usize) {
            device.drift.hear(&event.times, event.reading.origin.unwrap_or(Origin::Live));
        }
    }

    /// Whether a sequence has begun anew since the last save.
    pub(crate) const fn epoch_changed(&self) -> bool {
        self.epoch_changed
    }

    /// An event of this device is on disk.
    pub(crate) fn committed(&mut self, slot: Slot) {
        if let Some(device) = self.devices.get_mut(slot.0 as usize) {
            device.events += 1;
        }
    }

    /// When a terminal was heard last, through any of its devices.
    pub(crate) fn last_heard(&self, terminal: usize) -> Option<UtcMicros> {
        self.devices.iter().filter(|d| d.terminal == terminal).map(|d| d.last_heard).max()
    }

    /// The device said that it came or went.
    pub(crate) fn online(&mut self, slot: Slot, online: bool) {
        if let Some(device) = self.devices.get_mut(slot.0 as usize) {
            device.online = Some(online);
        }
    }

    /// States that differ from what was saved last; they count as saved from here on.
    pub(crate) fn unsaved(&mut self, source: impl Fn(usize) -> SourceId) -> Vec<DeviceState> {
        self.epoch_changed = false;
        let take = |d: &mut Device| {
            std::mem::take(&mut d.unsaved).then(|| DeviceState {
                source: source(d.terminal),
                device_key: d.key.to_string(),
                last_heard: d.last_heard,
                last_native_seq: d.last_seq,
                epoch: d.epoch,
                gaps: d.gaps,
            })
        };
        self.devices.iter_mut().filter_map(take).collect()
    }

    /// Whether anything was heard since this was asked last.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The devices of a terminal for the board, by key, at most 1,000 of them.
    pub(crate) fn show(&self, terminal: usize, configured: impl Fn(&str) -> bool) -> Vec<DeviceStatus> {
        let mut keys: Vec<_> = self.index[terminal].iter().collect();
        keys.sort_unstable();
        let devices = keys.into_iter().take(MAX_SHOWN).map(|(_, &slot)| &self.devices[slot as usize]);
        devices
            .map(|d| DeviceStatus {
                key: d.key.to_string(),
                last_heard: d.last_heard,
                events: d.events,
                online: d.online,
                configured: configured(&d.key),
                gaps: d.gaps,
                clock: d.drift.clock(),
            })
            .collect()
    }
}

/// A lower number than before: the log was wiped (its records are newer than the last one), or an old record was sent
/// again (they are not).
fn began_anew(last: u64, seq: u64, last_wall: Option<DateTime>, wall: Option<DateTime>) -> bool {
    match (last_wall, wall) {
        (Some(last_wall), Some(wall)) => wall > last_wall,
        _ => last - seq > REDELIVERY_WINDOW,
    }
}

#[cfg(test)]
#[path = "device/tests.rs"]
mod tests;
