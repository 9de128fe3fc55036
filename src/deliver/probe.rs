//! Whether a server answers, and what it shows of itself: for `portero doctor`.
//!
//! Must not: send an event, a token or a password to an API, ask for a token (asking may spend one), or change anything at
//! a database.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::config::Host;

use super::auth::Auth;
use super::exchange::{self, Draft, ForwardProxy, Wire};
use super::postgres::link::Endpoint;
use super::postgres::{self, verdict};
use super::{Error, Outcome, api, directory};
use crate::clock::Clock;
use crate::tls::reach::{Learned, Shown, Trouble, dial, look};
use crate::tls::{ClientIdentity, TlsMode};

/// A server whose clock differs from ours by more than this breaks signatures and tokens at common vendors, seconds.
const SKEW: u64 = 60;

/// `SSLRequest` (PostgreSQL manual, "Message Formats").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F];

/// What the login finds there: version, and whether it may write events; one row.
const LOOK: &str = "SELECT current_setting('server_version'), to_regclass('portero.event') IS NOT NULL, \
     coalesce(has_table_privilege(to_regclass('portero.event'), 'INSERT'), false)";

/// An address over HTTP and how it is reached.
struct Web<'a> {
    url: &'a str,
    tls: TlsMode,
    ca_file: Option<&'a std::path::Path>,
    client: Option<&'a (api::PemSource, crate::secret::SecretSource)>,
    proxy: Option<&'a ForwardProxy>,
}

/// The server of an API sink: TCP, TLS, then one `HEAD /` without any credential. Not the sink's own path: there are hooks
/// to which any request is an event.
pub async fn api(config: &api::Config, clock: &Clock, within: Duration) -> Learned {
    let web = Web {
        url: &config.url,
        tls: config.tls,
        ca_file: config.ca_file.as_deref(),
        client: config.client.as_ref(),
        proxy: config.proxy.as_ref(),
    };
    web.probe(clock, within).await
}

/// The server of a directory's HTTP endpoint.
pub async fn directory(config: &directory::Http, clock: &Clock, within: Duration) -> Learned {
    let web = Web {
        url: &config.url,
        tls: config.tls,
        ca_file: config.ca_file.as_deref(),
        client: config.client.as_ref(),
        proxy: config.proxy.as_ref(),
    };
    web.probe(clock, within).await
}

/// Any other address over HTTP that is only read.
pub async fn address(url: &str, ca_file: Option<&std::path::Path>, clock: &Clock, within: Duration) -> Learned {
    let tls = if url.starts_with("http://") { TlsMode::Disable } else { TlsMode::Require };
    Web { url, tls, ca_file, client: None, proxy: None }.probe(clock, within).await
}

/// The server that gives tokens, where it is another one than that of the sink.
pub async fn token_server(config: &api::Config, clock: &Clock, within: Duration) -> Option<Learned> {
    let url = match &config.auth {
        Auth::OAuth2(oauth2) => oauth2.url.as_str(),
        Auth::Login(login) => login.url.as_str(),
        _ => return None,
    };
    let (asked, own) = (Url::parse(url).ok()?, Url::parse(&config.url).ok()?);
    if exchange::same_origin(&asked, &own) {
        return None;
    }
    Some(api(&api::Config { url: url.to_owned(), ..config.clone() }, clock, within).await)
}

