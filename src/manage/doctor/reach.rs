//! Servers: brokers, sinks, the directory's source; all asked at once, each for [`WITHIN`] at most.
//!
//! Must not: do what a probe must not do: send an event, or throw the gateway out of its session.

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};

use super::super::config::Config;
use super::credentials::readable;
use super::machine::Unit;
use super::{Finding, State, WITHIN, moment};
use crate::clock::Clock;
use crate::deliver::api::{ForwardProxy, PemSource};
use crate::deliver::directory::Source;
use crate::deliver::expiry::{Expiry, Nearness};
use crate::deliver::{Kind, probe};
use crate::event::UtcMicros;
use crate::secret::SecretSource;
use crate::terminal::{ConnectConfig, Endpoint, probe as link};
use crate::tls::reach::Learned;

/// Asks every server of the configuration.
pub(super) async fn servers(config: &Config, unit: Option<&Unit>, clock: &Clock, runs: bool) -> Vec<Finding> {
    let mut asked: Vec<BoxFuture<'_, Vec<Finding>>> = Vec::new();
    for broker in &config.brokers {
        let name = broker.name.as_str();
        asked.push(match &broker.endpoint {
            Endpoint::Connect(connect) => {
                let mut connect: ConnectConfig = connect.clone();
                if let Some((_, password)) = &mut connect.credentials {
                    *password = readable(password, unit);
                }
                async move { told("broker", name, &link::broker(&connect, WITHIN).await, clock) }.boxed()
            }
            Endpoint::Listen(listen) => {
                let address = listen.address;
                async move { own(name, address, link::listens(address, WITHIN).await, runs) }.boxed()
            }
        });
    }
    for sink in &config.sinks {
        let name = sink.name.as_str();
        asked.push(match &sink.kind {
            Kind::Api(api) => {
                let mut api = api.clone();
                from_here(&mut api.client, &mut api.proxy, unit);
                async move {
                    let (own, tokens) = futures_util::future::join(
                        probe::api(&api, clock, WITHIN),
                        probe::token_server(&api, clock, WITHIN),
                    )
                    .await;
                    let mut findings = told("sink", name, &own, clock);
                    findings.extend(
                        tokens
                            .iter()
                            .flat_map(|tokens| told("sink", &format!("{name}, its token server"), tokens, clock)),
                    );
                    findings
                }
                .boxed()
            }
            Kind::Postgres(postgres) => {
                let mut postgres = postgres.clone();
                postgres.password = postgres.password.map(|password| readable(&password, unit));
                async move { hosts("sink", name, &probe::database(&postgres, clock, true, WITHIN).await, clock) }
                    .boxed()
            }
        });
    }
    if let Some((url, ca_file)) =
        config.manage.remote.as_ref().and_then(|r| Some((r.url.as_deref()?, r.ca_file.as_deref())))
    {
        asked
            .push(async move { told("remote", "", &probe::address(url, ca_file, clock, WITHIN).await, clock) }.boxed());
    }
    match config.directory.as_ref().map(|directory| &directory.source) {
        Some(Source::Http(http)) => {
            let mut http = http.clone();
            from_here(&mut http.client, &mut http.proxy, unit);
            asked.push(
                async move { told("directory", "", &probe::directory(&http, clock, WITHIN).await, clock) }.boxed(),
            );
        }
        Some(Source::Database(database)) => {
            let mut database = database.clone();
            database.password = database.password.map(|password| readable(&password, unit));
            asked.push(
                async move { hosts("directory", "", &probe::directory_database(&database, clock, WITHIN).await, clock) }
                    .boxed(),
            );
        }
        Some(Source::File { path, .. }) => {
            let found = match std::fs::File::open(path) {
                Ok(_) => Finding::ok("directory", path.display().to_string(), "can be read"),
                Err(error) => {
                    let found = format!("it can't be read ({error})");
                    Finding::fail(
                        "directory",
                        path.display().to_string(),
                        found,
                        "put the file there, readable by portero",
                    )
                }
            };
            asked.push(std::future::ready(vec![found]).boxed());
        }
        None => {}
    }
    join_all(asked).await.into_iter().flatten().collect()
}

/// The secrets by which a connection itself is made, from where they can be read.
fn from_here(client: &mut Option<(PemSource, SecretSource)>, proxy: &mut Option<ForwardProxy>, unit: Option<&Unit>) {
    if let Some((certificate, key)) = client {
        *key = readable(key, unit);
        if let PemSource::Secret(source) = certificate {
            *source = readable(source, unit);
        }
    }
    if let Some((_, password)) = proxy.as_mut().and_then(|proxy| proxy.login.as_mut()) {
        *password = readable(password, unit);
    }
}

fn hosts(check: &'static str, name: &str, found: &[(String, Learned)], clock: &Clock) -> Vec<Finding> {
    let subject =
        |part: &str| [name, part].iter().filter(|text| !text.is_empty()).copied().collect::<Vec<_>>().join(", ");
    found.iter().flat_map(|(part, learned)| told(check, &subject(part), learned, clock)).collect()
}

/// What was learned of a server, as findings: itself, its certificate's end, its clock.
fn told(check: &'static str, subject: &str, learned: &Learned, clock: &Clock) -> Vec<Finding> {
    let mut finding = match &learned.reached {
        Ok(words) => Finding::ok(check, subject, words),
        Err(trouble) => Finding::trouble(check, subject, State::Fail, trouble),
    };
    if let Some(tls) = &learned.tls {
        let names = if tls.names.is_empty() { tls.subject.clone() } else { tls.names.join(" ") };
        let until = moment(UtcMicros(tls.until));
        finding.found = format!("{}; {}, for {names}, by {}, until {until}", finding.found, tls.protocol, tls.issuer);
        finding.tls = Some(Box::new(tls.clone()));
    }
    let fine = finding.state == State::Ok;
    let mut findings = vec![finding];
    findings.extend(learned.doubt.iter().map(|doubt| Finding::trouble(check, subject, State::Warn, doubt)));
    if let Some(tls) = learned.tls.as_ref().filter(|_| fine) {
        let expiry = Expiry { what: "the server's certificate".to_owned(), at: UtcMicros(tls.until) };
        let now = clock.now().wall;
        if let (Nearness::Past(_) | Nearness::Soon(_), Some(said)) = (expiry.nearness(now), expiry.said(now)) {
            let found = said.split("; ").next().unwrap_or_default();
            findings.push(Finding::warn("expiry", subject, found, "have it renewed by whoever runs the server"));
        }
    }
    if let Some(words) = learned.clock.and_then(|theirs| probe::skew(theirs, clock)) {
        let remedy = "synchronise the clock: signatures and tokens depend on it";
        findings.push(Finding::warn("clock", subject, words, remedy));
    }
    findings
}

/// A broker that the gateway is itself.
fn own(name: &str, address: std::net::SocketAddr, answers: bool, runs: bool) -> Vec<Finding> {
    vec![match (answers, runs) {
        (true, true) => Finding::ok("broker", name, format!("takes connections at {address}")),
        (true, false) => {
            let found = format!("something else takes connections at {address}, and no gateway runs");
            Finding::fail(
                "broker",
                name,
                found,
                format!("find it: ss -ltnp 'sport = :{}', or change listen", address.port()),
            )
        }
        (false, true) => {
            let found = format!("the gateway runs, and nothing takes connections at {address}");
            Finding::fail("broker", name, found, "look at portero status: the address may be another machine's")
        }
        (false, false) => Finding::skipped(
            "broker",
            name,
            format!("{address} is free; the gateway would be this broker"),
            "start the gateway",
        ),
    }]
}
