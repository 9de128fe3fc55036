//! Bundles with real signatures, and what becomes of each.

use secrecy::SecretString;

use super::*;
use crate::manage::remote::sign::{self, Pair, Password};

const DAY: i64 = 24 * 3600 * 1_000_000;

/// 2026-11-24
const TODAY: i64 = 1_795_478_400_000_000;

const HEADER: &str = "[bundle]\ngateway = \"gw-1\"\npurpose = \"portero-config\"\nrevision = 7\n\
                      not_before = 2026-11-23T00:00:00Z\nexpires = 2026-11-25T00:00:00Z\n";

fn pair() -> Pair {
    sign::keygen(&Password::None).unwrap()
}

fn signed(text: &str, secret: &SecretString) -> Signed {
    let signature = sign::sign(text.as_bytes(), secret, &Password::None, "test").unwrap();
    Signed { payload: text.as_bytes().to_vec(), signature }
}

fn key(pair: &Pair) -> Key {
    Key::parse(&pair.public).unwrap()
}

fn time() -> Time {
    Time { wall: UtcMicros(TODAY), synchronised: true, floor: UtcMicros(TODAY - 100 * DAY) }
}

fn judge<'a>(trust: &'a Trust) -> Judge<'a> {
    Judge { gateway: "gw-1", group: Some("north"), trust, consumed: 6, time: time() }
}

#[test]
fn a_bundle_for_us_or_our_group_is_good() {
    let (active, recovery) = (pair(), pair());
    let trust = Trust { active: key(&active), recovery: Some(key(&recovery)) };
    let judged = judge(&trust).judge(&signed(HEADER, &active.secret)).unwrap();
    assert_eq!((judged.header.revision, judged.slot, &judged.trust), (7, Slot::Active, &trust));
    let group = HEADER.replace("gateway = \"gw-1\"", "group = \"north\"");
    assert_eq!(judge(&trust).judge(&signed(&group, &recovery.secret)).unwrap().slot, Slot::Recovery);
}

#[test]
fn every_other_bundle_is_refused_for_its_own_reason() {
    let active = pair();
    let trust = Trust { active: key(&active), recovery: None };
    let refused = |from: &str, to: &str| {
        assert!(HEADER.contains(from));
        judge(&trust).judge(&signed(&HEADER.replace(from, to), &active.secret)).unwrap_err()
    };
    assert!(matches!(refused("portero-config", "other"), Error::Purpose(p) if p == "other"));
    assert!(matches!(refused("gw-1", "gw-2"), Error::Elsewhere { .. }));
    assert!(matches!(refused("gateway = \"gw-1\"", "group = \"south\""), Error::OtherGroup { .. }));
    assert!(matches!(refused("revision = 7", "revision = 6"), Error::Replayed { revision: 6, consumed: 6 }));
    assert!(matches!(refused("2026-11-23", "2026-11-24T08:00:00Z #"), Error::NotYet { .. }));
    assert!(matches!(refused("expires = 2026-11-25", "expires = 2026-11-24"), Error::Expired { .. }));
    for (from, to) in [
        ("revision = 7", "revision = 0"),
        ("revision = 7", "revision = \"7\""),
        ("revision = 7", "revision = 7\nsecond = 1"),
        ("[bundle]", "[bundel]"),
        ("T00:00:00Z\nexpires", "T00:00:00\nexpires"),
        ("expires = 2026-11-25", "expires = 2026-11-22"),
        ("gateway = \"gw-1\"", "gateway = \"gw-1\"\ngroup = \"north\""),
        ("gateway = \"gw-1\"", ""),
        ("revision = 7", "revision = 7\nabandon = \"x\""),
        ("revision = 7", "revision = 7\nactive_key = \"RWhunter2\""),
    ] {
        let error = refused(from, to);
        let Error::Refused(problems) = &error else { panic!("{to}: {error}") };
        assert!(!problems[0].contains("hunter2") && problems[0].starts_with("bundle"), "{problems:?}");
    }
}

#[test]
fn nothing_of_an_unsigned_payload_is_read_and_size_is_bounded() {
    let (active, stranger) = (pair(), pair());
    let trust = Trust { active: key(&active), recovery: None };
    let mut changed = signed(HEADER, &active.secret);
    changed.payload[20] ^= 1;
    assert_eq!(judge(&trust).judge(&changed), Err(Error::Tampered));
    let other = judge(&trust).judge(&signed("not even toml", &stranger.secret));
    assert_eq!(other, Err(Error::Stranger { id: key(&stranger).id().to_owned() }));
    let large = Signed { payload: vec![b'#'; MAX_BYTES + 1], signature: changed.signature.clone() };
    assert_eq!(judge(&trust).judge(&large), Err(Error::TooLarge));
}

#[test]
fn either_key_may_change_the_active_one_and_recovery_alone_itself() {
    let (active, recovery, next) = (pair(), pair(), pair());
    let trust = Trust { active: key(&active), recovery: Some(key(&recovery)) };
    let with = |name: &str, new: &Pair, by: &Pair| {
        let line = format!("revision = 7\n{name} = \"{}\"", key(new).text());
        judge(&trust).judge(&signed(&HEADER.replace("revision = 7", &line), &by.secret)).map(|judged| judged.trust)
    };
    for by in [&active, &recovery] {
        let trust = with("active_key", &next, by).unwrap();
        assert_eq!((&trust.active, &trust.recovery), (&key(&next), &Some(key(&recovery))));
    }
    assert_eq!(with("recovery_key", &next, &active), Err(Error::RecoveryKey));
    assert_eq!(with("recovery_key", &recovery, &active).unwrap(), trust, "it changes nothing");
    assert_eq!(with("recovery_key", &next, &recovery).unwrap().recovery, Some(key(&next)));
    assert_eq!(with("active_key", &recovery, &active), Err(Error::OneKey));
    assert_eq!(with("recovery_key", &active, &recovery), Err(Error::OneKey));
}

#[test]
fn an_unsynchronised_clock_neither_bricks_nor_opens() {
    let active = pair();
    let trust = Trust { active: key(&active), recovery: None };
    let at = |floor: i64| Judge {
        time: Time { wall: UtcMicros(0), synchronised: false, floor: UtcMicros(floor) },
        ..judge(&trust)
    };
    assert!(at(TODAY - 300 * DAY).judge(&signed(HEADER, &active.secret)).is_ok());
    assert!(matches!(at(TODAY + 2 * DAY).judge(&signed(HEADER, &active.secret)), Err(Error::Expired { .. })));
}
