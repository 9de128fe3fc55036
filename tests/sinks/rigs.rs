//! The far ends: how each is set up, broken, mended and asked what it got.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portero::clock::{Clock, SyncSource};
use portero::deliver::api::mapping::{Field, Mapping, Origin, Rule, Source};
use portero::deliver::api::request::{Body, Request};
use portero::deliver::{Sink, api, central, postgres};
use portero::tls::TlsMode;

use crate::proxy::Proxy;
use crate::support::{Behaviour, Postgres, Reply, VendorApi};
use crate::world::POISON;

/// How long a sink waits for an answer in these tests.
pub const TIMEOUT: Duration = Duration::from_secs(20);

pub trait Rig: Sized {
    type Sink: Sink + 'static;

    async fn start() -> Self;
    /// A sink named `far` that sends there.
    fn sink(&self) -> Self::Sink {
        self.sink_with(TIMEOUT)
    }
    fn sink_with(&self, timeout: Duration) -> Self::Sink;
    /// Event ids and how many times each was stored.
    fn received(&self) -> BTreeMap<String, u32>;
    /// The ids that corrections correct.
    fn corrected(&self) -> Vec<String>;
    /// From now on an answer to each batch is lost after it was stored; a second try succeeds.
    fn lose_answers(&self);
    /// From now on events of the person [`POISON`] are refused.
    fn refuse_poison(&self);
    /// Refuses us as a whole until [`Rig::mend`].
    fn lock_us_out(&self);
    /// Takes connections and never answers, until [`Rig::mend`].
    fn fall_silent(&self);
    fn mend(&self);
    fn down(&mut self);
    fn up(&mut self);
}

pub struct Api(pub VendorApi);

/// One event a request.
pub struct LoneApi(Api);

impl LoneApi {
    /// What was asked of it.
    pub fn requests(&self) -> Vec<crate::support::Request> {
        self.0.0.requests()
    }
}

pub fn api_config(url: String, batch: usize, timeout: Duration) -> api::Config {
    api::Config { url, batch, max_body_bytes: 4 << 20, timeout, ..api::Config::default() }
}

fn clock() -> Clock {
    Clock::new(SyncSource::Trusted)
}

impl Rig for Api {
    type Sink = api::Api;

    async fn start() -> Self {
        Self(VendorApi::start(Behaviour::Ok))
    }

    fn sink_with(&self, timeout: Duration) -> api::Api {
        api::Api::new("far", api_config(self.0.url(), 100, timeout), clock()).unwrap()
    }

    fn received(&self) -> BTreeMap<String, u32> {
        let oracle = self.0.oracle();
        assert_eq!(oracle.keys_with_different_bytes, Vec::<String>::new(), "the same key came with other bytes");
        assert_eq!(oracle.requests_without_key, 0);
        oracle.stored.into_iter().collect()
    }

    fn corrected(&self) -> Vec<String> {
        self.0.oracle().corrections.into_keys().collect()
    }

    fn lose_answers(&self) {
        let seen = std::sync::Mutex::new(std::collections::HashSet::new());
        self.0.behave(Behaviour::Custom(Arc::new(move |request| {
            let first = seen.lock().unwrap().insert(request.key.clone());
            if first { Reply::drop_after_storing() } else { Reply::ok() }
        })));
    }

    fn refuse_poison(&self) {
        let poisoned = |event: &serde_json::Value| event["person"]["terminal_person_id"] == POISON;
        self.0.behave(Behaviour::RejectIf(Arc::new(poisoned)));
    }

    fn lock_us_out(&self) {
        self.0.behave(Behaviour::Custom(Arc::new(|_| Reply::refuse(403))));
    }

    fn fall_silent(&self) {
        self.0.behave(Behaviour::Custom(Arc::new(|_| Reply {
            delay: Duration::from_secs(3600),
            ..Reply::new(200, "", 0)
        })));
    }

    fn mend(&self) {
        self.0.behave(Behaviour::Ok);
    }

    fn down(&mut self) {
        self.0.stop();
    }

    fn up(&mut self) {
        self.0.start_again();
    }
}

impl Rig for LoneApi {
    type Sink = api::Api;

    async fn start() -> Self {
        Self(Api::start().await)
    }

    fn sink_with(&self, timeout: Duration) -> api::Api {
        api::Api::new("far", api_config(self.0.0.url(), 1, timeout), clock()).unwrap()
    }

    fn received(&self) -> BTreeMap<String, u32> {
        self.0.received()
    }

    fn corrected(&self) -> Vec<String> {
        self.0.corrected()
    }

    fn lose_answers(&self) {
        self.0.lose_answers();
    }

    fn refuse_poison(&self) {
        self.0.refuse_poison();
    }

    fn lock_us_out(&self) {
        self.0.lock_us_out();
    }

