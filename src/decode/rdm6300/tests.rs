//! Tests of `rdm6300`: the captured frame, presences, ghosts, noise, and any chunking.

use proptest::prelude::*;

use super::*;

/// Captured (Seeed's wiki): tag 01000734E0.
const CAPTURE: &[u8] = b"\x0201000734E0D2\x03";
/// Another tag: 0A004D7603, printed as 077,30211 or 42954749443.
const OTHER: &[u8] = b"\x020A004D760332\x03";
const MS: u64 = 1000;

fn once() -> Rdm6300 {
    Rdm6300::new(&Config { confirm_frames: 1, ..Config::default() })
}

fn feed(decoder: &mut Rdm6300, at_ms: u64, bytes: &[u8]) -> Vec<Step> {
    let mut out = Vec::new();
    decoder.feed(BootTime(at_ms * MS), Input::Bytes(bytes), &mut out);
    out
}

fn tags(steps: &[Step]) -> Vec<String> {
    let readings = steps.iter().filter_map(|s| if let Step::Events(r, _) = s { Some(r) } else { None }).flatten();
    readings.filter_map(|r| r.credential.bits_hex.clone()).collect()
}

fn kinds(steps: &[Step]) -> Vec<FaultKind> {
    steps.iter().filter_map(|s| if let Step::Fault(f) = s { Some(f.kind) } else { None }).collect()
}

#[test]
fn the_captured_frame_is_understood() {
    let steps = feed(&mut once(), 0, CAPTURE);
    let [Step::Events(readings, None)] = steps.as_slice() else { panic!("{steps:?}") };
    let c = &readings[0].credential;
    assert_eq!(
        (c.bits_hex.as_deref(), c.bit_length, c.format.as_deref()),
        (Some("01000734E0"), Some(40), Some("em4100"))
    );
    assert_eq!((c.facility, c.card_number.as_deref()), (Some(7), Some("4295439584")));
    assert_eq!((&readings[0].identity, readings[0].outcome), (&Identity::Presence, Some(Outcome::None)));
    let steps = feed(&mut once(), 0, OTHER);
    let [Step::Events(readings, None)] = steps.as_slice() else { panic!("{steps:?}") };
    let c = &readings[0].credential;
    assert_eq!((c.facility, c.card_number.as_deref()), (Some(77), Some("42954749443")));
}

#[test]
fn the_id12_form_and_lower_case_are_the_same_tag() {
    for frame in [&b"\x0201000734E0D2\r\n\x03"[..], b"\x0201000734e0d2\x03", b"\x0201000734E0D2\x03\r\n"] {
        let steps = feed(&mut once(), 0, frame);
        assert_eq!((tags(&steps), kinds(&steps)), (vec!["01000734E0".to_owned()], vec![]));
    }
}

#[test]
fn a_card_held_for_ten_seconds_is_one_event() {
    let mut decoder = Rdm6300::new(&Config::default());
    let steps: Vec<_> = (0..=10_000 / 65).flat_map(|i| feed(&mut decoder, i * 65, CAPTURE)).collect();
    assert_eq!((tags(&steps).len(), kinds(&steps).len()), (1, 0));
}

#[test]
fn two_swipes_a_second_apart_are_two() {
    let mut decoder = Rdm6300::new(&Config::default());
    let steps: Vec<_> = [0, 65, 130, 1130, 1195].iter().flat_map(|t| feed(&mut decoder, *t, CAPTURE)).collect();
    assert_eq!((tags(&steps).len(), kinds(&steps).len()), (2, 0));
}

#[test]
fn another_card_begins_a_presence_of_its_own() {
    let mut decoder = Rdm6300::new(&Config::default());
    let mut steps = Vec::new();
    for (i, frame) in [CAPTURE, CAPTURE, OTHER, OTHER, CAPTURE, CAPTURE].iter().enumerate() {
        steps.extend(feed(&mut decoder, i as u64 * 65, frame));
    }
    assert_eq!(tags(&steps), ["01000734E0", "0A004D7603", "01000734E0"]);
}

#[test]
fn a_ghost_is_a_fault_and_does_not_end_a_presence() {
    let mut decoder = Rdm6300::new(&Config::default());
    let mut steps = Vec::new();
    for (i, frame) in [CAPTURE, CAPTURE, OTHER, CAPTURE].iter().enumerate() {
        steps.extend(feed(&mut decoder, i as u64 * 65, frame));
    }
    assert_eq!((tags(&steps), kinds(&steps)), (vec!["01000734E0".to_owned()], vec![FaultKind::Ghost]));
    // Two equal frames too far apart are two ghosts, the second once its time is up.
    let mut decoder = Rdm6300::new(&Config::default());
    let mut steps = feed(&mut decoder, 0, CAPTURE);
    steps.extend(feed(&mut decoder, 501, CAPTURE));
    decoder.tick(BootTime(1000 * MS), &mut steps);
    decoder.tick(BootTime(1002 * MS), &mut steps);
    assert_eq!((tags(&steps).len(), kinds(&steps)), (0, vec![FaultKind::Ghost; 2]));
    let zero = feed(&mut once(), 0, b"\x02000000000000\x03");
    assert_eq!((tags(&zero).len(), kinds(&zero)), (0, vec![FaultKind::Ghost]));
}

