//! Tests of `serial-lines`: layouts, presences, long lines, and any chunking.

use proptest::prelude::*;

use super::*;
use crate::event::{Kind, Punch};

fn rule(field: &str, place: Place, map: &[(&str, &str)]) -> Rule {
    let field = Field::from_name(field).unwrap();
    let map = map.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    Rule { field, place, map, default: None }
}

fn columns() -> Config {
    Config {
        fields: vec![
            rule("native_seq", Place::Column(1), &[]),
            rule("device_time", Place::Column(2), &[]),
            rule("person", Place::Column(3), &[]),
            rule("punch", Place::Column(4), &[("I", "in"), ("O", "out")]),
        ],
        max_length: 60,
        ..Config::default()
    }
}

fn cards() -> Config {
    Config { fields: vec![rule("credential", Place::Column(1), &[])], ..Config::default() }
}

fn feed(decoder: &mut SerialLines, at_ms: u64, bytes: &[u8]) -> Vec<Step> {
    let mut out = Vec::new();
    decoder.feed(BootTime(at_ms * 1000), Input::Bytes(bytes), &mut out);
    out
}

fn read(config: &Config, bytes: &[u8]) -> (Vec<Reading>, Vec<Fault>) {
    let (mut readings, mut faults) = (Vec::new(), Vec::new());
    for step in feed(&mut SerialLines::new(config), 0, bytes) {
        match step {
            Step::Events(mut r, None) => readings.append(&mut r),
            Step::Fault(fault) => faults.push(fault),
            other => panic!("{other:?}"),
        }
    }
    (readings, faults)
}

#[test]
fn columns_are_read_with_lf_and_with_cr_lf() {
    let (readings, faults) = read(&columns(), b"7, 2026-04-10 10:00:07, 0815, I\r\n\r\n8,2026-04-10 10:00:09,0816,O\n");
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(readings.iter().filter_map(|r| r.punch).collect::<Vec<_>>(), [Punch::In, Punch::Out]);
    let identity = ["2026-04-10 10:00:07", "7"].map(|s| Some(s.to_owned()));
    assert_eq!(readings[0].identity, Identity::Record(identity.to_vec()));
    assert_eq!(readings[0].person.terminal_person_id.as_deref(), Some("0815"));
    assert_eq!(readings[0].kind, Some(Kind::AttendancePunch));
}

#[test]
fn pairs_json_and_other_separators_are_read() {
    let pairs = Config {
        layout: Layout::Pairs,
        separator: ";".to_owned(),
        fields: vec![rule("person", Place::Key("pin".to_owned()), &[]), rule("door", Place::Key("d".to_owned()), &[])],
        ..Config::default()
    };
    let (readings, faults) = read(&pairs, b"x; d = 3 ;pin=08=15\n");
    assert_eq!((readings.len(), faults.len(), readings[0].door.number), (1, 0, Some(3)));
    assert_eq!(readings[0].person.terminal_person_id.as_deref(), Some("08=15"));
    let json = Config {
        layout: Layout::Json,
        fields: vec![rule("person", Place::Pointer("/u/0".to_owned()), &[])],
        ..Config::default()
    };
    let (readings, faults) = read(&json, b"{\"u\":[7]}\n{\"u\":\n");
    assert_eq!((readings.len(), faults.len(), faults[0].kind), (1, 1, FaultKind::Malformed));
    let blanks = Config { separator: " ".to_owned(), ..columns() };
    assert_eq!(read(&blanks, b"7  1775815207   0815 I\n").0.len(), 1);
    let other = Config { delimiter: b"\r".to_vec(), ..columns() };
    assert_eq!(read(&other, b"7,1775815207,0815,I\r8,1775815207,0815,I\r").0.len(), 2);
    let latin = Config { encoding: Encoding::Latin1, ..cards() };
    assert_eq!(read(&latin, b"\xd1and\xfa\n").0[0].credential.card_number.as_deref(), Some("Ñandú"));
}

