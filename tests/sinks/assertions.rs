//! Assertions (RFC 7523) against PyJWT: as a grant and as client authentication, by every algorithm and kind of key file.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use portero::deliver::{Outcome, api};

use crate::answers::configured;
use crate::support::{Behaviour, Process, Reply, VendorApi, find_program};
use crate::world::{World, record, send};

/// The server, and its port.
fn server(algorithm: &str, key: &Path) -> (Process, u16) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sinks/assertion_server.py");
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script).arg(algorithm).arg(key).stdin(Stdio::null()).stdout(writer);
    let process = Process::spawn(&mut command);
    drop(command);
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).unwrap();
    (process, line.trim().parse().expect("python3-jwt and python3-cryptography are installed (`make deps`)"))
}

fn openssl(dir: &Path, arguments: &[&str]) {
    let mut command = Command::new(find_program("openssl", &[]));
    assert!(
        command.args(arguments).current_dir(dir).stderr(Stdio::null()).status().unwrap().success(),
        "{arguments:?}"
    );
}

fn private(dir: &Path, name: &str) {
    std::fs::set_permissions(dir.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

const BEARER: &str = "grant = \"jwt_bearer\", assertion = { algorithm = \"ALG\", key = { file = \"{dir}/KEY\" }, key_id = \"k-1\", \
                      issuer = \"gw 1\", subject = \"site@hr\", claims = { scope = \"punch\" } }";

const CLIENT: &str = "client_id = \"gw 1\", client_auth = \"assertion\", assertion = { algorithm = \"ALG\", \
                      key = { file = \"{dir}/KEY\" }, key_id = \"k-1\" }";

fn sink(world: &World, port: u16, keys: &str, algorithm: &str, key: &str) -> api::Api {
    let keys = keys.replace("ALG", algorithm).replace("KEY", key);
    let text = format!(
        "on_ambiguous = \"resend\"\nanswer = [{{ status = [201], verdict = \"delivered\" }}]\n\
         auth = {{ type = \"oauth2\", url = \"http://127.0.0.1:{port}/token\", {keys} }}\n"
    );
    let url = format!("http://127.0.0.1:{port}/events");
    api::Api::new("far", configured(&text, &url, world.dir.path()), world.clock.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn assertions_of_every_algorithm_are_taken_as_grant_and_as_client_authentication() {
    let world = World::new().await;
    let dir = world.dir.path();
    std::fs::write(dir.join("shared"), "a secret of more than thirty-two bytes").unwrap();
    openssl(dir, &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "rsa.pk8"]);
    openssl(dir, &["rsa", "-in", "rsa.pk8", "-traditional", "-out", "rsa.pk1"]);
    openssl(dir, &["rsa", "-in", "rsa.pk8", "-pubout", "-out", "rsa.pub"]);
    openssl(dir, &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "ec.sec1"]);
    openssl(dir, &["pkcs8", "-topk8", "-nocrypt", "-in", "ec.sec1", "-out", "ec.pk8"]);
    openssl(dir, &["ec", "-in", "ec.sec1", "-pubout", "-out", "ec.pub"]);
    for name in ["shared", "rsa.pk8", "rsa.pk1", "ec.sec1", "ec.pk8"] {
        private(dir, name);
    }
    for (algorithm, keys, public) in [
        ("HS256", &["shared"][..], "shared"),
        ("RS256", &["rsa.pk8", "rsa.pk1"], "rsa.pub"),
        ("ES256", &["ec.pk8", "ec.sec1"], "ec.pub"),
    ] {
        let (_server, port) = server(algorithm, &dir.join(public));
        for (key, shape) in keys.iter().flat_map(|key| [(*key, BEARER), (*key, CLIENT)]) {
            let mut sink = sink(&world, port, shape, algorithm, key);
            // Each with a token, and so with an assertion, of its own.
            for seq in 1..=4 {
                let outcome = send(&mut sink, &[record(seq, world.event(None))]).await;
                assert!(matches!(outcome, Outcome::Settled(_)), "{algorithm} {key} {shape}: {outcome:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_is_refused_and_one_that_is_no_key_is_named() {
    let world = World::new().await;
    let dir = world.dir.path();
    std::fs::write(dir.join("shared"), "a secret of more than thirty-two bytes").unwrap();
    std::fs::write(dir.join("wrong"), "another one of more than thirty-two bytes").unwrap();
    for name in ["shared", "wrong"] {
        private(dir, name);
    }
    let (_server, port) = server("HS256", &dir.join("shared"));
    for (algorithm, words) in [("HS256", "does not accept the credential"), ("ES256", "wrong holds no private key")] {
        let mut sink = sink(&world, port, BEARER, algorithm, "wrong");
        let outcome = send(&mut sink, &[record(1, world.event(None))]).await;
        let Outcome::Blocked { reason } = &outcome else { panic!("{outcome:?}") };
        assert!(reason.contains(words) && !reason.contains("another one"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_breaks_an_assertion_is_named() {
    let world = World::new().await;
    std::fs::write(world.dir.path().join("shared"), "a secret of more than thirty-two bytes").unwrap();
    private(world.dir.path(), "shared");
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(|_| {
        Reply::new(400, r#"{"error":"invalid_grant"}"#, 0).header("date", "Sun, 06 Nov 2033 08:49:37 GMT")
    })));
    let mut sink = sink(&world, vendor.port, BEARER, "HS256", "shared");
    let outcome = send(&mut sink, &[record(1, world.event(None))]).await;
    assert!(matches!(&outcome, Outcome::Blocked { reason } if reason.contains("clock is")), "{outcome:?}");
}
