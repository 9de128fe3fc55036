//! Reading to event: identity, zone and times. Pure; `portero decode` calls it too.
//!
//! Must not: ask what time it is, or let anything but the device's own record into the identity (I3).

use std::sync::Arc;

use crate::clock::{Now, Zone, resolve};
use crate::event::{Event, EventId, Identity, Origin, Reading, Source, identity};

/// What stamping needs to know of the terminal.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// The terminal.
    pub source: Arc<Source>,
    /// Its zone, looked up.
    pub zone: Zone,
    /// The link's `device_id`, if configured.
    pub device_id: Option<String>,
}

impl Stamp {
    /// Turns a reading into an event. `topic_key` is the text that the topic's wildcards matched, if any; `random` makes
    /// the id of a reading that has no record behind it.
    pub fn event(
        &self,
        reading: Reading,
        topic_key: Option<&str>,
        now: Now,
        random: impl FnOnce() -> [u8; 10],
    ) -> Event {
        let device_key = reading
            .terminal_serial
            .as_deref()
            .or(self.device_id.as_deref())
            .or(topic_key)
            .unwrap_or(&self.source.terminal_id)
            .to_owned();
        let id = match &reading.identity {
            Identity::Record(fields) => identity::derive(&self.source.site_id, &device_key, wall_ms(&reading), fields),
            Identity::None | Identity::Presence => mint(now, random()),
        };
        let origin = reading.origin.unwrap_or(Origin::Live);
        let times = resolve(reading.device_time.as_ref(), &self.zone, origin, now);
        Event {
            id,
            source: Arc::clone(&self.source),
            device_key,
            reading,
            times,
            seq_epoch: 0,
            gap_before: None,
            corrects: None,
        }
    }
}

fn mint(now: Now, random: [u8; 10]) -> EventId {
    identity::mint(now.wall.0.div_euclid(1000), random)
}

/// The device's wall time as written in milliseconds, no zone applied; its native sequence where it gives no time.
fn wall_ms(reading: &Reading) -> i64 {
    let written = reading.device_time.as_ref().and_then(|t| t.parsed);
    match written {
        Some(written) => {
            let since = written.wall.duration_since(jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0));
            i64::try_from(since.as_millis()).unwrap_or(0)
        }
        None => reading.native_seq.as_deref().and_then(|s| s.parse::<u64>().ok()).map_or(0, |n| {
            // Only the low 48 bits enter the id.
            i64::try_from(n & ((1 << 48) - 1)).unwrap_or(0)
        }),
    }
}