#[test]
fn a_seeded_presence_goes_on() {
    let mut decoder = Rdm6300::new(&Config::default());
    decoder.seed("01000734e0", BootTime(100 * MS));
    let steps: Vec<_> = [400, 465, 530].iter().flat_map(|t| feed(&mut decoder, *t, CAPTURE)).collect();
    assert_eq!(steps, []);
    let steps: Vec<_> = [1100, 1165].iter().flat_map(|t| feed(&mut decoder, *t, CAPTURE)).collect();
    assert_eq!(tags(&steps).len(), 1);
}

#[test]
fn i5_after_noise_halves_and_bad_checksums_the_next_good_frame_decodes() {
    for (junk, want) in [
        (&b"xyz\x00\xff"[..], vec![FaultKind::Noise]),
        (b"\x020100", vec![FaultKind::Truncated]),
        (b"\x020100\x03", vec![FaultKind::Truncated]),
        (b"\x02\x02\x02", vec![FaultKind::Noise]),
        (b"\x0201000734E0D3\x03", vec![FaultKind::Checksum]),
        (b"\x0201000734E0D2x", vec![FaultKind::Noise]),
        (b"\x0201000734E0D2\r\n\r\x03", vec![FaultKind::Noise]),
        (b"ab\x0201zz\x03cd", vec![FaultKind::Noise]),
        (b"a\x0201", vec![FaultKind::Noise, FaultKind::Truncated]),
    ] {
        let mut decoder = once();
        let mut steps = feed(&mut decoder, 0, junk);
        steps.extend(feed(&mut decoder, 0, CAPTURE));
        assert_eq!((tags(&steps).len(), kinds(&steps)), (1, want), "{junk:?}");
    }
}

#[test]
fn an_interrupted_line_leaves_a_truncated_frame() {
    let mut decoder = once();
    let mut steps = feed(&mut decoder, 0, &CAPTURE[..7]);
    decoder.interrupted(BootTime(0), &mut steps);
    let [Step::Fault(fault)] = steps.as_slice() else { panic!("{steps:?}") };
    assert_eq!((fault.kind, fault.length, fault.offset), (FaultKind::Truncated, 7, Some(0)));
    assert_eq!(tags(&feed(&mut decoder, 0, CAPTURE)).len(), 1);
}

#[test]
fn noise_without_end_is_counted_and_bounded() {
    let mut decoder = once();
    let mut steps = Vec::new();
    let noise: Vec<u8> = (0..100_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for chunk in noise.chunks(997) {
        steps.extend(feed(&mut decoder, 0, chunk));
    }
    decoder.interrupted(BootTime(0), &mut steps);
    let lengths: u64 = steps.iter().map(|s| if let Step::Fault(f) = s { f.length } else { 0 }).sum();
    assert_eq!(lengths, 100_000);
    assert!(decoder.noise.head.capacity() <= 2 * NOISE_KEPT && decoder.frame.capacity() <= 2 * MAX_FRAME);
}

/// Pieces of which a line is made: frames, noise, halves.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(CAPTURE.to_vec()),
        Just(OTHER.to_vec()),
        Just(b"\x0201000734E0D2\r\n\x03\r\n".to_vec()),
        Just(b"\x0201000734E0D3\x03".to_vec()),
        (0..CAPTURE.len()).prop_map(|n| CAPTURE[..n].to_vec()),
        proptest::collection::vec(any::<u8>(), 0..20),
    ]
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_steps(
        pieces in proptest::collection::vec(piece(), 0..12),
        cuts in proptest::collection::vec(1_usize..20, 1..40),
        trace in any::<bool>(),
    ) {
        let line = pieces.concat();
        let start = || {
            let mut decoder = Rdm6300::new(&Config::default());
            if trace {
                decoder.trace();
            }
            decoder
        };
        let (mut whole, mut cut) = (start(), start());
        let mut want = feed(&mut whole, 0, &line);
        whole.interrupted(BootTime(0), &mut want);
        let (mut got, mut rest) = (Vec::new(), line.as_slice());
        for cut_at in cuts.iter().cycle() {
            let (chunk, tail) = rest.split_at(rest.len().min(*cut_at));
            got.extend(feed(&mut cut, 0, chunk));
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        cut.interrupted(BootTime(0), &mut got);
        prop_assert_eq!(got, want);
    }
}
