//! The device table: epochs, gaps, bounds.

use super::*;
use crate::clock::Now;
use crate::event::{BootTime, DeviceTime, EventId, Reading, Source, Times, WrittenTime};

fn event(seq: &str, time: Option<&str>) -> Event {
    let source = Source {
        tenant: "default".into(),
        site_id: "s".into(),
        gateway_id: "g".into(),
        terminal_id: "t".into(),
        protocol: "mqtt-json".into(),
        zone: "UTC".into(),
    };
    let device_time = time.map(|t| DeviceTime {
        raw: t.to_owned(),
        parsed: Some(WrittenTime { wall: t.parse().expect("a good time"), offset_min: None }),
    });
    let now = Now { wall: UtcMicros(0), boot: BootTime(0), synchronised: false };
    let times: Times = crate::clock::resolve(None, &crate::clock::Zone::utc(), Origin::Live, now);
    Event {
        id: EventId([0; 16]),
        source: Arc::new(source),
        device_key: "d".into(),
        reading: Reading { native_seq: Some(seq.to_owned()), device_time, ..Reading::default() },
        times,
        seq_epoch: 0,
        gap_before: None,
        corrects: None,
    }
}

fn run(devices: &mut Devices, records: &[(&str, Option<&str>)]) -> Vec<(u32, Option<u64>)> {
    let slot = devices.heard(0, "d", UtcMicros(1));
    records
        .iter()
        .map(|(seq, time)| {
            let mut event = event(seq, *time);
            devices.sequence(slot, &mut event);
            (event.seq_epoch, event.gap_before)
        })
        .collect()
}

#[test]
fn a_jump_forward_counts_the_missing_records() {
    let mut devices = Devices::new(1, 10);
    assert_eq!(run(&mut devices, &[("1", None), ("2", None), ("6", None)]), [(0, None), (0, None), (0, Some(3))]);
    assert_eq!(devices.show(0, |_| true)[0].gaps, 3);
}

#[test]
fn a_wiped_log_starts_a_new_epoch_and_a_repeated_record_does_not() {
    let mut devices = Devices::new(1, 10);
    let heard = run(
        &mut devices,
        &[
            ("50", Some("2026-11-24T10:00:00")),
            ("49", Some("2026-11-24T09:59:00")),
            ("1", Some("2026-11-24T10:05:00")),
            ("2", Some("2026-11-24T10:06:00")),
        ],
    );
    assert_eq!(heard, [(0, None), (0, None), (1, None), (1, None)]);
    assert!(devices.epoch_changed());
    let timeless = run(&mut Devices::new(1, 10), &[("5000", None), ("4500", None), ("1", None)]);
    assert_eq!(timeless, [(0, None), (0, None), (1, None)]);
}

#[test]
fn what_was_saved_before_a_restart_claims_no_gap() {
    let mut devices = Devices::new(1, 10);
    let saved = DeviceState {
        source: SourceId(1),
        device_key: "d".into(),
        last_heard: UtcMicros(1),
        last_native_seq: Some(10),
        epoch: 2,
        gaps: 7,
    };
    devices.seed(0, &saved);
    assert_eq!(run(&mut devices, &[("50", None), ("52", None)]), [(2, None), (2, Some(1))]);
    assert_eq!(devices.show(0, |_| false)[0].gaps, 8);
}

#[test]
fn i10_the_table_is_bounded_and_the_silent_make_room() {
    let mut devices = Devices::new(2, 3);
    for key in ["a", "b", "c"] {
        devices.heard(0, key, UtcMicros(1));
    }
    devices.heard(1, "d", UtcMicros(2));
    devices.heard(0, "b", UtcMicros(3));
    for n in 0..1_000 {
        devices.heard(1, &n.to_string(), UtcMicros(4));
        devices.heard(0, "b", UtcMicros(4));
    }
    assert_eq!(devices.devices.len(), 3);
    assert_eq!(devices.index.iter().map(HashMap::len).sum::<usize>(), 3);
    assert!(devices.index[0].contains_key("b"), "a device that keeps talking stays");
    assert_eq!(devices.unsaved(|_| SourceId(0)).len(), 3);
    assert!(devices.unsaved(|_| SourceId(0)).is_empty());
}
