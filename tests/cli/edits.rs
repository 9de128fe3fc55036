//! What a person puts in the place of what a sink refused.

use std::sync::Arc;

use super::support::{Behaviour, DEADLINE, Reply, VendorApi, eventually};
use super::{Site, err, lines, out};

#[test]
fn an_edited_event_goes_out_changed_and_under_a_key_of_its_own_and_stays_as_it_was_heard() {
    let vendor = VendorApi::start(Behaviour::RejectIf(Arc::new(|event| event["punch"] != "out" || event["note"] != 7)));
    let mut site = Site::new(&vendor.url());
    site.gateway.restart_ready();
    site.play(2, 1);
    eventually("both are refused", DEADLINE, || site.stats()["sinks"][0]["quarantined"] == 2);
    let listed = lines(&site.gateway.cli(&["quarantine", "list", "--json"]));
    let (seq, id) = (listed[0]["seq"].to_string(), listed[0]["event_id"].as_str().unwrap());
    let heard = listed[0]["event"].clone();
    let edit = |more: &[&str]| site.gateway.cli(&[&["quarantine", "edit", &seq, "--sink", "vendor"], more].concat());
    let said = ["--who", "ana", "--why", "the reader was mounted the wrong way round"];
    for wrong in [
        &["--set", "punch=out"][..],
        &["--set", "punch=out", "--who", "ana", "--why", " "],
        &[&["--set", "punch"], &said[..]].concat(),
        &[&["--set-json", "note=}"], &said[..]].concat(),
        &said,
    ] {
        assert_eq!(edit(wrong).status.code(), Some(2), "{wrong:?}");
    }
    let absent = ["quarantine", "edit", "999", "--sink", "vendor", "--set", "punch=out"];
    assert_eq!(site.gateway.cli(&[&absent, &said[..]].concat()).status.code(), Some(1));
    assert_eq!(site.stats()["sinks"][0]["quarantined"], 2, "nothing was released by mistake");

    // Half of what is wrong: refused once more, and the second edit adds to the first.
    let done = edit(&[&["--set", "punch=out", "--json"], &said[..]].concat());
    assert_eq!(lines(&done)[0]["edited"], 1);
    eventually("it is refused once more", DEADLINE, || {
        let shown = lines(&site.gateway.cli(&["quarantine", "list", "--json"]));
        shown.iter().any(|entry| entry["event_id"] == id && entry["attempts"] == 2)
    });
    site.gateway.sigterm();
    assert_eq!(
        site.gateway
            .cli(&[&["quarantine", "edit", &seq, "--sink", "vendor", "--set-json", "note=7"], &said[..]].concat())
            .status
            .code(),
        Some(0)
    );
    site.gateway.restart_ready();
    eventually("it is taken", DEADLINE, || site.stats()["sinks"][0]["delivered"] == 1);

    let requests: Vec<_> = vendor.requests().into_iter().filter(|r| r.events()[0]["event_id"] == id).collect();
    let keys: Vec<&str> = requests.iter().map(|r| r.key.as_deref().unwrap()).collect();
    assert_eq!(keys, [id, &format!("{id}.1"), &format!("{id}.2")]);
    let mut sent = requests[2].events()[0].clone();
    assert_eq!((&sent["punch"], &sent["note"]), (&"out".into(), &7.into()));
    sent.as_object_mut().unwrap().remove("note");
    sent["punch"] = heard["punch"].clone();
    assert_eq!(sent, heard, "the rest goes out as it was");
    assert_eq!(vendor.oracle().doubled(), Vec::<&str>::new());
    let traced = lines(&site.gateway.cli(&["trace", id, "--json"])).remove(0);
    assert_eq!(traced["event"], heard, "the event itself stays");
    let edit = &traced["edits"][0];
    assert_eq!(
        (&edit["who"], &edit["fields"]["punch"], &edit["fields"]["note"]),
        (&"ana".into(), &"out".into(), &7.into())
    );
    let words = out(&site.gateway.cli(&["trace", id]));
    assert!(words.contains("note, punch changed for it by ana") && words.contains("wrong way round"), "{words}");
    assert_eq!(site.gateway.cli_json(&["journal", "verify", "--json"])["ok"], true);
}

#[test]
fn an_edit_names_a_target_of_the_mapping_and_stands_in_where_the_event_has_nothing() {
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(|_| Reply::new(201, "{}", 1))));
    let mut site = Site::new(&vendor.url());
    let config = site.dir.path().join("portero.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let map = "on_ambiguous = \"resend\"\n[sink.request]\nbody = \"object\"\n[sink.map]\nidNumber = \"/credential/card_number\"\ntimes.at = \"/event_time\"\n";
    std::fs::write(&config, format!("{text}\n{map}")).unwrap();
    site.gateway.restart_ready();
    site.play(1, 1);
    eventually("it can't be mapped", DEADLINE, || site.stats()["sinks"][0]["quarantined"] == 1);
    let seq = lines(&site.gateway.cli(&["quarantine", "list", "--json"]))[0]["seq"].to_string();
    let edit = |set: &str| {
        let said = ["--set", set, "--who", "ana", "--why", "card lost"];
        site.gateway.cli(&[&["quarantine", "edit", &seq, "--sink", "vendor"], &said[..]].concat())
    };
    let refused = edit("idNumer=4711");
    assert_eq!(refused.status.code(), Some(2));
    assert!(err(&refused).contains("it has: idNumber, times.at"), "{}", err(&refused));
    assert_eq!(edit("idNumber=4711").status.code(), Some(0));
    eventually("it is taken", DEADLINE, || site.stats()["sinks"][0]["delivered"] == 1);
    let sent = vendor.requests();
    assert_eq!((sent.len(), &sent[0].events()[0]["idNumber"]), (1, &"4711".into()));
    assert!(sent[0].events()[0]["times"]["at"].is_string());
}
