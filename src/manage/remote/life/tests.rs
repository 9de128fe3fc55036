//! What is remembered after each thing that happens.

use super::*;
use crate::manage::remote::sign::{self, Password};
use crate::manage::remote::signature::Key;

const NOW: UtcMicros = UtcMicros(1000);

fn trust() -> Trust {
    Trust { active: Key::parse(&sign::keygen(&Password::None).unwrap().public).unwrap(), recovery: None }
}

fn stored(revision: u64) -> Stored {
    Stored { revision, signer: "k".to_owned(), expires: 5000 }
}

fn bundle(revision: u64) -> Base {
    Base::Bundle(stored(revision))
}

fn change(changed: &[&str], healthy: &[&str]) -> Change {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Change { changed: list(changed), healthy: list(healthy) }
}

fn consumed(state: &State, revision: u64, change: Option<Change>) -> State {
    let trust = trust();
    let config = RemoteConfig {
        url: None,
        ca_file: None,
        topic: None,
        poll_seconds: 60,
        probation_seconds: 60,
        active_key: trust.active.text().to_owned(),
        recovery_key: None,
    };
    let consumption = Consumption {
        stored: stored(revision),
        not_before: UtcMicros(i64::try_from(revision).unwrap() * 10),
        who: "active key".to_owned(),
        trust: (&trust, &trust),
        config: &config,
        now: NOW,
    };
    consume(state, &consumption, change)
}

fn last(state: &State) -> (What, Option<u64>, &str) {
    let last = state.history.last().unwrap();
    (last.what, last.revision, last.reason.as_str())
}

#[test]
fn a_bundle_is_consumed_with_its_way_back_in_one_step() {
    let first = consumed(&State::default(), 7, Some(change(&["sink a"], &["sink a"])));
    assert_eq!((first.consumed, first.newest, &first.current), (7, 70, &bundle(7)));
    assert_eq!(first.probation.as_ref().unwrap().back_to, Base::Local);
    let kept = commit(&first, "", NOW);
    assert_eq!((&kept.current, &kept.previous, &kept.probation), (&bundle(7), &Some(Base::Local), &None));
    let second = consumed(&kept, 8, Some(change(&["sink a"], &[])));
    let back = give_back(&second, "sink a: down", NOW);
    assert_eq!((back.consumed, &back.current, &back.previous), (8, &bundle(7), &Some(Base::Local)));
    assert_eq!(last(&back), (What::Returned, Some(8), "sink a: down"));
}

#[test]
fn what_says_the_same_is_consumed_and_changes_no_way_back() {
    let kept = commit(&consumed(&State::default(), 7, Some(Change::default())), "", NOW);
    let same = consumed(&kept, 8, None);
    assert_eq!((same.consumed, &same.current, &same.previous), (8, &bundle(8), &Some(Base::Local)));
    assert!(same.probation.is_none());
}

#[test]
fn a_bundle_during_probation_leads_back_past_what_was_being_tried() {
    let kept = commit(&consumed(&State::default(), 7, Some(Change::default())), "", NOW);
    let tried = consumed(&kept, 8, Some(change(&["sink a"], &["sink a"])));
    // Sink a is sick by now; that it was well before the first of the two is what counts.
    let again = consumed(&tried, 9, Some(change(&["sink a", "sink b"], &["sink b"])));
    let probation = again.probation.clone().unwrap();
    assert_eq!(probation.back_to, bundle(7));
    assert_eq!(probation.healthy, ["sink a", "sink b"]);
    assert_eq!(give_back(&again, "", NOW).current, bundle(7));
    assert_eq!(again.previous, Some(bundle(7)));
}

#[test]
fn the_third_start_on_probation_returns() {
    let tried = consumed(&State::default(), 7, Some(Change::default()));
    assert_eq!(start(&State::default(), NOW), None, "without probation nothing is written");
    let first = start(&tried, NOW).unwrap();
    let second = start(&first, NOW).unwrap();
    assert_eq!((&second.current, second.probation.as_ref().unwrap().starts), (&bundle(7), 2));
    let third = start(&second, NOW).unwrap();
    assert_eq!((&third.current, &third.probation, third.consumed), (&Base::Local, &None, 7));
    assert_eq!(last(&third).0, What::Returned);
}

#[test]
fn only_changed_parts_that_were_well_can_fail_a_probation() {
    let tried = consumed(&State::default(), 7, Some(change(&["a", "b"], &["a"])));
    let probation = tried.probation.unwrap();
    let sick = || Health::Sick("down".to_owned());
    let judged = |a: Health, b: Health, round| {
        judge(
            &probation,
            |part| {
                if part == "a" {
                    a.clone()
                } else if part == "b" {
                    b.clone()
                } else {
                    sick()
                }
            },
            round,
        )
    };
    assert_eq!(judged(Health::Well, Health::Well, 1), Verdict::Commit(String::new()));
    assert_eq!(judged(sick(), Health::Well, 1), Verdict::Return("a: down".to_owned()));
    let Verdict::Commit(words) = judged(Health::Well, sick(), 1) else { panic!("b was sick before") };
    assert!(words.contains("b: down"));
    assert_eq!(judged(Health::Unproven, Health::Well, 1), Verdict::Wait);
    assert_eq!(judged(Health::Unproven, Health::Unproven, PATIENCE - 1), Verdict::Wait);
    let Verdict::Commit(words) = judged(Health::Unproven, Health::Well, PATIENCE) else { panic!("patience ends") };
    assert!(words.contains("nothing has passed through a"));
}

#[test]
fn a_person_goes_back_step_by_step_and_no_further_than_the_local_file() {
    assert_eq!(roll_back(&State::default(), "me", "", NOW), Err(Error::NothingBefore));
    let one = commit(&consumed(&State::default(), 7, Some(Change::default())), "", NOW);
    let two = commit(&consumed(&one, 8, Some(Change::default())), "", NOW);
    let back = roll_back(&two, "me", "why", NOW).unwrap();
    assert_eq!((&back.current, &back.previous, back.consumed), (&bundle(7), &None, 8));
    assert_eq!(last(&back), (What::RolledBack, Some(8), "why"));
    let further = roll_back(&back, "me", "", NOW).unwrap();
    assert_eq!(further.current, Base::Local);
    assert_eq!(roll_back(&further, "me", "", NOW), Err(Error::NothingBefore));
    let tried = consumed(&one, 8, Some(Change::default()));
    assert_eq!(roll_back(&tried, "me", "", NOW).unwrap().current, bundle(7));
}

#[test]
fn a_refusal_is_remembered_once_and_consumes_nothing() {
    let state = State::default();
    let refused = refuse(&state, 7, "active key", "no credential", NOW).unwrap();
    assert_eq!((refused.consumed, last(&refused).0), (0, What::Refused));
    assert_eq!(refuse(&refused, 7, "active key", "no credential, still", NOW), None);
    assert!(refuse(&refused, 8, "active key", "no credential", NOW).is_some());
}

#[test]
fn the_bundles_that_are_needed_are_those_one_could_come_back_to() {
    let one = commit(&consumed(&State::default(), 7, Some(Change::default())), "", NOW);
    let two = consumed(&one, 8, Some(Change::default()));
    let mut needed: Vec<u64> = two.needed().iter().map(|stored| stored.revision).collect();
    needed.sort_unstable();
    needed.dedup();
    assert_eq!(needed, [7, 8]);
    let three = commit(&consumed(&commit(&two, "", NOW), 9, Some(Change::default())), "", NOW);
    let revisions: Vec<u64> = three.needed().iter().map(|stored| stored.revision).collect();
    assert_eq!(revisions, [9, 8]);
}