    fn fall_silent(&self) {
        self.0.fall_silent();
    }

    fn mend(&self) {
        self.0.mend();
    }

    fn down(&mut self) {
        self.0.down();
    }

    fn up(&mut self) {
        self.0.up();
    }
}

/// A vendor's own words, with a mapping for corrections too.
pub struct MappedApi(Api);

fn mapping(fields: &[(&str, &str)]) -> Mapping {
    let field = |(target, pointer): &(&str, &str)| Field {
        target: target.split('.').map(str::to_owned).collect(),
        rule: Rule::plain(Origin::Source(Source::at(pointer).unwrap(), None)),
    };
    Mapping { fields: fields.iter().map(field).collect() }
}

impl Rig for MappedApi {
    type Sink = api::Api;

    async fn start() -> Self {
        Self(Api::start().await)
    }

    fn sink_with(&self, timeout: Duration) -> api::Api {
        let person = ("person.terminal_person_id", "/person/external_id");
        let config = api::Config {
            map: Some(mapping(&[("event_id", "/event_id"), person, ("at", "/event_time")])),
            map_correction: Some(mapping(&[("corrects", "/corrects"), ("at", "/event_time")])),
            request: Some(Box::new(Request { body: Body::Array, ..Request::default() })),
            ..api_config(self.0.0.url(), 100, timeout)
        };
        api::Api::new("far", config, clock()).unwrap()
    }

    fn received(&self) -> BTreeMap<String, u32> {
        self.0.received()
    }

    fn corrected(&self) -> Vec<String> {
        self.0.corrected()
    }

    fn lose_answers(&self) {
        self.0.lose_answers();
    }

    fn refuse_poison(&self) {
        self.0.refuse_poison();
    }

    fn lock_us_out(&self) {
        self.0.lock_us_out();
    }

    fn fall_silent(&self) {
        self.0.fall_silent();
    }

    fn mend(&self) {
        self.0.mend();
    }

    fn down(&mut self) {
        self.0.down();
    }

    fn up(&mut self) {
        self.0.up();
    }
}

/// PostgreSQL behind a proxy, with a login that may do no more than a gateway may.
pub struct Central {
    pub server: Postgres,
    pub proxy: Proxy,
}

impl Central {
    pub fn config(&self, timeout: Duration) -> postgres::Config {
        postgres::Config {
            url: format!("postgresql://gateway@127.0.0.1:{}/attendance", self.proxy.port),
            password: None,
            batch: 2000,
            tls: TlsMode::Disable,
            ca_file: None,
            timeout,
        }
    }
}

/// A server with the schema and the login `gateway`.
pub async fn server() -> Postgres {
    let server = Postgres::start();
    let script = central::script_now(&clock());
    central::apply(&server.url(), None, TlsMode::Disable, None, clock(), &script).await.unwrap();
    server.psql("CREATE ROLE gateway LOGIN IN ROLE portero_gateway");
    server
}

impl Rig for Central {
    type Sink = postgres::Postgres;

    async fn start() -> Self {
        let server = server().await;
        let proxy = Proxy::start(server.port).await;
        Self { server, proxy }
    }

    fn sink_with(&self, timeout: Duration) -> postgres::Postgres {
        postgres::Postgres::new("far", &self.config(timeout), "00ff", clock()).unwrap()
    }

    fn received(&self) -> BTreeMap<String, u32> {
        let rows = self.server.psql("SELECT event_id, count(*) FROM portero.event GROUP BY 1");
        let row = |line: &str| {
            let (id, count) = line.split_once('|').unwrap();
            (id.to_owned(), count.parse().unwrap())
        };
        rows.lines().map(row).collect()
    }

    fn corrected(&self) -> Vec<String> {
        self.server.psql("SELECT corrects FROM portero.correction").lines().map(str::to_owned).collect()
    }

    fn lose_answers(&self) {
        self.proxy.lose_commits();
    }

    fn refuse_poison(&self) {
        let check = format!("ADD CONSTRAINT not_poisoned CHECK (person IS DISTINCT FROM '{POISON}')");
        self.server.psql(&format!("ALTER TABLE portero.event {check}"));
    }

    fn lock_us_out(&self) {
        self.server.psql("REVOKE INSERT ON portero.event FROM portero_gateway");
    }

    fn fall_silent(&self) {
        self.proxy.fall_silent();
    }

    fn mend(&self) {
        self.proxy.pass();
        self.server.psql("GRANT INSERT ON portero.event TO portero_gateway");
        self.server.psql("ALTER TABLE portero.event DROP CONSTRAINT IF EXISTS not_poisoned");
    }

    fn down(&mut self) {
        self.server.stop_immediate();
    }

    fn up(&mut self) {
        self.server.start_again();
    }
}
