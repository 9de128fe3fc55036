//! Every way to show who we are, against the other side of it: expiry, rotation, refusal, and where no secret may appear.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use portero::deliver::{Outcome, api};

use crate::answers::configured;
use crate::support::{Behaviour, Reply, Request, VendorApi};
use crate::world::{World, record, send};

/// A stand-in and a sink that talks to it.
struct Pair {
    world: World,
    vendor: VendorApi,
    sink: api::Api,
}

impl Pair {
    async fn new(text: &str, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let world = World::new().await;
        secret(world.dir.path(), "key", "sesame");
        secret(world.dir.path(), "webhook", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3");
        let vendor = VendorApi::start(Behaviour::Custom(Arc::new(answer)));
        let config = configured(text, &vendor.url(), world.dir.path());
        let sink = api::Api::new("far", config, world.clock.clone()).unwrap();
        Self { world, vendor, sink }
    }

    async fn send(&mut self) -> Outcome {
        send(&mut self.sink, &[record(1, self.world.event(None))]).await
    }

    async fn delivered(&mut self) {
        let outcome = self.send().await;
        assert!(matches!(outcome, Outcome::Settled(_)), "{outcome:?}");
    }

    /// What was asked of a path, without its query.
    fn asked(&self, path: &str) -> Vec<Request> {
        let of = |r: &Request| r.path.split('?').next() == Some(path);
        self.vendor.requests().into_iter().filter(of).collect()
    }

    fn events(&self) -> Vec<Request> {
        self.asked("/api/v1/events")
    }
}

fn secret(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
    std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn ok() -> Reply {
    Reply::ok()
}

fn header<'r>(request: &'r Request, name: &str) -> &'r str {
    request.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_are_sent_with_their_prefix_as_written_and_read_again_after_a_401() {
    let text = "auth = { type = \"headers\", headers = { \"x-provider-name\" = \"portero\", \
                Authorization = { file = \"{dir}/key\", prefix = \"token \" } } }\n";
    let known = Arc::new(Mutex::new("token sesame".to_owned()));
    let wanted = Arc::clone(&known);
    let answer = move |r: &Request| match r.authorization == Some(wanted.lock().unwrap().clone()) {
        true => ok(),
        false => Reply::new(401, "", 0),
    };
    let mut pair = Pair::new(text, answer).await;
    pair.delivered().await;
    assert_eq!(header(&pair.events()[0], "x-provider-name"), "portero");
    *known.lock().unwrap() = "token second".to_owned();
    secret(pair.world.dir.path(), "key", "second");
    pair.delivered().await;
    assert_eq!(pair.events().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_in_the_query_in_the_body_and_as_the_user_of_basic() {
    let mut query =
        Pair::new("auth = { type = \"query\", name = \"access_token\", value = { file = \"{dir}/key\" } }\n", |_| ok())
            .await;
    query.delivered().await;
    assert_eq!(query.events()[0].path, "/api/v1/events?access_token=sesame");
    query.vendor.stop();
    let outcome = query.send().await;
    assert!(!format!("{outcome:?}").contains("sesame"), "{outcome:?}");

    let mut body = Pair::new(
        "auth = { type = \"body\", pointer = \"/authorize/token\", value = { file = \"{dir}/key\" } }\n",
        |_| ok(),
    )
    .await;
    body.delivered().await;
    assert_eq!(body.events()[0].events()[0]["authorize"]["token"], "sesame");
    assert!(body.events()[0].events()[0]["event_id"].is_string());

    let mut basic =
        Pair::new("auth = { type = \"basic\", user = { file = \"{dir}/key\" }, fixed_password = \"x\" }\n", |_| ok())
            .await;
    basic.delivered().await;
    assert_eq!(basic.events()[0].authorization.as_deref(), Some("Basic c2VzYW1lOng="));
}

fn login(more: &str) -> String {
    format!(
        "auth = {{ type = \"login\", url = \"/login\", \
         fields = {{ \"/User/login_id\" = \"gw\", \"/User/password\" = {{ file = \"{{dir}}/key\" }} }}, {more} }}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_is_made_once_and_its_token_used_wherever_it_belongs() {
    let places = [
        ("token = \"/access\"", "place = \"header:X-Session\""),
        ("token = \"header:bs-session-id\"", "place = \"cookie:sid\""),
        ("token = \"cookie:session\"", "place = \"query:sid\""),
        ("token = \"/access\"", "place = \"body:/auth/token\""),
        ("token = \"/access\"", "prefix = \"JWT \""),
    ];
    for (token, place) in places {
        let answer = |r: &Request| match r.path.as_str() {
            "/login" => Reply::new(200, r#"{"access":"t-1"}"#, 0)
                .header("bs-session-id", "t-1")
                .header("set-cookie", "session=t-1; Path=/; HttpOnly"),
            _ => ok(),
        };
        let mut pair = Pair::new(&login(&format!("{token}, {place}")), answer).await;
        pair.delivered().await;
        pair.delivered().await;
        let asked = pair.asked("/login");
        assert_eq!(asked.len(), 1, "{token} {place}");
        let said: serde_json::Value = serde_json::from_slice(&asked[0].body).unwrap();
        assert_eq!(said, serde_json::json!({ "User": { "login_id": "gw", "password": "sesame" } }));
        let event = &pair.events()[1];
        let found = match place.split(['"', ':']).nth(1).unwrap() {
            "header" => header(event, "x-session").to_owned(),
            "cookie" => header(event, "cookie").trim_start_matches("sid=").to_owned(),
            "query" => event.path.split("sid=").nth(1).unwrap_or_default().to_owned(),
            "body" => event.events()[0]["auth"]["token"].as_str().unwrap_or_default().to_owned(),
            _ => event.authorization.clone().unwrap_or_default().trim_start_matches("JWT ").to_owned(),
        };
        assert_eq!(found, "t-1", "{token} {place}");
    }
}

/// Tokens `t-1`, `t-2`, …, of which only the last is good.
fn tokens(life: &'static str) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    let given = AtomicU32::new(0);
    move |r: &Request| match r.path.as_str() {
        "/login" => {
            let n = given.fetch_add(1, Ordering::SeqCst) + 1;
            Reply::new(200, format!("{{\"access\":\"t-{n}\"{life}}}"), 0)
        }
        _ if r.authorization == Some(format!("Bearer t-{}", given.load(Ordering::SeqCst))) => ok(),
        _ => Reply::new(401, "", 0),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_renewed_before_it_expires_however_its_life_is_told() {
    for (told, more) in [
        (",\"expires_in\":0", "lifetime = \"/expires_in\""),
        (",\"expires_in\":\"0\"", "lifetime = \"/expires_in\""),
        (",\"until\":\"2020-01-01T00:00:00Z\"", "lifetime = { until = \"/until\" }"),
        (",\"until\":1577836800", "lifetime = { until = \"/until\" }"),
        (",\"until\":1577836800000", "lifetime = { until = \"/until\" }"),
    ] {
        let mut pair = Pair::new(&login(&format!("token = \"/access\", {more}")), tokens(told)).await;
        pair.delivered().await;
        pair.delivered().await;
        assert_eq!((pair.asked("/login").len(), pair.events().len()), (2, 2), "{told}");
    }
    for (told, more) in [
        (",\"expires_in\":3600", "lifetime = \"/expires_in\""),
        ("", "lifetime = \"/expires_in\""),
        (",\"until\":\"2099-01-01T00:00:00Z\"", "lifetime = { until = \"/until\" }"),
        ("", "lifetime = 3600"),
    ] {
        let mut pair = Pair::new(&login(&format!("token = \"/access\", {more}")), tokens(told)).await;
        pair.delivered().await;
        pair.delivered().await;
        assert_eq!(pair.asked("/login").len(), 1, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_refused_is_replaced_once_and_logins_are_capped() {
    // The vendor forgets every token after one use.
    let fresh = Arc::new(AtomicU32::new(0));
    let (given, used) = (Arc::clone(&fresh), AtomicU32::new(0));
    let answer = move |r: &Request| match r.path.as_str() {
        "/login" => Reply::new(200, format!("{{\"access\":\"t-{}\"}}", given.fetch_add(1, Ordering::SeqCst) + 1), 0),
        _ if used.swap(given.load(Ordering::SeqCst), Ordering::SeqCst) != given.load(Ordering::SeqCst) => ok(),
        _ => Reply::new(401, "", 0),
    };
    let mut pair = Pair::new(&login("token = \"/access\""), answer).await;
    for n in 1..=5 {
        pair.delivered().await;
        assert_eq!(pair.asked("/login").len(), n);
    }
    let outcome = pair.send().await;
    assert!(matches!(&outcome, Outcome::Retry { after: Some(_), reason } if reason.contains("logins")), "{outcome:?}");
    assert_eq!(pair.asked("/login").len(), 5);

    // A vendor that takes no token at all: one more login, then it is our fault.
    let mut never = Pair::new(&login("token = \"/access\""), |r| match r.path.as_str() {
        "/login" => Reply::new(200, r#"{"access":"t"}"#, 0),
        _ => Reply::new(401, "", 0),
    })
    .await;
    assert!(matches!(never.send().await, Outcome::Blocked { .. }));
    assert_eq!((never.asked("/login").len(), never.events().len()), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_without_a_token_is_said_so_and_nothing_is_sent() {
    for (status, body, blocked) in [
        (200, "{}", true),
        (200, r#"{"access":""}"#, true),
        (200, r#"{"access":null}"#, true),
        (200, "<html>log in</html>", true),
        (200, "", true),
        (401, r#"{"error":"sesame is wrong"}"#, true),
        (400, "", true),
        (404, "", true),
        (302, "", true),
        (503, "", false),
        (429, "", false),
    ] {
        let reply = Reply::new(status, body, 0);
        let mut pair = Pair::new(&login("token = \"/access\""), move |_| reply.clone()).await;
        let outcome = pair.send().await;
        match &outcome {
            Outcome::Blocked { reason } => assert!(blocked && reason.contains("login"), "{status} {body}: {reason}"),
            Outcome::Retry { reason, .. } => assert!(!blocked && reason.contains("login"), "{status}: {reason}"),
            other => panic!("{other:?}"),
        }
        assert!(!format!("{outcome:?}").contains("sesame"));
        assert_eq!(pair.events().len(), 0);
    }
}

fn oauth(more: &str) -> impl Fn(&str) -> String {
    let more = more.to_owned();
    move |url| format!("auth = {{ type = \"oauth2\", url = \"{url}\", client_id = \"gw 1\", {more} }}\n")
}

/// The address of the token endpoint is known only once the stand-in runs.
async fn with_oauth(more: &str, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Pair {
    let world = World::new().await;
    secret(world.dir.path(), "key", "ses&me");
    secret(world.dir.path(), "refresh", "r-0");
    let vendor = VendorApi::start(Behaviour::Custom(Arc::new(answer)));
    let text = oauth(more)(&format!("http://127.0.0.1:{}/token", vendor.port));
    let config = configured(&text, &vendor.url(), world.dir.path());
    let sink = api::Api::new("far", config, world.clock.clone()).unwrap();
    Pair { world, vendor, sink }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oauth2_client_credentials_by_basic_and_by_body() {
    let grant = |r: &Request| match r.path.as_str() {
        "/token" => Reply::new(200, r#"{"access_token":"a-1","token_type":"Bearer","expires_in":3600}"#, 0),
        _ if r.authorization.as_deref() == Some("Bearer a-1") => ok(),
        _ => Reply::new(401, "", 0),
    };
    let mut basic = with_oauth(
        "client_secret = { file = \"{dir}/key\" }, scope = \"punch write\", audience = \"https://hr\"",
        grant,
    )
    .await;
    basic.delivered().await;
    basic.delivered().await;
    let asked = basic.asked("/token");
    assert_eq!(asked.len(), 1);
    // "gw%201:ses%26me", encoded as RFC 6749 §2.3.1 has it.
    assert_eq!(asked[0].authorization.as_deref(), Some("Basic Z3clMjAxOnNlcyUyNm1l"));
    let form = String::from_utf8_lossy(&asked[0].body).into_owned();
    assert_eq!(form, "grant_type=client_credentials&scope=punch%20write&audience=https%3A%2F%2Fhr");

    let mut body = with_oauth("client_auth = \"body\", client_secret = { file = \"{dir}/key\" }", grant).await;
    body.delivered().await;
    let form = String::from_utf8_lossy(&body.asked("/token")[0].body).into_owned();
    assert_eq!(form, "grant_type=client_credentials&client_id=gw%201&client_secret=ses%26me");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_refresh_token_is_on_disk_before_the_access_token_is_used() {
    let state: Arc<Mutex<std::path::PathBuf>> = Arc::default();
    let (place, turn) = (Arc::clone(&state), AtomicU32::new(0));
    // Each refresh token is good once; access tokens expire at once.
    let mut pair = with_oauth(
        "grant = \"refresh_token\", refresh_token = { file = \"{dir}/refresh\" }, state_file = \"{dir}/far.token\"",
        move |r| match r.path.as_str() {
            "/token" => {
                let n = turn.load(Ordering::SeqCst);
                let form = String::from_utf8_lossy(&r.body).into_owned();
                if form != format!("grant_type=refresh_token&refresh_token=r-{n}&client_id=gw%201") {
                    return Reply::new(400, r#"{"error":"invalid_grant"}"#, 0);
                }
                let next = turn.fetch_add(1, Ordering::SeqCst) + 1;
                let body = format!(r#"{{"access_token":"a-{next}","refresh_token":"r-{next}","expires_in":0}}"#);
                Reply::new(200, body, 0)
            }
            _ => {
                let kept = std::fs::read_to_string(&*place.lock().unwrap()).unwrap_or_default();
                let n = turn.load(Ordering::SeqCst);
                assert!(kept.contains(&format!("r-{n}\"")), "used before it was kept: {kept}");
                ok()
            }
        },
    )
    .await;
    *state.lock().unwrap() = pair.world.dir.path().join("far.token");
    pair.delivered().await;
    pair.delivered().await;
    let path = state.lock().unwrap().clone();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // A restart goes on with the last one, not with the first.
    let text = oauth(
        "grant = \"refresh_token\", refresh_token = { file = \"{dir}/refresh\" }, state_file = \"{dir}/far.token\"",
    )(&format!("http://127.0.0.1:{}/token", pair.vendor.port));
    let config = configured(&text, &pair.vendor.url(), pair.world.dir.path());
    pair.sink = api::Api::new("far", config, pair.world.clock.clone()).unwrap();
    pair.delivered().await;
    // Where it can't be kept, it is not used, and what to mend is said; once it can be, it goes on.
    let folder = pair.world.dir.path().join("far.token.new");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("in-the-way"), "").unwrap();
    let before = pair.events().len();
    let outcome = pair.send().await;
    assert!(matches!(&outcome, Outcome::Blocked { reason } if reason.contains("far.token")), "{outcome:?}");
    assert_eq!(pair.events().len(), before);
    std::fs::remove_dir_all(&folder).unwrap();
    pair.delivered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_covers_what_leaves_and_a_wrong_clock_is_named() {
    let text = "auth = { type = \"hmac\", secret = { file = \"{dir}/key\" }, key_id = \"k1\", output = \"hex\", \
                parts = [\"method\", \"path_and_query\", \"header:content-type\", \"timestamp\", \"nonce\", \"body_digest:hex\"], \
                timestamp = { header = \"X-Time\", unit = \"ms\" }, nonce = \"X-Nonce\", signature = \"X-Signature\", \
                text = \"v1={signature}\", headers = { X-Key = \"{key_id}\" } }\n";
    let late = Arc::new(Mutex::new(None::<String>));
    let date = Arc::clone(&late);
    let answer = move |r: &Request| {
        use hmac::{KeyInit as _, Mac as _};
        use sha2::Digest as _;
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let digest = hex(&sha2::Sha256::digest(&r.body));
        let message =
            format!("POST\n{}\napplication/json\n{}\n{}\n{digest}", r.path, header(r, "x-time"), header(r, "x-nonce"));
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"sesame").unwrap();
        mac.update(message.as_bytes());
        let wanted = format!("v1={}", hex(&mac.finalize().into_bytes()));
        match (header(r, "x-signature") == wanted && header(r, "x-key") == "k1", date.lock().unwrap().clone()) {
            (true, None) => ok(),
            (true, Some(date)) => Reply::new(401, "", 0).header("date", date),
            (false, _) => Reply::new(500, "", 0),
        }
    };
    let mut pair = Pair::new(text, answer).await;
    pair.delivered().await;
    pair.delivered().await;
    let nonces: Vec<_> = pair.events().iter().map(|r| header(r, "x-nonce").to_owned()).collect();
    assert_ne!(nonces[0], nonces[1]);
    *late.lock().unwrap() = Some("Sun, 06 Nov 2033 08:49:37 GMT".to_owned());
    let outcome = pair.send().await;
    assert!(
        matches!(&outcome, Outcome::Blocked { reason } if reason.contains("clock is") && reason.contains("behind")),
        "{outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_has_the_same_id_at_every_try_and_a_signature_for_each_key() {
    let text = "auth = { type = \"standard_webhook\", keys = [{ secret = { file = \"{dir}/webhook\" } }, \
                { secret = { file = \"{dir}/webhook\" } }] }\n";
    let mut pair = Pair::new(text, |_| Reply::new(502, "", 0)).await;
    let records = [record(1, pair.world.event(None))];
    send(&mut pair.sink, &records).await;
    send(&mut pair.sink, &records).await;
    let requests = pair.events();
    assert_eq!(header(&requests[0], "webhook-id"), header(&requests[1], "webhook-id"));
    assert_eq!(header(&requests[0], "webhook-signature").split(' ').filter(|s| s.starts_with("v1,")).count(), 2);
    assert!(header(&requests[0], "webhook-timestamp").parse::<u64>().unwrap() > 1_700_000_000);
}

/// Checked by the specification's own library, which knows nothing of ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_verifier_takes_what_we_sign_under_either_key_and_nothing_else() {
    let (old, new) = ("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3", "whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY=");
    let world = World::new().await;
    secret(world.dir.path(), "old", old);
    secret(world.dir.path(), "new", new);
    let vendor = VendorApi::start(Behaviour::Ok);
    let text = "batch = 10\nauth = { type = \"standard_webhook\", keys = [{ secret = { file = \"{dir}/old\" } }, \
                { secret = { file = \"{dir}/new\" } }] }\n";
    let config = configured(text, &vendor.url(), world.dir.path());
    let mut sink = api::Api::new("far", config, world.clock.clone()).unwrap();
    for count in [1, 10] {
        let records: Vec<_> = (0..count).map(|n| record(n + 1, world.event(Some("Pérez «7»")))).collect();
        let outcome = send(&mut sink, &records).await;
        assert!(matches!(outcome, Outcome::Settled(_)), "{outcome:?}");
    }
    let stranger = standardwebhooks::Webhook::new("whsec_c3RyYW5nZXIgdGhhbiBhbnl0aGluZyBlbHNl").unwrap();
    for request in vendor.requests() {
        for key in [old, new] {
            let verifier = standardwebhooks::Webhook::new(key).unwrap();
            verifier.verify(&request.body, &request.headers).unwrap();
            let mut other = request.body.to_vec();
            other[7] ^= 1;
            assert!(verifier.verify(&other, &request.headers).is_err());
        }
        assert!(stranger.verify(&request.body, &request.headers).is_err());
    }
}
