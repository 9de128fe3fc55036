//! The database at the centre as a whole: who may do what, partitions, two servers, signs of life.

use std::time::Duration;

use portero::cli::Exit;
use portero::clock::{Clock, SyncSource};
use portero::deliver::central::{self, Admin, Admission};
use portero::deliver::{Outcome, Verdict, heartbeat, postgres};
use portero::tls::TlsMode;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::rigs::{TIMEOUT, server};
use crate::support::{DEADLINE, Postgres, eventually, eventually_async};
use crate::world::{World, record, send};

fn clock() -> Clock {
    Clock::new(SyncSource::Trusted)
}

fn config(url: String) -> postgres::Config {
    postgres::Config { url, password: None, batch: 2000, tls: TlsMode::Disable, ca_file: None, timeout: TIMEOUT }
}

fn sink(config: &postgres::Config) -> postgres::Postgres {
    postgres::Postgres::new("far", config, "00ff", clock()).unwrap()
}

fn admin(url: &str) -> Admin<'_> {
    Admin { url, password: None, tls: TlsMode::Disable, ca_file: None, clock: clock() }
}

async fn admit(server: &Postgres, gateway_id: &str, login: &str, password: Option<&str>) {
    let script = central::admit(&Admission { gateway_id, tenant: "default", login, password }).unwrap();
    admin(&server.url()).apply(&script).await.unwrap();
}

