//! Files that are torn, foreign or gone. The plug is pulled in `tests/bundles.rs`.

use super::*;
use crate::manage::remote::sign::{self, Password};
use crate::manage::remote::state::Base;

fn bundle(store: &Store, revision: u64) -> Stored {
    let pair = sign::keygen(&Password::None).unwrap();
    let text = format!(
        "[bundle]\ngateway = \"g\"\npurpose = \"portero-config\"\nrevision = {revision}\n\
         not_before = 2026-01-01T00:00:00Z\nexpires = 2027-01-01T00:00:00Z\n"
    );
    let signature = sign::sign(text.as_bytes(), &pair.secret, &Password::None, "").unwrap();
    store.put(revision, &Signed { payload: text.into_bytes(), signature }).unwrap();
    Stored { revision, signer: Key::parse(&pair.public).unwrap().text().to_owned(), expires: 0 }
}

#[test]
fn what_was_saved_is_there_and_only_one_process_writes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("config");
    assert_eq!(Store::peek(&dir).state(), (State::default(), Vec::new()), "nothing is there yet");
    let store = Store::open(&dir).unwrap();
    let stored = bundle(&store, 7);
    let mut state = State { consumed: 7, current: Base::Bundle(stored.clone()), ..State::default() };
    store.save(&mut state).unwrap();
    assert_eq!(Store::peek(&dir).state(), (state, Vec::new()));
    assert_eq!(Store::peek(&dir).bundle(&stored).unwrap().0.revision, 7);
    assert!(Store::open(&dir).is_err());
    store.keep_good("a = 1").unwrap();
    store.save_clock(UtcMicros(5)).unwrap();
    drop(store);
    let store = Store::open(&dir).unwrap();
    assert_eq!((store.good().as_deref(), store.clock()), (Some("a = 1"), UtcMicros(5)));
}

#[test]
fn one_damaged_copy_costs_nothing_and_two_cost_no_revision() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let stored = bundle(&store, 7);
    let mut state = State { consumed: 9, current: Base::Bundle(stored), ..State::default() };
    store.save(&mut state).unwrap();
    let whole = std::fs::read(dir.path().join("state")).unwrap();
    std::fs::write(dir.path().join("state"), &whole[..whole.len() / 2]).unwrap();
    let (read, problems) = store.state();
    assert_eq!((read, problems.len()), (state.clone(), 1));
    std::fs::write(dir.path().join("state.copy"), "<html>").unwrap();
    let (mut read, problems) = store.state();
    assert_eq!((read.consumed, &read.current, problems.len()), (7, &Base::Local, 2), "what the bundles show");
    store.mend(&mut read).unwrap();
    assert_eq!(store.state(), (read, Vec::new()));
    assert!(dir.path().join("state.unreadable").exists());
    // A directory in the place of a file is no reason not to start either.
    for name in STATES {
        std::fs::remove_file(dir.path().join(name)).unwrap();
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    assert_eq!(store.state().1.len(), 2);
}

#[test]
fn a_bundle_that_is_torn_swapped_or_gone_is_refused_with_words() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (stored, other) = (bundle(&store, 7), bundle(&store, 8));
    let path = dir.path().join("bundle-7.toml");
    let whole = std::fs::read(&path).unwrap();
    for bytes in [&whole[..40], b"", b"x", &vec![b'#'; MAX_BYTES + 1][..]] {
        std::fs::write(&path, bytes).unwrap();
        assert!(store.bundle(&stored).is_err());
    }
    std::fs::copy(dir.path().join("bundle-8.toml"), &path).unwrap();
    std::fs::copy(dir.path().join("bundle-8.toml.minisig"), dir.path().join("bundle-7.toml.minisig")).unwrap();
    assert!(store.bundle(&stored).is_err(), "signed by another key");
    let swapped = Stored { signer: other.signer.clone(), ..stored.clone() };
    assert!(store.bundle(&swapped).unwrap_err().to_string().contains("it is revision 8"));
    store.sweep(&State { current: Base::Bundle(other.clone()), ..State::default() });
    assert!(store.bundle(&stored).unwrap_err().to_string().contains("not there"));
    assert!(store.bundle(&other).is_ok());
}
