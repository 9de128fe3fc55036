//! What only PostgreSQL has to prove: the schema, its rights, the rows.

use std::time::Duration;

use portero::clock::{Clock, SyncSource};
use portero::deliver::{Outcome, Verdict, central, postgres};
use portero::event::UtcMicros;
use portero::tls::TlsMode;

use crate::proxy::Proxy;
use crate::rigs::{Central, Rig, TIMEOUT, server};
use crate::support::{Postgres, free_port};
use crate::world::{World, record, send};

fn clock() -> Clock {
    Clock::new(SyncSource::Trusted)
}

fn delivered(n: usize) -> Outcome {
    Outcome::Settled(vec![Verdict::Delivered; n])
}

fn sink(config: &postgres::Config) -> postgres::Postgres {
    postgres::Postgres::new("far", config, "00ff", clock()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_has_typed_columns_and_the_whole_event() {
    let (world, central) = (World::new().await, Central::start().await);
    let mut event = world.event(Some("087109"));
    event.times.received = UtcMicros(1_795_478_400_011_000);
    assert_eq!(send(&mut central.sink(), &[record(41, event.clone())]).await, delivered(1));
    let row = central.server.psql(
        "SET timezone = 'UTC'; SELECT tenant, event_id, gateway_id, journal_id, seq, site_id, terminal_id, \
         terminal_serial, kind, outcome, punch, person, event_time, received_time FROM portero.event",
    );
    let expected = format!(
        "default|{}|gw-1|00ff|41|obra-norte|yard|CJ9D232460003|attendance_punch||in|087109|2025-03-10 11:00:00+00|\
         2026-11-24 00:00:00.011+00",
        event.id
    );
    assert_eq!(row, expected);
    let mut json = Vec::new();
    portero::event::json::write(&event, &mut json);
    let body = central.server.psql("SELECT body FROM portero.event");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&body).unwrap(),
        serde_json::from_slice::<serde_json::Value>(&json).unwrap()
    );
    let now = world.event_of_now();
    assert_eq!(send(&mut central.sink(), &[record(42, now)]).await, delivered(1));
    let partition = central.server.psql("SELECT tableoid::regclass FROM portero.event WHERE seq = 42");
    let today = portero::clock::Zone::utc().local(clock().now().wall).unwrap();
    assert_eq!(partition, format!("portero.event_{:04}_{:02}", today.year(), today.month()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_postgresql_cannot_hold_is_replaced_and_large_batches_say_the_same_as_small_ones() {
    let (world, central) = (World::new().await, Central::start().await);
    let mut sink = central.sink();
    let mut records: Vec<_> = (1..=1500).map(|seq| record(seq, world.event(None))).collect();
    records[7].event.reading.person.terminal_person_id = Some("a\0b\\u0000 'ñ\"".to_owned());
    records[8].event.reading.terminal_serial = Some("x".repeat(100_000));
    records[9].event.times.event = UtcMicros(-1);
    // By COPY, then the first ones again by arrays into an empty table.
    assert_eq!(send(&mut sink, &records).await, delivered(1500));
    let all = "SELECT * FROM portero.event WHERE seq <= 20 ORDER BY seq";
    let copied = central.server.psql(all);
    central.server.psql("DELETE FROM portero.event");
    assert_eq!(send(&mut sink, &records[..20]).await, delivered(20));
    assert_eq!(central.server.psql(all), copied);
    let person = central.server.psql("SELECT person FROM portero.event WHERE seq = 8");
    assert_eq!(person, "a\u{FFFD}b\\u0000 'ñ\"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_make_no_temporary_table_still_delivers_large_batches() {
    let (world, central) = (World::new().await, Central::start().await);
    central.server.psql("REVOKE TEMPORARY ON DATABASE attendance FROM PUBLIC");
    let mut sink = central.sink();
    for _ in 0..2 {
        let records: Vec<_> = (1..=1200).map(|seq| record(seq, world.event(None))).collect();
        assert_eq!(send(&mut sink, &records).await, delivered(1200));
    }
    assert_eq!(central.received().len(), 2400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_id_with_another_content_is_recorded_and_the_first_one_stands() {
    let (world, central) = (World::new().await, Central::start().await);
    let mut sink = central.sink();
    let event = world.event(Some("087109"));
    assert_eq!(send(&mut sink, &[record(1, event.clone())]).await, delivered(1));
    // A plain resend is no conflict, another receive time neither.
    let mut later = event.clone();
    later.times.received = UtcMicros(0);
    assert_eq!(send(&mut sink, &[record(1, later)]).await, delivered(1));
    assert_eq!(central.server.psql("SELECT count(*) FROM portero.conflict"), "0");
    let mut other = event.clone();
    other.reading.person.terminal_person_id = Some("1".to_owned());
    for _ in 0..2 {
        assert_eq!(send(&mut sink, &[record(1, other.clone())]).await, delivered(1));
    }
    assert_eq!(central.server.psql("SELECT event_id FROM portero.conflict"), event.id.to_string());
    assert_eq!(central.server.psql("SELECT person FROM portero.event"), "087109");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_may_insert_and_call_and_nothing_else() {
    let server = server().await;
    let as_gateway = |sql: &str| server.try_psql(&format!("SET ROLE gateway; {sql}"));
    for sql in [
        "SELECT * FROM portero.event",
        "SELECT event_id FROM portero.correction",
        "UPDATE portero.event SET person = ''",
        "DELETE FROM portero.event",
        "TRUNCATE portero.event",
        "INSERT INTO portero.gateway (tenant, gateway_id, status) VALUES ('a', 'b', '{}')",
        "SELECT * FROM portero.anchor",
        "DROP TABLE portero.event",
        "CREATE TABLE portero.mine (a int)",
    ] {
        let denied = as_gateway(sql).unwrap_err();
        assert!(denied.contains("permission denied") || denied.contains("must be owner"), "{sql}: {denied}");
    }
    let beat = r#"{"tenant":"default","gateway_id":"gw-1","version":"0.1.0","journal_id":"00ff","seq":7,"head":"aa",
        "terminals":[{"terminal_id":"yard","device_key":"k","state":"up","last_heard":"2026-11-24T00:00:00Z"}]}"#;
    for _ in 0..2 {
        as_gateway(&format!("SELECT portero.heartbeat('{beat}')")).unwrap();
    }
    assert_eq!(server.psql("SELECT seq, head FROM portero.gateway"), "7|aa");
    assert_eq!(server.psql("SELECT terminal_id, state FROM portero.terminal"), "yard|up");
    assert_eq!(server.psql("SELECT journal_id, seq, head FROM portero.anchor"), "00ff|7|aa");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schema_may_be_applied_again_also_over_rows_and_missing_months() {
    let (world, central) = (World::new().await, Central::start().await);
    send(&mut central.sink(), &[record(1, world.event_of_now())]).await;
    let script = central::script_now(&clock());
    let apply = async || {
        central::apply(&central.server.url(), None, TlsMode::Disable, None, clock(), &script).await.unwrap();
    };
    apply().await;
    // Rows of a month that has no partition yet wait in the default partition, and move when it is made.
    let month = central.server.psql("SELECT tableoid::regclass FROM portero.event");
    central.server.psql(&format!("CREATE TABLE kept AS SELECT * FROM portero.event; DROP TABLE {month}"));
    central.server.psql("INSERT INTO portero.event SELECT * FROM kept");
    assert_eq!(central.server.psql("SELECT tableoid::regclass FROM portero.event"), "portero.event_default");
    apply().await;
    assert_eq!(central.received().len(), 1);
    assert_eq!(central.server.psql("SELECT tableoid::regclass FROM portero.event"), month);
    let partitions =
        central.server.psql("SELECT count(*) FROM pg_inherits WHERE inhparent = 'portero.event'::regclass");
    assert!(partitions.parse::<u32>().unwrap() == 15, "{partitions}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_in_1970_lands_in_the_default_partition_and_a_missing_partition_is_our_fault() {
    let (world, central) = (World::new().await, Central::start().await);
    let mut early = world.event(None);
    early.id.0[..6].fill(0);
    assert_eq!(send(&mut central.sink(), &[record(1, early.clone())]).await, delivered(1));
    assert_eq!(central.server.psql("SELECT tableoid::regclass FROM portero.event"), "portero.event_default");
    central.server.psql("DROP TABLE portero.event_default");
    let outcome = send(&mut central.sink(), &[record(1, early)]).await;
    assert!(matches!(&outcome, Outcome::Blocked { reason } if reason.contains("central init")), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_trouble_is_told_apart() {
    let world = World::new().await;
    let records = [record(1, world.event(None))];
    let server = Postgres::start_with_passwords();
    server.psql("CREATE ROLE gateway LOGIN PASSWORD 'right'");
    let config = |port: u16, database: &str| postgres::Config {
        url: format!("postgresql://gateway@127.0.0.1:{port}/{database}"),
        password: Some(secret(&world, "right")),
        batch: 2000,
        tls: TlsMode::Disable,
        ca_file: None,
        timeout: TIMEOUT,
    };
    let mut blocked = Vec::new();
    let mut check = async |config: &postgres::Config, word: &str| {
        let outcome = send(&mut sink(config), &records).await;
        assert!(matches!(&outcome, Outcome::Blocked { reason } if reason.contains(word)), "{word}: {outcome:?}");
        blocked.push(outcome);
    };
    // No schema, then no right, then no such database, then a wrong password.
    check(&config(server.port, "attendance"), "central init").await;
    let script = central::script_now(&clock());
    central::apply(&server.url(), None, TlsMode::Disable, None, clock(), &script).await.unwrap();
    check(&config(server.port, "attendance"), "GRANT portero_gateway").await;
    server.psql("GRANT portero_gateway TO gateway");
    check(&config(server.port, "elsewhere"), "database").await;
    let mut wrong = config(server.port, "attendance");
    wrong.password = Some(secret(&world, "wrong"));
    check(&wrong, "password").await;
    let absent = sink(&postgres::Config { password: Some(absent(&world)), ..config(server.port, "attendance") });
    assert!(matches!(send(&mut { absent }, &records).await, Outcome::Blocked { .. }));
    assert_eq!(send(&mut sink(&config_right(&world, server.port)), &records).await, delivered(1));
    // Nobody there, a server that says nothing, a lock that is not let go.
    let nobody = send(&mut sink(&config(free_port(), "attendance")), &records).await;
    assert!(
        matches!(&nobody, Outcome::Retry { reason, .. } if reason.to_lowercase().contains("refused")),
        "{nobody:?}"
    );
    let proxy = Proxy::start(server.port).await;
    proxy.fall_silent();
    let silent = postgres::Config { timeout: Duration::from_millis(500), ..config(proxy.port, "attendance") };
    assert!(matches!(send(&mut sink(&silent), &records).await, Outcome::Retry { .. }));
}

fn config_right(world: &World, port: u16) -> postgres::Config {
    postgres::Config {
        url: format!("postgresql://gateway@127.0.0.1:{port}/attendance"),
        password: Some(secret(world, "right")),
        batch: 2000,
        tls: TlsMode::Disable,
        ca_file: None,
        timeout: TIMEOUT,
    }
}

fn secret(world: &World, value: &str) -> portero::secret::SecretSource {
    use std::os::unix::fs::PermissionsExt as _;
    let path = world.dir.path().join(value);
    std::fs::write(&path, value).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    portero::secret::SecretSource::File(path)
}

fn absent(world: &World) -> portero::secret::SecretSource {
    portero::secret::SecretSource::File(world.dir.path().join("absent"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_at_the_centre_ends_in_time_and_leaves_no_backend_waiting() {
    let (world, central) = (World::new().await, Central::start().await);
    central.server.psql(
        "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS \
                         'BEGIN PERFORM pg_sleep(3600); RETURN NEW; END'",
    );
    central
        .server
        .psql("CREATE TRIGGER slow BEFORE INSERT ON portero.event FOR EACH ROW EXECUTE FUNCTION public.slow()");
    let mut sink = central.sink_with(Duration::from_secs(1));
    let records = [record(1, world.event(None))];
    for _ in 0..3 {
        assert!(matches!(send(&mut sink, &records).await, Outcome::Retry { .. }));
    }
    crate::support::eventually("the server gave up by itself", crate::support::DEADLINE, || {
        central.server.psql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'gateway' AND state = 'active'")
            == "0"
    });
    central.server.psql("DROP TRIGGER slow ON portero.event");
    let mut patient = central.sink();
    assert_eq!(send(&mut patient, &records).await, delivered(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_behind_in_the_session_for_the_next_client_of_a_pooler() {
    let (world, central) = (World::new().await, Central::start().await);
    central.server.psql(
        "CREATE TABLE public.seen (statements bigint, temporary bigint, timeout text); \
         GRANT INSERT ON public.seen TO portero_gateway; \
         CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN \
           INSERT INTO public.seen SELECT (SELECT count(*) FROM pg_prepared_statements), \
             (SELECT count(*) FROM pg_class WHERE relname = ''portero_batch''), \
             (SELECT setting FROM pg_settings WHERE name = ''statement_timeout''); RETURN NULL; END'; \
         CREATE TRIGGER look AFTER INSERT ON portero.event FOR EACH STATEMENT EXECUTE FUNCTION public.look()",
    );
    let mut sink = central.sink();
    let records: Vec<_> = (1..=1500).map(|seq| record(seq, world.event(None))).collect();
    assert_eq!(send(&mut sink, &records).await, delivered(1500));
    // The large batch is gone from the session when the small one comes: no statement, no table.
    assert_eq!(send(&mut sink, &[record(1501, world.event(None))]).await, delivered(1));
    let seen = central.server.psql("SELECT statements, temporary, timeout FROM public.seen");
    assert_eq!(seen.lines().last(), Some("0|0|20000"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_connection_is_verified_against_name_and_authority() {
    let world = World::new().await;
    let server = server().await;
    let certificate = |name: &str, key: &str| {
        server.psql(&format!(
            "COPY (SELECT 1) TO PROGRAM 'openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} \
             -addext subjectAltName=DNS:{name} -addext basicConstraints=critical,CA:FALSE -keyout {key}.key \
             -out {key}.crt 2>/dev/null && chmod 600 {key}.key'"
        ));
        let path = world.dir.path().join(format!("{key}.crt"));
        std::fs::write(&path, server.psql(&format!("SELECT pg_read_file('{key}.crt')"))).unwrap();
        path
    };
    let (right, other) = (certificate("localhost", "server"), certificate("localhost", "other"));
    server.psql("ALTER SYSTEM SET ssl_cert_file = 'server.crt'");
    server.psql("ALTER SYSTEM SET ssl_key_file = 'server.key'");
    let config = |host: &str, ca: &std::path::Path| postgres::Config {
        url: format!("postgresql://gateway@{host}:{}/attendance", server.port),
        password: None,
        batch: 2000,
        tls: TlsMode::Require,
        ca_file: Some(ca.to_owned()),
        timeout: TIMEOUT,
    };
    let records = [record(1, world.event(None))];
    // Without encryption at the server nothing is sent in plain text.
    let plain = send(&mut sink(&config("localhost", &right)), &records).await;
    assert!(!matches!(plain, Outcome::Settled(_)), "{plain:?}");
    server.psql("ALTER SYSTEM SET ssl = on");
    server.psql("SELECT pg_reload_conf()");
    crate::support::eventually("ssl is on", crate::support::DEADLINE, || server.psql("SHOW ssl") == "on");
    let stranger = send(&mut sink(&config("localhost", &other)), &records).await;
    assert!(matches!(&stranger, Outcome::Blocked { .. }), "{stranger:?}");
    let name = send(&mut sink(&config("127.0.0.1", &right)), &records).await;
    assert!(matches!(&name, Outcome::Blocked { reason } if reason.contains("name")), "{name:?}");
    assert_eq!(send(&mut sink(&config("localhost", &right)), &records).await, delivered(1));
}

/// The subcommand as the command line parses it.
#[derive(Debug, clap::Parser)]
struct Cli {
    #[command(flatten)]
    central: portero::cli::central::Args,
}

fn central_init(args: &[&str]) -> anyhow::Result<portero::cli::Exit> {
    let cli = <Cli as clap::Parser>::try_parse_from(["central", "init"].iter().chain(args))?;
    portero::cli::central::run(&cli.central)
}

#[test]
fn central_init_applies_with_an_administrators_login_and_says_what_is_wrong() {
    let server = Postgres::start_with_passwords();
    server.psql("CREATE ROLE admin SUPERUSER LOGIN PASSWORD 'pässword'");
    let url = server.url_as("admin");
    let dir = crate::support::tempdir();
    let file = dir.path().join("password");
    std::fs::write(&file, "pässword\n").unwrap();
    let apply = ["--apply", "--url", &url, "--tls", "disable", "--password-file", file.to_str().unwrap()];
    let exposed = central_init(&apply).unwrap_err();
    assert!(exposed.to_string().contains("chmod 600"), "{exposed}");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for _ in 0..2 {
        assert_eq!(central_init(&apply).unwrap(), portero::cli::Exit::Done);
    }
    assert_eq!(server.psql("SELECT count(*) FROM portero.event"), "0");
    for wrong in [vec![], vec!["--apply"], vec!["--print", "--apply", "--url", "x"], vec!["--print", "--tls", "off"]] {
        assert!(central_init(&wrong).is_err_and(|e| e.is::<clap::Error>()), "{wrong:?}");
    }
    let unencrypted = central_init(&["--apply", "--url", &url]).unwrap_err();
    assert!(unencrypted.to_string().contains("TLS"), "{unencrypted}");
    assert_eq!(portero::cli::exit_for(&unencrypted), portero::cli::Exit::Unavailable);
    let far =
        central_init(&["--apply", "--url", "postgresql://admin@db.example.com/a", "--tls", "disable"]).unwrap_err();
    assert!(far.to_string().contains("loopback"), "{far}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_too_thin_for_the_configured_batch_carries_smaller_ones() {
    let (world, central) = (World::new().await, Central::start().await);
    central.proxy.be_thin();
    let ids = world.punches(2000).await;
    let relay = world.relay(central.sink_with(Duration::from_secs(1))).await;
    assert_eq!(world.drained("far").await.delivered, 2000);
    let received = central.received();
    assert!(ids.iter().all(|id| received.get(id) == Some(&1)));
    relay.stop().await;
}
