//! One connection to PostgreSQL: how it is opened, and the task that drives it.
//!
//! Must not: fall back from encrypted to plain, send a password in plain text to another machine, or leave a connection's
//! task behind.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use super::{Config, verdict};
use crate::clock::Clock;
use crate::deliver::{Error, Outcome};
use crate::secret::SecretSource;
use crate::tls::TlsMode;

/// A connection must stand within this time, per host; sooner where a sink's own limit leaves less for each.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Unacknowledged bytes on the wire for this long mean a dead link (`TCP_USER_TIMEOUT`, tcp(7)).
const DEAD_LINK: Duration = Duration::from_secs(15);

/// Keep-alive of an idle connection: first probe, then every `KEEPALIVE_INTERVAL`, given up after three.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Where a database is and how to log in.
pub(in crate::deliver) struct Endpoint {
    config: tokio_postgres::Config,
    password: Option<SecretSource>,
    tls: Option<MakeRustlsConnect>,
    clock: Clock,
}

/// An open connection.
pub(in crate::deliver) struct Link {
    pub(in crate::deliver) client: Client,
    /// Ends with the link.
    _driver: AbortOnDropHandle<()>,
}

impl Link {
    pub(in crate::deliver) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }
}

impl Endpoint {
    /// The database of a sink. Of several hosts each gets its share of the sink's time limit, so that a dead one is passed by.
    pub(in crate::deliver) fn of_sink(config: &Config, clock: Clock) -> Result<Self, Error> {
        let mut endpoint =
            Self::new(&config.url, config.password.clone(), config.tls, config.ca_file.as_deref(), clock)?;
        let hosts = u32::try_from(endpoint.config.get_hosts().len()).unwrap_or(u32::MAX);
        let share = config.timeout / hosts.saturating_add(1);
        endpoint.config.connect_timeout(share.min(CONNECT_TIMEOUT));
        Ok(endpoint)
    }

    pub(in crate::deliver) fn new(
        url: &str,
        password: Option<SecretSource>,
        tls: TlsMode,
        ca_file: Option<&Path>,
        clock: Clock,
    ) -> Result<Self, Error> {
        let mut config: tokio_postgres::Config = url.parse().map_err(|e: tokio_postgres::Error| {
            // The error names the offending part, not the values.
            Error::Address(format!("url is not like postgresql://USER@HOST:PORT/DATABASE: {e}"))
        })?;
        if config.get_hosts().is_empty() {
            return Err(Error::Address("url names no host; write postgresql://USER@HOST:PORT/DATABASE".to_owned()));
        }
        if config.get_user().is_none() {
            return Err(Error::Address("url names no user; write postgresql://USER@HOST:PORT/DATABASE".to_owned()));
        }
        config
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(DEAD_LINK)
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(3)
            .application_name("portero");
        // With several hosts a standby is passed by; alone, a server that takes no writes says so itself.
        if config.get_hosts().len() > 1 {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        let tls = if tls == TlsMode::Disable {
            // `hostaddr` overrides where a host name leads to.
            let local =
                config.get_hosts().iter().all(is_local) && config.get_hostaddrs().iter().all(IpAddr::is_loopback);
            if !local {
                return Err(Error::Plain);
            }
            config.ssl_mode(SslMode::Disable);
            None
        } else {
            // The crate's default, `prefer`, goes on in plain text when the server, or somebody between, says so.
            config.ssl_mode(SslMode::Require);
            let tls = crate::tls::client_config(tls, ca_file)?;
            Some(MakeRustlsConnect::new(Arc::unwrap_or_clone(tls)))
        };
        Ok(Self { config, password, tls, clock })
    }

    /// Replaces the password by one that does not come from a secret's place.
    pub(in crate::deliver) fn set_password(&mut self, password: &str) {
        self.config.password(password);
    }

    pub(in crate::deliver) fn synchronised(&self) -> bool {
        self.clock.now().synchronised
    }

    /// Opens a connection; the password is read anew each time, so that a renewed one is found.
    pub(in crate::deliver) async fn connect(&self) -> Result<Link, Outcome> {
        let mut config = self.config.clone();
        if let Some(source) = &self.password {
            let password = source.read().map_err(|e| Outcome::Blocked { reason: e.to_string() })?;
            config.password(password.expose_secret());
        }
        let failed = |e: tokio_postgres::Error| verdict::no_connection(&e, self.synchronised());
        match &self.tls {
            None => {
                let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
                Ok(Link { client, _driver: drive(connection) })
            }
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await.map_err(failed)?;
                Ok(Link { client, _driver: drive(connection) })
            }
        }
    }
}

/// The client only learns that its connection is closed; why is of no use to anybody but a developer.
fn drive<F>(connection: F) -> AbortOnDropHandle<()>
where
    F: Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
{
    AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = connection.await {
            let code = error.code().map_or("", |c| c.code());
            tracing::debug!(reason = code, "database connection ended");
        }
    }))
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SyncSource;

    fn endpoint(url: &str, tls: TlsMode) -> Result<Endpoint, Error> {
        Endpoint::new(url, None, tls, None, Clock::new(SyncSource::Trusted))
    }

    #[test]
    fn plain_text_is_for_this_machine_only() {
        for local in ["postgresql://p@127.0.0.1:5432/a", "postgresql://p@[::1]/a", "postgresql://p@localhost/a"] {
            assert!(endpoint(local, TlsMode::Disable).is_ok(), "{local}");
        }
        for far in [
            "postgresql://p@db.example.com/a",
            "postgresql://p@127.0.0.1,10.0.0.7/a",
            "postgresql://p@localhost/a?hostaddr=10.0.0.7",
        ] {
            assert!(matches!(endpoint(far, TlsMode::Disable), Err(Error::Plain)), "{far}");
        }
    }

    #[test]
    fn of_several_hosts_the_one_that_takes_writes_is_wanted_and_none_takes_all_the_time() {
        let config = Config {
            url: "postgresql://p@127.0.0.1:5432,127.0.0.1:5433/a".to_owned(),
            password: None,
            batch: 1,
            tls: TlsMode::Disable,
            ca_file: None,
            timeout: Duration::from_secs(3),
        };
        let endpoint = Endpoint::of_sink(&config, Clock::new(SyncSource::Trusted)).expect("an address");
        assert_eq!(endpoint.config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        assert_eq!(endpoint.config.get_connect_timeout(), Some(&Duration::from_secs(1)));
    }

    #[test]
    fn a_url_must_name_host_and_user() {
        for bad in ["postgresql:///a", "postgresql://db.example.com/a", "db.example.com"] {
            assert!(matches!(endpoint(bad, TlsMode::Require), Err(Error::Address(_))), "{bad}");
        }
    }

    #[test]
    fn the_word_prefer_in_a_url_does_not_weaken_tls() {
        let endpoint = endpoint("postgresql://p@db.example.com/a?sslmode=disable", TlsMode::Insecure);
        assert_eq!(endpoint.map(|e| e.config.get_ssl_mode()).ok(), Some(SslMode::Require));
    }
}
