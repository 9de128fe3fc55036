//! People from an HTTP endpoint: every kind of paging, what has not changed, and what must leave the old directory alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::desk::Desk;
use crate::support::{Behaviour, DEADLINE, Reply, Request, VendorApi, Web, eventually, eventually_async, tempdir};
use crate::{Site, events, text};

const FIELDS: &str = "person = \"/pin\"\nexternal_id = \"/id\"\nrecords = \"/data\"\n";

fn record(n: usize) -> Value {
    json!({ "pin": n, "id": format!("E-{n}"), "name": format!("Somebody {n}") })
}

/// A parameter of the query.
fn parameter(request: &Request, name: &str) -> Option<String> {
    let (_, query) = request.path.split_once('?')?;
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next()
}

/// Records `from..` of `all`, at most `size`.
fn slice(all: usize, from: usize, size: usize) -> Vec<Value> {
    (from..all.min(from + size)).map(record).collect()
}

fn server(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> VendorApi {
    VendorApi::start(Behaviour::Custom(Arc::new(answer)))
}

fn url(server: &VendorApi, path: &str) -> String {
    format!("url = \"http://127.0.0.1:{}{path}\"\n", server.port)
}

fn page(records: &[Value], more: Value) -> Reply {
    let mut document = json!({ "data": records });
    if let (Some(document), Value::Object(more)) = (document.as_object_mut(), more) {
        document.extend(more);
    }
    Reply::new(200, document.to_string(), 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_is_read_by_every_kind_of_paging() {
    /// 23 people on pages of 5.
    fn answer(r: &Request) -> Reply {
        let number = |name: &str| parameter(r, name).and_then(|n| n.parse::<usize>().ok());
        assert_eq!((parameter(r, "size").as_deref(), r.method.as_str()), (Some("5"), "GET"));
        match r.path.split('?').next().unwrap() {
            "/next" => {
                let from = number("from").unwrap_or(0);
                let next = (from + 5 < 23).then(|| format!("/next?size=5&from={}", from + 5));
                page(&slice(23, from, 5), json!({ "links": { "next": next } }))
            }
            "/link" => {
                let from = number("from").unwrap_or(0);
                let reply = page(&slice(23, from, 5), json!({}));
                let links = format!("</link?size=5>; rel=\"first\", <?size=5&from={}>; rel=\"next\"", from + 5);
                if from + 5 < 23 { reply.header("link", links) } else { reply.header("link", "</link>; rel=prev") }
            }
            "/page" => page(&slice(23, (number("page").unwrap() - 1) * 5, 5), json!({})),
            // A server that does not like to be asked beyond the end.
            "/total" if number("page").unwrap() > 4 => Reply::refuse(404),
            "/total" => page(&slice(23, number("page").unwrap() * 5, 5), json!({ "count": 23 })),
            "/offset" => page(&slice(23, number("startIndex").unwrap() - 1, 5), json!({ "totalResults": 23 })),
            "/cursor" => {
                let from = number("after").unwrap_or(0);
                let next = if from + 5 < 23 { json!(from + 5) } else { json!("") };
                page(&slice(23, from, 5), json!({ "meta": { "next": next } }))
            }
            other => panic!("{other}"),
        }
    }
    for (path, paging) in [
        ("/next", "{ type = \"next\", pointer = \"/links/next\" }"),
        ("/link", "{ type = \"link\" }"),
        ("/page", "{ type = \"page\", name = \"page\" }"),
        ("/total", "{ type = \"page\", name = \"page\", first = 0, total = \"/count\" }"),
        ("/offset", "{ type = \"offset\", name = \"startIndex\", first = 1, total = \"/totalResults\" }"),
        ("/cursor", "{ type = \"cursor\", pointer = \"/meta/next\", name = \"after\" }"),
    ] {
        let server = server(answer);
        let desk = Desk::open(&format!("{}{FIELDS}paging = {paging}\n", url(&server, &format!("{path}?size=5")))).await;
        desk.knows(23).await;
        let mut expected: Vec<_> = (0..23).map(|n| (format!("p:{n}"), format!("E-{n}"))).collect();
        expected.sort();
        assert_eq!(desk.kept().await, expected, "{path}");
        desk.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_that_have_not_changed_are_not_read_again() {
    // People, and a count that makes a page's ETag.
    let people = Arc::new(Mutex::new((10, 1)));
    let state = Arc::clone(&people);
    let server = server(move |r| {
        let (count, version) = *state.lock().unwrap();
        let at: usize = parameter(r, "page").unwrap().parse().unwrap();
        // The first page is always the same.
        let tag = format!("\"{at}-{}\"", if at == 1 { 1 } else { version });
        if r.headers.get("if-none-match").is_some_and(|known| known.to_str().ok() == Some(&tag)) {
            return Reply::new(304, "", 0);
        }
        page(&slice(count, (at - 1) * 5, 5), json!({})).header("etag", tag)
    });
    let desk =
        Desk::open(&format!("{}{FIELDS}paging = {{ type = \"page\", name = \"page\" }}\n", url(&server, "/p"))).await;
    desk.knows(10).await;
    let whole = |server: &VendorApi| server.requests().iter().filter(|r| r.status == 200).count();
    eventually_async("it was looked at again", DEADLINE, || async { server.request_count() >= 9 }).await;
    assert_eq!(whole(&server), 3, "two pages, and the empty one after them");
    *people.lock().unwrap() = (12, 2);
    desk.knows(12).await;
    // The second page, found changed, and then all three.
    eventually_async("it was looked at again", DEADLINE, || async {
        server.requests().iter().rev().take_while(|r| r.status == 304).count() >= 4
    })
    .await;
    assert_eq!(whole(&server), 3 + 1 + 4);
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_leaves_the_old_directory_and_is_said() {
    type Answer = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;
    let good: Answer = Arc::new(|r| match parameter(r, "page") {
        None => page(&slice(10, 0, 5), json!({ "next": "/p?page=2" })),
        Some(_) => page(&slice(10, 5, 5), json!({ "next": null })),
    });
    let second = |reply: Reply| -> Answer {
        Arc::new(move |r| match parameter(r, "page") {
            None => page(&slice(10, 0, 5), json!({ "next": "/p?page=2" })),
            Some(_) => reply.clone(),
        })
    };
    let first = |reply: Reply| -> Answer { Arc::new(move |_| reply.clone()) };
    let to = |next: &str| first(page(&slice(10, 0, 5), json!({ "next": next })));
    let two = json!([{ "pin": 1, "id": "E-1" }, { "pin": 1, "id": "E-2" }]);
    let server = VendorApi::start(Behaviour::Custom(Arc::clone(&good)));
    let paging = "paging = { type = \"next\", pointer = \"/next\" }\n";
    let desk = Desk::open(&format!("{}{FIELDS}{paging}", url(&server, "/p"))).await;
    desk.knows(10).await;
    let kept = desk.kept().await;
    for (bad, words) in [
        (second(Reply::refuse(500)), "answered 500"),
        (second(Reply::new(0, "", 0)), "connection"),
        (second(Reply::new(200, "<html>log in</html>", 0)), "not valid JSON at line 1, column 1"),
        (second(Reply::new(200, "{\"data\":[{\"pin\":1,", 0)), "not valid JSON"),
        (second(Reply::new(200, "{}", 0)), "no array at records"),
        (second(Reply::new(204, "", 0)), "answered 204"),
        (second(Reply::new(200, " ".repeat(33 << 20), 0)), "a page of more than"),
        (first(Reply::new(302, "", 0).header("location", "/elsewhere")), "redirect"),
        (first(Reply::refuse(401)), "renew the one"),
        (first(page(&slice(7, 0, 7), json!({}))), "7 people where 10 are known"),
        (first(page(&[], json!({}))), "0 people where 10 are known"),
        (to("http://localhost:1/p"), "another host"),
        (to("//localhost/p"), "another host"),
        (to("/p"), "round in a circle"),
        (first(page(two.as_array().unwrap(), json!({}))), "two people"),
    ] {
        server.behave(Behaviour::Custom(bad));
        let said = desk.complains(words).await;
        assert!(!said.contains("Somebody") && !said.contains("E-"), "{said}");
        assert_eq!(desk.kept().await, kept, "{words}");
        server.behave(Behaviour::Custom(Arc::clone(&good)));
        desk.knows(10).await;
    }
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_of_the_kind_that_sinks_have_and_csv_are_taken_too() {
    let dir = tempdir();
    std::fs::write(dir.path().join("key"), "sesame").unwrap();
    std::fs::set_permissions(dir.path().join("key"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    // Tokens are good for two requests.
    let uses = Arc::new(Mutex::new((0, 0)));
    let server = server(move |r| {
        let mut uses = uses.lock().unwrap();
        if r.path == "/login" {
            let said: Value = serde_json::from_slice(&r.body).unwrap();
            assert_eq!(said, json!({ "user": "gw", "password": "sesame" }));
            *uses = (uses.0 + 1, 0);
            return Reply::new(200, json!({ "token": format!("t-{}", uses.0) }).to_string(), 0);
        }
        uses.1 += 1;
        if r.authorization != Some(format!("Bearer t-{}", uses.0)) || uses.1 > 2 {
            return Reply::refuse(401);
        }
        let at: usize = parameter(r, "page").unwrap().parse().unwrap();
        let rows: Vec<String> =
            (at * 10..at * 10 + if at < 5 { 10 } else { 0 }).map(|n| format!("{n};E-{n}")).collect();
        Reply::new(200, format!("pin;id\n{}\n", rows.join("\n")), 0)
    });
    let auth = format!(
        "auth = {{ type = \"login\", url = \"/login\", token = \"/token\", \
         fields = {{ \"/user\" = \"gw\", \"/password\" = {{ file = \"{}/key\" }} }} }}\n",
        dir.path().display()
    );
    let more = "format = \"csv\"\nperson = \"pin\"\nexternal_id = \"id\"\n\
                paging = { type = \"page\", name = \"page\", first = 0 }\nrefresh_seconds = 3600\n";
    let desk = Desk::open(&format!("{}{auth}{more}", url(&server, "/people"))).await;
    desk.knows(50).await;
    desk.close().await;
}

/// Every answer of apache2 names the next nonce here, a file has its ETag, and the file is unchanged most of the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_behind_a_real_server_with_digest_is_read_once_for_each_change() {
    let web = Web::apache("gw", "sesame", 20, 1);
    let write = |count: usize| {
        let rows: Vec<String> = (0..count).map(|n| format!("{n},E-{n}\n")).collect();
        let aside = web.dir.path().join("aside");
        std::fs::write(&aside, format!("pin,id\n{}", rows.concat())).unwrap();
        std::fs::set_permissions(&aside, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        std::fs::rename(aside, web.dir.path().join("htdocs/people.csv")).unwrap();
    };
    let key = web.dir.path().join("key");
    std::fs::write(&key, "sesame").unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    write(10);
    let text = format!(
        "url = \"http://127.0.0.1:{}/people.csv\"\nformat = \"csv\"\nperson = \"pin\"\nexternal_id = \"id\"\n\
         auth = {{ type = \"digest\", user = \"gw\", password = {{ file = \"{}\" }} }}\n",
        web.port,
        key.display()
    );
    let desk = Desk::open(&text).await;
    let asked = |status: &str| {
        let log = std::fs::read_to_string(web.dir.path().join("access.log")).unwrap_or_default();
        log.lines().filter(|line| line.starts_with(status)).count()
    };
    for (round, count) in [10, 12].into_iter().enumerate() {
        write(count);
        desk.knows(count).await;
        let before = asked("304");
        eventually("it is looked at again and again", DEADLINE, || asked("304") >= before + 2);
        // The first of all is written twice, and may have been read twice.
        assert!((round + 1..=round + 2).contains(&asked("200")), "{} times read", asked("200"));
    }
    assert_eq!(asked("401"), 1, "one challenge was enough");
    desk.close().await;
}

#[test]
fn a_hundred_punches_of_unknown_people_heal_from_an_http_directory_across_a_restart() {
    let vendor = VendorApi::start(Behaviour::Ok);
    let people: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
    let known = Arc::clone(&people);
    let office = server(move |r| {
        if r.authorization.as_deref() != Some("Bearer sesame") {
            return Reply::refuse(401);
        }
        let from: usize = parameter(r, "from").map_or(0, |from| from.parse().unwrap());
        let known = known.lock().unwrap();
        let records: Vec<Value> = known
            .iter()
            .skip(from)
            .take(7)
            .map(|(pin, id)| json!({ "pin": pin, "id": id, "name": "Somebody" }))
            .collect();
        let next = (from + 7 < known.len()).then(|| format!("/people?from={}", from + 7));
        page(&records, json!({ "next": next }))
    });
    let dir = tempdir();
    std::fs::write(dir.path().join("key"), "sesame").unwrap();
    std::fs::set_permissions(dir.path().join("key"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let source = format!(
        "{}{FIELDS}paging = {{ type = \"next\", pointer = \"/next\" }}\n\
         auth = {{ type = \"bearer\", token = {{ file = \"{}/key\" }} }}\n",
        url(&office, "/people"),
        dir.path().display()
    );
    let mut site = Site::with_source(&vendor.url(), &source, dir);
    site.gateway.restart_ready();
    let played = site.play(100, 7);
    eventually("all wait for the directory", DEADLINE, || site.sink()["quarantined"] == 100);
    assert!(vendor.oracle().stored.is_empty(), "nothing of an unknown person left");
    let times: BTreeMap<String, String> =
        events(&site).map(|e| (text(&e, "event_id"), text(&e, "event_time"))).collect();
    site.gateway.sigkill();
    site.gateway.restart_ready();
    assert_eq!(site.sink()["quarantined"], 100);

    {
        let mut people = people.lock().unwrap();
        for line in &played {
            let next = format!("E-{:03}", people.len());
            people.entry(text(line, "person")).or_insert(next);
        }
    }
    eventually("all are delivered", DEADLINE, || site.sink()["delivered"] == 100);
    assert_eq!(vendor.oracle().doubled(), Vec::<&str>::new());
    let people = people.lock().unwrap().clone();
    let sent: Vec<Value> = vendor.requests().iter().flat_map(Request::events).collect();
    assert_eq!(sent.len(), 100, "each left once");
    for event in sent {
        assert_eq!(event["person"]["external_id"], people[&text(&event["person"], "terminal_person_id")].as_str());
        assert_eq!(Some(&text(&event, "event_time")), times.get(&text(&event, "event_id")));
    }
    let status = site.gateway.cli_json(&["status", "--json"]);
    assert_eq!((&status["directory"]["known"], &status["directory"]["state"]), (&people.len().into(), &"well".into()));
    let log = site.gateway.log();
    assert!(!log.contains("Somebody") && !log.contains("E-0") && !log.contains("sesame"), "{log}");
}
