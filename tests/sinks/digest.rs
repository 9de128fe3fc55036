//! HTTP digest against real servers: apache2 (MD5, stale and next nonces) and lighttpd (SHA-256), with a stand-in behind.

use std::path::Path;

use portero::deliver::{Outcome, api};

use crate::answers::configured;
use crate::support::{Behaviour, DEADLINE, VendorApi, Web, eventually_async};
use crate::world::{World, record, send};

fn secret(dir: &Path, text: &str) {
    std::fs::write(dir.join("password"), text).unwrap();
    std::fs::set_permissions(dir.join("password"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

fn sink(world: &World, web: &Web, password: &str) -> api::Api {
    secret(world.dir.path(), password);
    let text = "auth = { type = \"digest\", user = \"gw \\\"1\\\"\", password = { file = \"{dir}/password\" } }\n";
    let url = format!("http://127.0.0.1:{}/api/v1/events?site=a%20b", web.port);
    api::Api::new("far", configured(text, &url, world.dir.path()), world.clock.clone()).unwrap()
}

const USER: &str = "gw \"1\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_hashes_are_answered_and_one_challenge_is_enough() {
    let (vendor, world) = (VendorApi::start(Behaviour::Ok), World::new().await);
    for web in [Web::apache("gw", "ses:ame", 300, vendor.port), Web::lighttpd("gw", "ses:ame", vendor.port)] {
        let text = "auth = { type = \"digest\", user = \"gw\", password = { file = \"{dir}/password\" } }\n";
        secret(world.dir.path(), "ses:ame");
        let url = format!("http://127.0.0.1:{}/api/v1/events?site=a%20b", web.port);
        let config = configured(text, &url, world.dir.path());
        let mut sink = api::Api::new("far", config, world.clock.clone()).unwrap();
        let before = vendor.requests().len();
        for seq in 1..=5 {
            let outcome = send(&mut sink, &[record(seq, world.event(None))]).await;
            assert!(matches!(outcome, Outcome::Settled(_)), "{outcome:?}\n{}", log(&web));
        }
        let requests = vendor.requests().split_off(before);
        let counts: Vec<String> = requests.iter().filter_map(|r| r.authorization.clone()).map(|a| count(&a)).collect();
        assert_eq!(counts, ["00000001", "00000002", "00000003", "00000004", "00000005"], "{}", log(&web));
        assert!(!format!("{requests:?}").contains("ses:ame"));
    }
}

/// `nc` of a header.
fn count(authorization: &str) -> String {
    let (_, after) = authorization.split_once("nc=").unwrap();
    after.split([',', ' ']).next().unwrap().to_owned()
}

fn log(web: &Web) -> String {
    std::fs::read_to_string(web.dir.path().join("error.log")).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nonce_that_is_over_is_replaced_and_nothing_is_lost() {
    let (vendor, world) = (VendorApi::start(Behaviour::Ok), World::new().await);
    let web = Web::apache(USER, "sesame", 5, vendor.port);
    let mut sink = sink(&world, &web, "sesame");
    for seq in 1..=2 {
        let outcome = send(&mut sink, &[record(seq, world.event(None))]).await;
        assert!(matches!(outcome, Outcome::Settled(_)), "{outcome:?}\n{}", log(&web));
        if seq == 2 {
            break;
        }
        let before = world.clock.now().boot;
        eventually_async("the nonce is over", DEADLINE, || async {
            world.clock.now().boot.micros_since(before) > 6_100_000
        })
        .await;
    }
    assert_eq!(vendor.stored_count(), 2);
    let counts: Vec<String> = vendor.requests().iter().map(|r| count(r.authorization.as_ref().unwrap())).collect();
    assert_eq!(counts, ["00000001"; 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_blocks_and_a_right_one_on_disk_heals() {
    let (vendor, world) = (VendorApi::start(Behaviour::Ok), World::new().await);
    let web = Web::apache(USER, "sesame", 300, vendor.port);
    let mut sink = sink(&world, &web, "hunter2");
    let records = [record(1, world.event(None))];
    let outcome = send(&mut sink, &records).await;
    let Outcome::Blocked { reason } = &outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("renew the one") && !reason.contains("hunter2"), "{reason}");
    assert_eq!(vendor.request_count(), 0);
    secret(world.dir.path(), "sesame");
    let mut outcome = send(&mut sink, &records).await;
    eventually_async("the new password is found", DEADLINE, || async { !matches!(outcome, Outcome::Retry { .. }) })
        .await;
    let before = world.clock.now().boot;
    while !matches!(outcome, Outcome::Settled(_)) {
        assert!(world.clock.now().boot.micros_since(before) < 60_000_000, "{outcome:?}");
        outcome = send(&mut sink, &records).await;
    }
    assert_eq!(vendor.stored_count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_wants_something_else_is_named() {
    for (challenge, words) in [
        (None, "asks for no digest"),
        (Some("Basic realm=\"x\""), "asks for no digest"),
        (Some("Digest realm=\"x\", nonce=\"n\", algorithm=SHA-512-256"), "that we do not make"),
    ] {
        let vendor = VendorApi::start(Behaviour::Custom(std::sync::Arc::new(move |_| {
            let reply = crate::support::Reply::new(401, "", 0);
            match challenge {
                Some(challenge) => reply.header("www-authenticate", challenge),
                None => reply,
            }
        })));
        let world = World::new().await;
        secret(world.dir.path(), "sesame");
        let text = "auth = { type = \"digest\", user = \"gw\", password = { file = \"{dir}/password\" } }\n";
        let config = configured(text, &vendor.url(), world.dir.path());
        let mut sink = api::Api::new("far", config, world.clock.clone()).unwrap();
        let outcome = send(&mut sink, &[record(1, world.event(None))]).await;
        assert!(matches!(&outcome, Outcome::Blocked { reason } if reason.contains(words)), "{outcome:?}");
    }
}