/// `portero central …` as the command line parses it.
fn portero_central(args: &[&str]) -> anyhow::Result<Exit> {
    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        central: portero::cli::central::Args,
    }
    let cli = <Cli as clap::Parser>::try_parse_from(["central"].iter().chain(args))?;
    portero::cli::central::run(&cli.central)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateways_login_writes_as_this_gateway_and_can_do_nothing_else() {
    let (world, server) = (World::new().await, server().await);
    admit(&server, "gw-1", "norte", None).await;
    admit(&server, "gw-2", "sur", None).await;
    let mut norte = sink(&config(server.url_as("norte")));
    // By arrays, by COPY, and again.
    let records: Vec<_> = (1..=1500).map(|seq| record(seq, world.event(None))).collect();
    for batch in [&records[..1], &records, &records] {
        assert_eq!(send(&mut norte, batch).await, Outcome::Settled(vec![Verdict::Delivered; batch.len()]));
    }
    assert_eq!(server.psql("SELECT count(*) FROM portero.event WHERE gateway_id = 'gw-1'"), "1500");
    // Another gateway's events are refused as our own fault, nothing is lost, and the words say what to do.
    for batch in [&records[..1], &records] {
        let outcome = send(&mut sink(&config(server.url_as("sur"))), batch).await;
        assert!(matches!(&outcome, Outcome::Blocked { reason } if reason.contains("add-gateway")), "{outcome:?}");
    }
    let values = |tenant: &str, gateway: &str, id: u32| {
        format!(
            "INSERT INTO portero.event (tenant, event_id, gateway_id, journal_id, seq, site_id, terminal_id, kind, \
             event_time, received_time, body) VALUES ('{tenant}', '01957f3e-0000-8000-8000-{id:012}', '{gateway}', \
             '00', 1, 's', 't', 'k', now(), now(), '{{}}') ON CONFLICT DO NOTHING"
        )
    };
    let as_norte = |sql: &str| server.try_psql_as("norte", sql);
    as_norte(&values("default", "gw-1", 1)).unwrap();
    let stolen = [values("default", "gw-2", 2), values("other", "gw-1", 3), values("default", "", 4)];
    for sql in &stolen {
        assert!(as_norte(sql).unwrap_err().contains("row-level security"), "{sql}");
        let correction = sql.replace("portero.event (tenant", "portero.correction (corrects, tenant");
        let correction = correction.replace("VALUES (", "VALUES ('01957f3e-0000-8000-8000-000000000001', ");
        assert!(as_norte(&correction).unwrap_err().contains("row-level security"), "{correction}");
    }
    for sql in [
        "SELECT * FROM portero.event",
        "SELECT event_id FROM portero.event_default",
        "SELECT * FROM portero.correction",
        "SELECT * FROM portero.conflict",
        "SELECT * FROM portero.gateway",
        "SELECT * FROM portero.terminal",
        "SELECT * FROM portero.anchor",
        "SELECT * FROM portero.login",
        "UPDATE portero.event SET person = ''",
        "UPDATE portero.event SET person = '' WHERE false",
        "DELETE FROM portero.event",
        "TRUNCATE portero.event",
        "INSERT INTO portero.event_default DEFAULT VALUES",
        "INSERT INTO portero.login VALUES ('default', 'norte', 'gw-2')",
        "INSERT INTO portero.own_gateway VALUES ('default', 'gw-2')",
        "INSERT INTO portero.anchor VALUES ('default', 'gw-1', 'a', 1, 'b')",
        "INSERT INTO portero.gateway (tenant, gateway_id, status) VALUES ('default', 'gw-1', '{}')",
        "INSERT INTO portero.conflict (tenant, event_id, digest, stored, refused) SELECT 'a', gen_random_uuid(), '', '{}', '{}'",
        "SELECT portero.make_month('2020-01-01')",
        "ALTER TABLE portero.event DISABLE ROW LEVEL SECURITY",
        "DROP POLICY own_login ON portero.event",
        "CREATE TABLE portero.mine (a int)",
        "COPY portero.event TO STDOUT",
        "SET ROLE portero_gateway",
    ] {
        let denied = as_norte(sql).unwrap_err();
        assert!(denied.contains("permission denied") || denied.contains("must be owner"), "{sql}: {denied}");
    }
    // It learns whom it may write as, and whether its own tenant's rows differ; nothing of another tenant.
    assert_eq!(as_norte("SELECT * FROM portero.own_gateway").unwrap(), "default|gw-1");
    server.psql(&values("other", "gw-9", 9));
    let asked = |tenant: &str, id: u32| {
        let body = r#"{"outcome": "granted"}"#;
        server.psql("UPDATE portero.event SET body = '{\"outcome\": \"denied\"}' WHERE gateway_id = 'gw-9'");
        as_norte(&format!(
            "SELECT portero.record_conflicts(ARRAY['{tenant}'], ARRAY['01957f3e-0000-8000-8000-{id:012}'::uuid], \
             ARRAY['{body}'::jsonb])"
        ))
        .unwrap()
    };
    assert_eq!((asked("other", 9).as_str(), asked("default", 9).as_str()), ("0", "0"));
    // Nor does it speak for a colleague of its own tenant.
    server.psql(&values("default", "gw-9", 10));
    assert_eq!(asked("default", 10), "0");
    let colleague = r#"{"gateway_id": "gw-9", "outcome": "granted"}"#;
    let own = colleague.replace("gw-9", "gw-1");
    let ask = |body: &str| {
        as_norte(&format!(
            "SELECT portero.record_conflicts(ARRAY['default'], ARRAY['01957f3e-0000-8000-8000-{:012}'::uuid], \
             ARRAY['{body}'::jsonb])",
            10
        ))
        .unwrap()
    };
    assert_eq!((ask(colleague).as_str(), ask(&own).as_str()), ("0", "1"));
    // Its heartbeat, and nobody else's.
    let beat =
        |gateway: &str| format!(r#"SELECT portero.heartbeat('{{"tenant":"default","gateway_id":"{gateway}"}}')"#);
    as_norte(&beat("gw-1")).unwrap();
    assert!(as_norte(&beat("gw-2")).unwrap_err().contains("may not speak for"));
    // Both gateways behind one login, once an administrator says so.
    admit(&server, "gw-2", "norte", None).await;
    as_norte(&values("default", "gw-2", 2)).unwrap();
    as_norte(&beat("gw-2")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_do_more_becomes_no_gateways_login_and_a_password_is_set_and_changed() {
    let server = Postgres::start_with_passwords();
    admin(&server.url()).apply(&central::script_now(&clock())).await.unwrap();
    server.psql("CREATE ROLE boss SUPERUSER LOGIN; CREATE ROLE shared LOGIN IN ROLE portero_gateway");
    for login in ["boss", "shared", "postgres"] {
        let script =
            central::admit(&Admission { gateway_id: "gw-1", tenant: "default", login, password: None }).unwrap();
        let refused = admin(&server.url()).apply(&script).await.unwrap_err();
        assert!(refused.to_string().contains("--login"), "{refused}");
    }
    assert_eq!(server.psql("SELECT count(*) FROM portero.login"), "0");
    let world = World::new().await;
    let file = world.dir.path().join("password");
    let write = |password: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(&file, password).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let records = [record(1, world.event(None))];
    let url = server.url();
    for password in ["señal'$", "mañana-2"] {
        write(password);
        let path = file.to_str().unwrap().to_owned();
        let url = url.clone();
        // The command makes a runtime of its own.
        let added = std::thread::spawn(move || {
            let args = ["add-gateway", "gw-1", "--login", "norte", "--login-password-file", &path];
            portero_central(&[&args[..], &["--apply", "--url", &url, "--tls", "disable"]].concat()).unwrap()
        });
        assert_eq!(added.join().unwrap(), Exit::Done);
        let mut with_password = config(server.url_as("norte"));
        with_password.password = Some(portero::secret::SecretSource::File(file.clone()));
        assert_eq!(send(&mut sink(&with_password), &records).await, Outcome::Settled(vec![Verdict::Delivered]));
        assert!(!server.log().contains(password));
    }
    // Without a password nobody is let in, and that is our fault to mend.
    let outcome = send(&mut sink(&config(server.url_as("norte"))), &records).await;
    assert!(matches!(&outcome, Outcome::Blocked { reason } if reason.contains("password")), "{outcome:?}");
    let encrypted = postgres::Config { tls: TlsMode::Insecure, ..config(server.url_as("norte")) };
    let outcome = send(&mut sink(&encrypted), &records).await;
    assert!(matches!(&outcome, Outcome::Blocked { reason } if reason.contains("TLS")), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schema_of_the_release_before_is_brought_up_to_date_and_a_newer_one_is_left_alone() {
    let server = Postgres::start();
    // What the first release made, as far as this one builds on it.
    server.psql(
        "CREATE ROLE portero_gateway NOLOGIN; CREATE ROLE old LOGIN IN ROLE portero_gateway; CREATE SCHEMA portero; \
         CREATE TABLE portero.conflict (tenant text NOT NULL, event_id uuid NOT NULL, digest text NOT NULL, \
         stored jsonb NOT NULL, refused jsonb NOT NULL, recorded_at timestamptz NOT NULL DEFAULT now(), \
         PRIMARY KEY (tenant, event_id, digest)); \
         CREATE TABLE portero.gateway (tenant text NOT NULL, gateway_id text NOT NULL, site_id text, version text, \
         journal_id text, seq bigint, head text, status jsonb NOT NULL, seen_at timestamptz NOT NULL DEFAULT now(), \
         PRIMARY KEY (tenant, gateway_id)); \
         CREATE FUNCTION portero.heartbeat(beat jsonb) RETURNS void LANGUAGE sql AS ''",
    );
    let url = server.url();
    let init = || {
        std::thread::scope(|s| {
            s.spawn(|| portero_central(&["init", "--apply", "--url", &url, "--tls", "disable"])).join().unwrap()
        })
    };
    for _ in 0..2 {
        assert_eq!(init().unwrap(), Exit::Done);
    }
    // The old login still works, and is pointed out.
    let world = World::new().await;
    let records = [record(1, world.event(None))];
    let sent = send(&mut sink(&config(server.url_as("old"))), &records).await;
    assert_eq!(sent, Outcome::Settled(vec![Verdict::Delivered]));
    let state = central::state(&admin(&url)).await.unwrap();
    assert_eq!((&state["missing"], &state["schema_version"]), (&json!([]), &json!(2)));
    assert_eq!(state["shared_logins"], json!(["old"]));
    // Who may read by a grant reads on.
    server.psql(
        "CREATE ROLE payroll LOGIN; GRANT USAGE ON SCHEMA portero TO payroll; GRANT SELECT ON portero.event TO payroll",
    );
    assert_eq!(server.try_psql_as("payroll", "SELECT count(*) FROM portero.event").unwrap(), "1");
    server.psql("INSERT INTO portero.schema_version (version) VALUES (3)");
    assert!(init().unwrap_err().to_string().contains("newer"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maintenance_makes_coming_months_and_moves_rows_out_of_the_default_partition() {
    let (world, server) = (World::new().await, server().await);
    let url = server.url();
    let mut sink = sink(&config(server.url_as("gateway")));
    // A month long ago, this month without a partition, a clock in 1970 and one in the far future.
    let today = portero::clock::Zone::utc().local(clock().now().wall).unwrap();
    let this_month = format!("event_{:04}_{:02}", today.year(), today.month());
    server.psql(&format!("DROP TABLE portero.{this_month}"));
    let mut records: Vec<_> = (1..=1200).map(|seq| record(seq, world.event(None))).collect();
    records.push(record(1201, world.event_of_now()));
    for (seq, millis) in [(1202, 5_000u64), (1203, 9_000_000_000_000)] {
        let mut event = world.event(None);
        event.id.0[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
        records.push(record(seq, event));
    }
    send(&mut sink, &records).await;
    assert_eq!(server.psql("SELECT count(*) FROM portero.event_default"), "1203");
    let missing = central::state(&admin(&url)).await.unwrap()["missing"].clone();
    assert!(missing[0].as_str().unwrap().contains("maintain"), "{missing}");
    // While events come in.
    let relay = world.relay(self::sink(&config(server.url_as("gateway")))).await;
    let administrator = admin(&url);
    let ((), made) = tokio::join!(
        async {
            for _ in 0..20 {
                world.punches(50).await;
            }
        },
        central::maintain(&administrator)
    );
    let made: Vec<_> = made.unwrap().months.into_iter().map(|m| (m.first.to_string(), m.moved)).collect();
    assert_eq!((made.len(), &made[0].0[..]), (2, "2025-03-01"));
    assert!(made[0].1 >= 1200 && made[1].1 == 1, "{made:?}");
    assert_eq!(world.drained("far").await.delivered, 1000);
    assert_eq!(relay.error(), "");
    assert_eq!(server.psql("SELECT count(*) FROM portero.event_default"), "2");
    assert_eq!(server.psql("SELECT count(*) FROM portero.event"), "2203");
    assert_eq!(server.psql(&format!("SELECT count(*) FROM portero.{this_month}")), "1");
    // A replay of what moved doubles nothing; the login has no right on the new partition itself.
    send(&mut sink, &records).await;
    assert_eq!(server.psql("SELECT count(*) FROM portero.event"), "2203");
    assert!(server.try_psql_as("gateway", &format!("SELECT * FROM portero.{this_month}")).is_err());
    let state = central::state(&admin(&url)).await.unwrap();
    assert_eq!((&state["missing"], &state["default_rows"]), (&json!([]), &json!(2)));
    // Nothing is left to do, and on the command line neither.
    assert_eq!(central::maintain(&admin(&url)).await.unwrap(), central::Maintained::default());
    // Of the points of a chain those of the last days stay, and the last one of each day before.
    server.psql(
        "INSERT INTO portero.anchor SELECT 't', g, 'j', n, 'h', now() - n * interval '6 hours' \
         FROM generate_series(1, 80) n, (VALUES ('a'), ('b')) v (g)",
    );
    let points = "SELECT count(*) || ' ' || count(*) FILTER (WHERE seen_at > now() - interval '7 days') || ' ' \
         || count(DISTINCT gateway_id || date_trunc('day', seen_at)) FROM portero.anchor";
    let (before, days) =
        server.psql(points).split_once(' ').map(|(all, rest)| (all.to_owned(), rest.to_owned())).unwrap();
    let thinned = central::maintain(&admin(&url)).await.unwrap();
    let after = server.psql(points);
    assert_eq!(before, "160");
    assert!(after.ends_with(&days) && thinned.anchors > 70, "{after} {thinned:?}");
    let left: u64 = after.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(left + thinned.anchors, 160);
    assert_eq!(central::maintain(&admin(&url)).await.unwrap(), central::Maintained::default());
    let done = std::thread::spawn(move || portero_central(&["maintain", "--url", &url, "--tls", "disable"]).unwrap());
    assert_eq!(done.join().unwrap(), Exit::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_servers_the_one_that_takes_writes_gets_everything_through_a_failover() {
    let world = World::new().await;
    let mut primary = server().await;
    let standby = primary.standby();
    // The standby stands first, so that it is passed by from the start.
    let url = format!("postgresql://gateway@127.0.0.1:{},127.0.0.1:{}/attendance", standby.port, primary.port);
    let relay = world.relay(sink(&config(url))).await;
    let mut ids = world.punches(2500).await;
    world.drained("far").await;
    assert_eq!(primary.psql("SELECT count(*) FROM portero.event"), "2500");
    let before = relay.sends();
    ids.extend(world.punches(9000).await);
    eventually_async("batches are on their way", DEADLINE, || async { relay.sends() > before + 1 }).await;
    primary.stop_immediate();
    ids.extend(world.punches(100).await);
    eventually_async("the standby is passed by", DEADLINE, || async { relay.state() == "retrying" }).await;
    assert_eq!(world.stats("far").await.quarantined, 0);
    standby.promote();
    assert_eq!(world.drained("far").await.delivered, ids.len() as u64);
    assert_eq!(standby.psql("SELECT count(*), count(DISTINCT event_id) FROM portero.event"), "11600|11600");
    // A single server that takes no writes is waited for: nothing is set aside, nothing blocked.
    standby.psql("ALTER SYSTEM SET default_transaction_read_only = on");
    standby.psql("SELECT pg_reload_conf()");
    eventually("read-only", DEADLINE, || standby.psql("SHOW default_transaction_read_only") == "on");
    let outcome = send(&mut sink(&config(standby.url_as("gateway"))), &[record(1, world.event(None))]).await;
    assert!(matches!(&outcome, Outcome::Retry { reason, .. } if reason.contains("takes no writes")), "{outcome:?}");
}

fn beat(seq: u64, head: &str) -> Value {
    json!({
        "tenant": "default", "gateway_id": "gw-1", "site_id": "obra-norte", "version": "0.1.0", "journal_id": "00ff",
        "seq": seq, "head": head, "sink": "far", "sinks": [{"name": "far", "pending": 7}],
        "terminals": [{"terminal_id": "yard", "device_key": "k", "state": "up", "last_heard": "2026-11-24T00:00:00Z"}]
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_of_life_arrives_under_the_gateways_own_login_and_a_journal_that_went_back_is_flagged() {
    let server = server().await;
    admit(&server, "gw-1", "norte", None).await;
    let heart = heartbeat::Heart::new(&config(server.url_as("norte")), clock()).unwrap();
    let problem = || server.psql("SELECT coalesce(anchor_problem, 'none') FROM portero.gateway");
    for (seq, head) in [(7, "aa"), (7, "aa"), (9, "bb")] {
        heart.beat(&beat(seq, head)).await.unwrap();
    }
    assert_eq!(problem(), "none");
    assert_eq!(server.psql("SELECT seq, head FROM portero.anchor ORDER BY seq"), "7|aa\n9|bb");
    let state = central::state(&admin(&server.url())).await.unwrap();
    let gateway = &state["gateways"][0];
    assert_eq!(
        (&gateway["gateway_id"], &gateway["logins"], &gateway["pending"]),
        (&json!("gw-1"), &json!(["norte"]), &json!(7))
    );
    // A restored or rewritten journal: the flag stays when it grows again.
    heart.beat(&beat(8, "cc")).await.unwrap();
    assert!(problem().contains("went back from row 9 to row 8"), "{}", problem());
    heart.beat(&beat(10, "dd")).await.unwrap();
    assert!(problem().contains("went back"), "{}", problem());
    server.psql("UPDATE portero.gateway SET anchor_problem = NULL, anchor_problem_at = NULL");
    heart.beat(&beat(10, "ee")).await.unwrap();
    assert!(problem().contains("not the row"), "{}", problem());
    // Under another's name it is refused, in words that say what to do.
    let mut stolen = beat(1, "aa");
    stolen["gateway_id"] = json!("gw-2");
    let refused = heart.beat(&stolen).await.unwrap_err();
    assert!(matches!(&refused, Outcome::Blocked { reason } if reason.contains("add-gateway")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signs_of_life_go_on_after_the_centre_was_away_and_end_with_the_gateway() {
    let mut server = server().await;
    let heart = heartbeat::Heart::new(&config(server.url_as("gateway")), clock()).unwrap();
    let world = World::new().await;
    let journal = world.journal.clone();
    let stop = CancellationToken::new();
    let compose = move || {
        let journal = journal.clone();
        async move {
            let tip = journal.tip().await.ok()??;
            Some(json!({
                "tenant": "default", "gateway_id": "gw-1", "journal_id": tip.journal_id, "seq": tip.seq.0,
                "head": tip.head_hex()
            }))
        }
    };
    let beating = tokio::spawn(heartbeat::run(heart, Duration::from_millis(20), stop.clone(), compose));
    let seen = |server: &Postgres| server.psql("SELECT coalesce(max(seq), 0) FROM portero.anchor");
    world.punches(3).await;
    eventually("the third row is anchored", DEADLINE, || seen(&server) == "3");
    server.stop_immediate();
    world.punches(2).await;
    server.start_again();
    eventually("the fifth row is anchored", DEADLINE, || seen(&server) == "5");
    stop.cancel();
    tokio::time::timeout(DEADLINE, beating).await.expect("it ends").unwrap();
    // What the centre keeps proves the journal.
    let anchor = server.psql("SELECT journal_id, seq, head FROM portero.anchor ORDER BY seq DESC LIMIT 1");
    let tip = world.journal.tip().await.unwrap().unwrap();
    assert_eq!(anchor, format!("{}|{}|{}", tip.journal_id, tip.seq.0, tip.head_hex()));
    let verified = world.journal.verify(Some(tip)).await.unwrap();
    assert!(verified.ok && verified.anchored == Some(portero::journal::Seq(5)), "{verified:?}");
}
