//! People from a query of a real PostgreSQL.

use crate::desk::Desk;
use crate::support::{DEADLINE, Postgres, eventually_async};

fn source(server: &Postgres, query: &str, more: &str) -> String {
    format!(
        "url = \"{}\"\ntls = \"disable\"\nquery = \"{query}\"\nperson = \"pin\"\ncard = \"card\"\nexternal_id = \"id\"\n{more}",
        server.url()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_read_from_a_query_and_what_goes_wrong_leaves_the_old_ones() {
    let server = Postgres::start();
    server.psql(
        "CREATE TABLE people(pin bigint, card text, id uuid, name text);
         INSERT INTO people SELECT n, CASE WHEN n % 2 = 0 THEN 'c' || n END,
                ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, 'Somebody' FROM generate_series(1, 1000) n;
         CREATE FUNCTION leave_a_mark() RETURNS text LANGUAGE sql AS
                $$ INSERT INTO people VALUES (0, NULL, NULL, NULL) RETURNING 'E-0' $$",
    );
    let desk = Desk::open(&source(&server, "SELECT pin, card, id FROM people -- all of them", "")).await;
    desk.knows(1500).await;
    let kept = desk.kept().await;
    assert!(kept.contains(&("p:7".to_owned(), "00000000-0000-0000-0000-000000000007".to_owned())), "{kept:?}");
    assert!(kept.contains(&("c:c8".to_owned(), "00000000-0000-0000-0000-000000000008".to_owned())), "{kept:?}");
    // Only who differs is written: one is another one now, one is gone, one is new.
    server.psql(
        "UPDATE people SET id = '00000000-0000-0000-0000-00000000ffff' WHERE pin = 7; DELETE FROM people WHERE pin = 8;
         INSERT INTO people VALUES (5000, 'c5000', '00000000-0000-0000-0000-000000005000')",
    );
    eventually_async("the change is on disk", DEADLINE, || async {
        let kept = desk.kept().await;
        let id = |key: &str| kept.iter().find(|(known, _)| known == key).map(|(_, id)| id[32..].to_owned());
        (id("p:7"), id("p:8"), id("c:c8"), id("c:c5000"), kept.len())
            == (Some("ffff".to_owned()), None, None, Some("5000".to_owned()), 1500)
    })
    .await;
    let kept = desk.kept().await;
    server.psql("DELETE FROM people WHERE pin > 100");
    desk.complains("people where 1500 are known").await;
    assert_eq!(desk.kept().await, kept);
    server.psql("ALTER TABLE people RENAME TO hidden");
    desk.complains("no such table").await;
    assert_eq!(desk.kept().await, kept);
    server.psql("ALTER TABLE hidden RENAME TO people");
    server.psql(
        "INSERT INTO people SELECT n, NULL, ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid
                 FROM generate_series(101, 1600) n",
    );
    desk.knows(1648).await;
    desk.close().await;

    for (query, more, words) in [
        ("SELECT pin, card, leave_a_mark() AS id FROM people", "", "it writes"),
        (
            "SELECT pin, card, pg_sleep(3600)::text AS id FROM people",
            "timeout_seconds = 1\n",
            "longer than timeout_seconds",
        ),
        ("SELECT pin, card, name FROM people", "", "no column 'id'"),
        ("SELECT pin, card, id FROM nobody", "", "no such table"),
        ("INSERT INTO people(pin) VALUES (1) RETURNING pin, card, id", "", "42601"),
        ("SELECT 1 AS pin, 1 AS card, id FROM people LIMIT 2", "", "two people"),
        ("SELECT pin, card, ('x' || name)::int AS id FROM people", "", "see the server's log"),
    ] {
        let desk = Desk::open(&source(&server, query, more)).await;
        let said = desk.complains(words).await;
        assert!(!said.contains("Somebody"), "{said}");
        assert_eq!(desk.kept().await, Vec::new(), "{query}");
        desk.close().await;
    }
    assert_eq!(server.psql("SELECT count(*) FROM people WHERE pin = 0").trim(), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_may_not_read_and_a_server_that_is_away_are_said() {
    let mut server = Postgres::start();
    server.psql("CREATE TABLE people(pin text, card text, id text); CREATE ROLE reader LOGIN");
    let url = server.url_as("reader");
    let text = format!(
        "url = \"{url}\"\ntls = \"disable\"\nquery = \"SELECT * FROM people\"\nperson = \"pin\"\nexternal_id = \"id\"\n"
    );
    let desk = Desk::open(&text).await;
    desk.complains("grant it SELECT").await;
    server.psql("GRANT SELECT ON people TO reader; INSERT INTO people VALUES ('7', NULL, 'E-7')");
    desk.knows(1).await;
    server.stop_immediate();
    desk.complains("cannot be reached").await;
    assert_eq!(desk.kept().await, [("p:7".to_owned(), "E-7".to_owned())]);
    server.start_again();
    desk.knows(1).await;
    desk.close().await;
}