impl Web<'_> {
    async fn probe(&self, clock: &Clock, within: Duration) -> Learned {
        let deadline = Instant::now() + within;
        let (url, shown) = match self.connect(deadline).await {
            Ok(reached) => reached,
            Err((trouble, shown)) => return Learned::failed(trouble, shown),
        };
        // There a question would be one to the sink's own path.
        if url.path() == "/" {
            return Learned::answers("can be reached; not asked, as its own path is /".to_owned(), shown);
        }
        let answer = match self.ask(url, clock, deadline).await {
            Ok(answer) => answer,
            Err(trouble) => return Learned::failed(trouble, shown),
        };
        let status = answer.status;
        let mut learned = Learned::answers(format!("answers (HTTP {status})"), shown);
        learned.clock = answer.date.as_deref().and_then(exchange::http_date);
        learned.doubt = match status {
            407 => {
                let found = "the proxy wants to know who we are (HTTP 407)";
                Some(Trouble::new("login", found, "correct user and password of proxy"))
            }
            502..=504 => {
                let found = format!("what stands before the server says that it is away (HTTP {status})");
                Some(Trouble::new("away", found, "wait, or ask whoever runs the server"))
            }
            _ => None,
        };
        learned
    }

    /// Name, connection and TLS; through a proxy only the way to the proxy can be looked at.
    async fn connect(&self, deadline: Instant) -> Result<(Url, Option<Shown>), (Trouble, Option<Shown>)> {
        let broken = || Trouble::new("settings", "the url cannot be used", "run: portero check");
        let url = Url::parse(self.url).map_err(|_| (broken(), None))?;
        let proxy = self.proxy.map(|proxy| Url::parse(&proxy.url)).transpose().map_err(|_| (broken(), None))?;
        let to = proxy.as_ref().unwrap_or(&url);
        let host = to.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = to.port_or_known_default().unwrap_or(443);
        let open = || dial(&host, port, deadline);
        if proxy.is_some() || url.scheme() != "https" {
            let through = |trouble: Trouble| Trouble { found: format!("the proxy: {}", trouble.found), ..trouble };
            open().await.map_err(|trouble| (if proxy.is_some() { through(trouble) } else { trouble }, None))?;
            return Ok((url, None));
        }
        let config = self.tls().map_err(|error| (settings(&error), None))?;
        match look(open, &host, config, deadline).await {
            (shown, Ok(())) => Ok((url, shown)),
            (shown, Err(trouble)) => Err((trouble, shown)),
        }
    }

    fn tls(&self) -> Result<std::sync::Arc<rustls::ClientConfig>, Error> {
        use secrecy::ExposeSecret as _;
        let identity = match self.client {
            Some((certificate, key)) => {
                let (certificate, key) = (certificate.read()?, key.read()?);
                Some(ClientIdentity::from_pem(&certificate, key.expose_secret().as_bytes())?)
            }
            None => None,
        };
        Ok(crate::tls::client_config_as(self.tls, self.ca_file, identity)?)
    }

    async fn ask(&self, mut url: Url, clock: &Clock, deadline: Instant) -> Result<exchange::Answer, Trouble> {
        let left = deadline.saturating_duration_since(Instant::now());
        let client = exchange::client(left, self.tls, self.ca_file, self.client, self.proxy);
        let client = client.map_err(|error| settings(&error))?;
        let wire = Wire { client, clock: clock.clone(), proxied: self.proxy.is_some() };
        url.set_path("/");
        url.set_query(None);
        let draft = Draft { method: Method::HEAD, url, headers: HeaderMap::new(), body: Bytes::new() };
        let asked = timeout_at(deadline, wire.exchange(draft, 0)).await;
        let fault = match asked.map_err(|_| Trouble::late("no answer"))? {
            Ok(answer) => return Ok(answer),
            Err(fault) => fault,
        };
        let reason = reason(fault.outcome);
        let cause = if reason.contains("in time") { "timeout" } else { "unreachable" };
        Err(Trouble::new(cause, reason, "check that the server speaks HTTP there, and which certificate it wants"))
    }
}

/// How far a server's clock is from ours, where that breaks something.
pub fn skew(theirs: i64, clock: &Clock) -> Option<String> {
    let ours = clock.now().wall.0;
    let apart = Duration::from_micros(theirs.abs_diff(ours)).as_secs();
    let side = if ours < theirs { "behind" } else { "ahead of" };
    (apart > SKEW).then(|| format!("this machine's clock is {apart} s {side} the server's"))
}

fn settings(error: &Error) -> Trouble {
    let remedy = match error {
        Error::Secret(_) => "see the credentials above",
        _ => "run: portero check",
    };
    Trouble::new("settings", error.to_string(), remedy)
}

fn reason(outcome: Outcome) -> String {
    match outcome {
        Outcome::Retry { reason, .. }
        | Outcome::Blocked { reason }
        | Outcome::Refused { reason, .. }
        | Outcome::Lost { reason, .. }
        | Outcome::Gone { reason } => reason,
        Outcome::Settled(_) => "no connection".to_owned(),
    }
}