#[test]
fn i5_bad_lines_are_one_fault_each_and_the_next_one_decodes() {
    let good = b"7,1775815207,0815,I\n";
    for (line, kind, length) in [
        (&[b'x'; 5000][..], FaultKind::TooLong, 5000),
        (&[b'x'; 61], FaultKind::TooLong, 61),
        (b"7,\xff,0815\r", FaultKind::Malformed, 8),
        (b",,,", FaultKind::Field, 3),
        (&[b','; 60], FaultKind::Field, 60),
    ] {
        let (readings, faults) = read(&columns(), &[line, b"\n", good].concat());
        assert_eq!(
            (readings.len(), faults.len(), faults[0].kind, faults[0].length),
            (1, 1, kind, length),
            "{faults:?}"
        );
    }
    let mut decoder = SerialLines::new(&columns());
    let mut out = feed(&mut decoder, 0, b"7,17758");
    decoder.interrupted(BootTime(0), &mut out);
    out.extend(feed(&mut decoder, 0, good));
    let [Step::Fault(fault), Step::Events(..)] = out.as_slice() else { panic!("{out:?}") };
    assert_eq!((fault.kind, fault.length, fault.offset), (FaultKind::Truncated, 7, Some(0)));
}

#[test]
fn a_line_that_never_ends_stays_bounded() {
    let mut decoder = SerialLines::new(&columns());
    for _ in 0..100 {
        assert_eq!(feed(&mut decoder, 0, &[b'x'; 10_000]), []);
    }
    let bytes = format!("{decoder:?}").len();
    assert!(bytes < 10_000, "{bytes}");
    let out = feed(&mut decoder, 0, b"\r\n");
    let [Step::Fault(fault)] = out.as_slice() else { panic!("{out:?}") };
    assert_eq!(fault.length, 1_000_000);
}

#[test]
fn a_card_held_for_ten_seconds_is_one_event() {
    let mut decoder = SerialLines::new(&cards());
    let steps: Vec<_> = (0..50).flat_map(|i| feed(&mut decoder, i * 200, b"0004812011\r\n")).collect();
    assert_eq!(steps.len(), 1);
    let Step::Events(readings, None) = &steps[0] else { panic!("{steps:?}") };
    assert_eq!(readings[0].identity, Identity::Presence);
}

#[test]
fn two_swipes_a_second_apart_are_two() {
    let mut decoder = SerialLines::new(&cards());
    let steps: Vec<_> = [0, 1000].iter().flat_map(|t| feed(&mut decoder, *t, b"0004812011\r\n")).collect();
    assert_eq!(steps.len(), 2);
    decoder.seed("0004812011", BootTime(3_000_000));
    assert_eq!(feed(&mut decoder, 3100, b"0004812011\r\n"), []);
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_steps(
        line in "([ -~]{0,70}(\r\n|\n)|7,1775815207,[0-9]{1,4},I\n|é){0,12}",
        cuts in proptest::collection::vec(1_usize..20, 1..40),
        delimiter in prop_oneof![Just("\n"), Just("\r\n"), Just("\r"), Just("7,"), Just("\r\r")],
        max_length in 1_usize..40,
        trace in any::<bool>(),
    ) {
        let config = Config { delimiter: delimiter.as_bytes().to_vec(), max_length, ..columns() };
        let start = || {
            let mut decoder = SerialLines::new(&config);
            if trace {
                decoder.trace();
            }
            decoder
        };
        let (mut whole, mut cut) = (start(), start());
        let mut want = feed(&mut whole, 0, line.as_bytes());
        whole.interrupted(BootTime(0), &mut want);
        let (mut got, mut rest) = (Vec::new(), line.as_bytes());
        for at in cuts.iter().cycle() {
            let (chunk, tail) = rest.split_at(rest.len().min(*at));
            got.extend(feed(&mut cut, 0, chunk));
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        cut.interrupted(BootTime(0), &mut got);
        prop_assert_eq!(&got, &want);
        // Every byte is accounted for: lines found are those that splitting finds.
        if delimiter == "\n" && !trace {
            let long = line.split('\n').filter(|l| l.trim_end_matches('\r').len() > max_length).count();
            let found = |kind| want.iter().filter(|s| matches!(s, Step::Fault(f) if f.kind == kind)).count();
            let unfinished = usize::from(!line.is_empty() && !line.ends_with('\n'));
            prop_assert!(found(FaultKind::TooLong) + unfinished >= long);
            prop_assert_eq!(found(FaultKind::Truncated), unfinished);
        }
    }

    #[test]
    fn i5_no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        for layout in [Layout::Columns, Layout::Pairs, Layout::Json] {
            read(&Config { layout, ..columns() }, &bytes);
        }
    }
}
