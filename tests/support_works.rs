//! The tests' own support is tested too: a helper that fails quietly would make every other test worthless.

mod support;

use support::{Behaviour, DEADLINE, Mosquitto, MosquittoOptions, Postgres, Pty, Reply, VendorApi, eventually};

#[test]
fn postgres_survives_a_power_cut_with_its_data_and_its_port() {
    let mut postgres = Postgres::start();
    postgres.psql("create table t (n int); insert into t values (1), (2)");
    postgres.stop_immediate();
    assert!(postgres.try_psql("select 1").is_err());
    postgres.start_again();
    assert_eq!(postgres.psql("select n from t order by n"), "1\n2");
}

#[test]
fn mosquitto_comes_back_on_its_port() {
    let dir = support::tempdir();
    let mut broker = Mosquitto::start(dir.path(), &MosquittoOptions::default());
    let port = broker.port;
    broker.kill9();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    broker.wipe_store();
    broker.restart();
    assert_eq!(broker.port, port);
    broker.stop();
}

#[test]
fn a_pty_tells_when_it_is_opened_and_carries_bytes_both_ways() {
    use std::io::{Read as _, Write as _};
    let dir = support::tempdir();
    let mut pty = Pty::pair(&dir.path().join("reader"));
    for _ in 0..3 {
        assert!(!pty.is_open());
        let mut file = std::fs::File::options().read(true).write(true).open(&pty.link).unwrap();
        pty.wait_open();
        pty.write(b"\x02hello\r\n\x03");
        let mut heard = [0; 9];
        file.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"\x02hello\r\n\x03");
        file.write_all(b"ok\n").unwrap();
        let mut answer = Vec::new();
        eventually("the device hears the gateway", DEADLINE, || {
            answer.extend(pty.read());
            answer == b"ok\n"
        });
        pty.unplug();
        assert!(!pty.link.exists());
        assert!(!matches!(file.read(&mut [0; 10]), Ok(1..)));
        drop(file);
        pty.replug();
    }
}

#[test]
fn the_vendor_api_remembers_what_it_stored_and_under_which_key() {
    let mut api = VendorApi::start(Behaviour::Ok);
    let post = |key: &str, body: &str| {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", api.port)).unwrap();
        let head = format!(
            "POST /api/v1/events HTTP/1.1\r\nhost: x\r\nconnection: close\r\nidempotency-key: {key}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer.lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(post("k1", r#"[{"event_id":"a"},{"event_id":"b"}]"#), "HTTP/1.1 200 OK");
    assert_eq!(post("k1", r#"[{"event_id":"a"},{"event_id":"b"}]"#), "HTTP/1.1 200 OK");
    assert!(api.oracle().doubled().is_empty());
    assert!(api.oracle().keys_with_different_bytes.is_empty());
    api.behave(Behaviour::Custom(std::sync::Arc::new(|_| Reply::drop_after_storing())));
    assert_eq!(post("k2", r#"{"event_id":"c"}"#), "");
    api.behave(Behaviour::Accepted(1));
    assert_eq!(post("k3", r#"[{"event_id":"d"},{"event_id":"e"}]"#), "HTTP/1.1 200 OK");
    assert_eq!(api.stored_count(), 4, "a, b, c and d, but not e");
    assert_eq!(post("k4", r#"[{"event_id":"a","x":1}]"#), "HTTP/1.1 200 OK");
    assert_eq!(api.oracle().doubled(), ["a"]);
    assert_eq!(post("k4", r#"[{"event_id":"a","x":2}]"#), "HTTP/1.1 200 OK");
    assert_eq!(api.oracle().keys_with_different_bytes, ["k4"]);
    let port = api.port;
    api.stop();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    api.start_again();
    assert_eq!(api.stored_count(), 4);
    assert_eq!(api.requests().len(), 6);
}