/// A database, each of its hosts on its own. `login`: also log in, as the sink would, and look whether it may write.
pub async fn database(
    config: &postgres::Config,
    clock: &Clock,
    writes: bool,
    within: Duration,
) -> Vec<(String, Learned)> {
    let deadline = Instant::now() + within;
    let Ok(parsed) = config.url.parse::<tokio_postgres::Config>() else {
        let trouble = Trouble::new("settings", "the url cannot be used", "run: portero check");
        return vec![(String::new(), Learned::failed(trouble, None))];
    };
    let ports = parsed.get_ports();
    let hosts = parsed.get_hosts().iter().enumerate().filter_map(|(at, host)| match host {
        Host::Tcp(name) => Some((name.clone(), ports.get(at).or(ports.first()).copied().unwrap_or(5432))),
        Host::Unix(_) => None,
    });
    let looks = hosts.map(|(host, port)| async move {
        let learned = server(config, &host, port, deadline).await;
        (format!("{host}:{port}"), learned)
    });
    let mut found = futures_util::future::join_all(looks).await;
    // A server on a Unix socket is only asked by logging in.
    if found.is_empty() || found.iter().any(|(_, learned)| learned.reached.is_ok()) {
        let login = timeout_at(deadline, log_in(config, clock, writes)).await;
        let login = login.unwrap_or_else(|_| Err(Trouble::late("the login gets no answer")));
        let learned = match login {
            Ok(words) => Learned::answers(words, None),
            Err(trouble) => Learned::failed(trouble, None),
        };
        found.push(("login".to_owned(), learned));
    }
    found
}

async fn server(config: &postgres::Config, host: &str, port: u16, deadline: Instant) -> Learned {
    let open = async || {
        let mut stream = dial(host, port, deadline).await?;
        if config.tls != TlsMode::Disable {
            ask_for_tls(&mut stream, deadline).await?;
        }
        Ok(stream)
    };
    if config.tls == TlsMode::Disable {
        return match open().await {
            Ok(_) => Learned::answers("takes connections".to_owned(), None),
            Err(trouble) => Learned::failed(trouble, None),
        };
    }
    let tls = match crate::tls::client_config(config.tls, config.ca_file.as_deref()) {
        Ok(tls) => tls,
        Err(error) => return Learned::failed(settings(&error.into()), None),
    };
    match look(open, host, tls, deadline).await {
        (shown, Ok(())) => Learned::answers("takes connections".to_owned(), shown),
        (shown, Err(trouble)) => Learned::failed(trouble, shown),
    }
}

async fn ask_for_tls(stream: &mut TcpStream, deadline: Instant) -> Result<(), Trouble> {
    let asked = async {
        stream.write_all(&SSL_REQUEST).await?;
        stream.read_u8().await
    };
    match timeout_at(deadline, asked).await {
        Ok(Ok(b'S')) => Ok(()),
        Ok(Ok(b'N')) => Err(Trouble::new("tls", "the server offers no TLS", "set ssl = on in its postgresql.conf")),
        Ok(_) => Err(Trouble::new("tls", "this is no PostgreSQL server", "correct host and port in url")),
        Err(_) => Err(Trouble::late("no answer of the server")),
    }
}

async fn log_in(config: &postgres::Config, clock: &Clock, writes: bool) -> Result<String, Trouble> {
    let trouble = |outcome| {
        let words = reason(outcome);
        // Whoever judged it has put the remedy behind the last semicolon.
        let (found, remedy) = words.rsplit_once("; ").unwrap_or((&words, "check user, password and pg_hba.conf"));
        Trouble::new("login", found, remedy)
    };
    let endpoint = Endpoint::of_sink(config, clock.clone()).map_err(|error| settings(&error))?;
    let link = endpoint.connect().await.map_err(trouble)?;
    let question = if writes { LOOK } else { "SELECT current_setting('server_version'), true, true" };
    let rows = link.client.simple_query(question).await;
    let rows = rows.map_err(|error| trouble(verdict::outcome(&error, endpoint.synchronised())))?;
    let row = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let cell = |at| row.and_then(|row| row.get(at)).unwrap_or_default().to_owned();
    if cell(1) != "t" {
        let found = "the database has no table portero.event";
        return Err(Trouble::new("schema", found, "run: portero central init --apply --url URL"));
    }
    if cell(2) != "t" {
        let found = "the login may not insert into portero.event";
        return Err(Trouble::new(
            "schema",
            found,
            "run: portero central add-gateway ID --login NAME --apply --url URL",
        ));
    }
    Ok(format!("logs in (PostgreSQL {})", cell(0)))
}

/// The database of a directory, as a sink would reach it.
pub async fn directory_database(
    config: &directory::Database,
    clock: &Clock,
    within: Duration,
) -> Vec<(String, Learned)> {
    let config = postgres::Config {
        url: config.url.clone(),
        password: config.password.clone(),
        batch: 1,
        tls: config.tls,
        ca_file: config.ca_file.clone(),
        timeout: within,
    };
    database(&config, clock, false, within).await
}
