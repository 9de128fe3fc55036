//! How far one gets towards a server: its name, a connection, TLS, and what its certificate says. For `portero doctor`.
//!
//! Must not: send anything but a handshake, carry a payload, or wait beyond the caller's limit.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// `subjectAltName` (RFC 5280 §4.2.1.6).
const ALT_NAME: &str = "2.5.29.17";

/// So many addresses of one name are tried.
const MOST_ADDRESSES: usize = 4;

/// Where it ended, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found}")]
pub struct Trouble {
    /// `name`, `refused`, `timeout`, `unreachable`, `tls`, `login`, `schema` or `settings`.
    pub cause: &'static str,
    /// What was seen.
    pub found: String,
    /// What to do, in one line.
    pub remedy: String,
}

impl Trouble {
    /// A trouble in words.
    pub fn new(cause: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { cause, found: found.into(), remedy: remedy.into() }
    }

    /// Nothing came before the limit.
    pub fn late(what: &str) -> Self {
        Self::new("timeout", format!("{what} in time"), "look for a firewall or a route that swallows packets")
    }
}

/// What a server showed of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// `TLS 1.3` or `TLS 1.2`.
    pub protocol: &'static str,
    /// Whom the certificate is for (RFC 4514).
    pub subject: String,
    /// The host names and addresses in it.
    pub names: Vec<String>,
    /// Who signed it.
    pub issuer: String,
    /// `notAfter`, microseconds UTC.
    pub until: i64,
}

/// What was learned of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// What answered, or where it ended.
    pub reached: Result<String, Trouble>,
    /// What it showed of itself, also where that was not accepted.
    pub tls: Option<Shown>,
    /// What the server takes for the time, microseconds UTC, where it says so.
    pub clock: Option<i64>,
    /// It answers, and something is still odd: what, and the remedy.
    pub doubt: Option<Trouble>,
}

impl Learned {
    /// It ended here.
    pub const fn failed(trouble: Trouble, tls: Option<Shown>) -> Self {
        Self { reached: Err(trouble), tls, clock: None, doubt: None }
    }

    /// It answers.
    pub const fn answers(words: String, tls: Option<Shown>) -> Self {
        Self { reached: Ok(words), tls, clock: None, doubt: None }
    }
}

/// Connects to a host and port.
pub async fn dial(host: &str, port: u16, deadline: Instant) -> Result<TcpStream, Trouble> {
    let addresses: Vec<SocketAddr> = match timeout_at(deadline, tokio::net::lookup_host((host, port))).await {
        Err(_) => {
            let found = format!("no name server says in time where {host} is");
            return Err(Trouble::new("name", found, "check the network and /etc/resolv.conf"));
        }
        Ok(Err(error)) => {
            let found = format!("the name {host} cannot be resolved ({error})");
            return Err(Trouble::new("name", found, "correct the host in the configuration, or mend /etc/resolv.conf"));
        }
        Ok(Ok(found)) => found.take(MOST_ADDRESSES).collect(),
    };
    let mut trouble = Trouble::new("name", format!("the name {host} has no address"), "correct the host");
    for (at, address) in addresses.iter().enumerate() {
        // Each its share of what is left, so that a dead one is passed by.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - at).unwrap_or(1);
        match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => trouble = unreached(*address, &error),
            Err(_) => trouble = Trouble::late(&format!("no connection to {address}")),
        }
    }
    Err(trouble)
}

fn unreached(address: SocketAddr, error: &std::io::Error) -> Trouble {
    if error.kind() == std::io::ErrorKind::ConnectionRefused {
        let found = format!("{address} refuses the connection");
        return Trouble::new("refused", found, "start the server there, or correct host and port");
    }
    let found = format!("{address} cannot be reached ({error})");
    Trouble::new("unreachable", found, "check cable, address and default route of this machine")
}

/// Shakes hands as `config` says. Where the certificate is not accepted a second handshake, over a connection of its own
/// that is closed at once, learns what it says; nothing is sent over either.
pub async fn look<F>(
    open: impl Fn() -> F,
    host: &str,
    config: Arc<ClientConfig>,
    deadline: Instant,
) -> (Option<Shown>, Result<(), Trouble>)
where
    F: Future<Output = Result<TcpStream, Trouble>>,
{
    match shake(&open, host, config, deadline).await {
        Ok(shown) => (shown, Ok(())),
        Err(trouble) if trouble.cause == "certificate" => {
            let trouble = Trouble { cause: "tls", ..trouble };
            let Ok(any) = super::client_config(super::TlsMode::Insecure, None) else { return (None, Err(trouble)) };
            (shake(&open, host, any, deadline).await.ok().flatten(), Err(trouble))
        }
        Err(trouble) => (None, Err(trouble)),
    }
}

async fn shake<F>(
    open: &impl Fn() -> F,
    host: &str,
    config: Arc<ClientConfig>,
    deadline: Instant,
) -> Result<Option<Shown>, Trouble>
where
    F: Future<Output = Result<TcpStream, Trouble>>,
{
    let stream = open().await?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Trouble::new("settings", format!("{host} is no name for a certificate"), "correct the host"))?;
    let connector = tokio_rustls::TlsConnector::from(config);
    let stream = timeout_at(deadline, connector.connect(name, stream))
        .await
        .map_err(|_| Trouble::late("no TLS handshake"))?
        .map_err(|error| refused(&error))?;
    let (_, session) = stream.get_ref();
    let protocol = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "TLS 1.2",
    };
    Ok(session.peer_certificates().and_then(|chain| shown(chain.first()?, protocol)))
}

/// What a failed handshake means, by type.
fn refused(error: &std::io::Error) -> Trouble {
    use CertificateError as C;
    let certificate = |found: &str, remedy: &str| Trouble::new("certificate", found, remedy);
    let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        let found = format!("the server ends the TLS handshake ({})", error.kind());
        return Trouble::new("tls", found, "check that this port speaks TLS, and that the server wants no certificate");
    };
    match inner {
        rustls::Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => {
            certificate("the server's certificate has expired", "have it renewed; or this machine's clock is wrong")
        }
        rustls::Error::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => {
            certificate("the server's certificate is not valid yet", "check both clocks")
        }
        rustls::Error::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => certificate(
            "the server's certificate is for another name",
            "write the name that stands in the certificate into url",
        ),
        rustls::Error::InvalidCertificate(C::UnknownIssuer) => certificate(
            "the server's certificate is signed by an authority that we don't know",
            "set ca_file to that authority's certificate",
        ),
        rustls::Error::InvalidCertificate(other) => certificate(
            &format!("the server's certificate is not acceptable ({other})"),
            "have the server's certificate made anew",
        ),
        rustls::Error::InvalidMessage(_) => {
            Trouble::new("tls", "the server does not speak TLS on this port", "correct port or scheme of the address")
        }
        other => Trouble::new("tls", format!("TLS fails ({other})"), "check which TLS the server speaks (1.2 or 1.3)"),
    }
}

fn shown(der: &CertificateDer<'_>, protocol: &'static str) -> Option<Shown> {
    let certificate = x509_cert::Certificate::from_der(der).ok()?.tbs_certificate;
    let extensions = certificate.extensions.unwrap_or_default();
    let alt = extensions.iter().find(|extension| extension.extn_id.to_string() == ALT_NAME);
    let alt = alt.and_then(|extension| SubjectAltName::from_der(extension.extn_value.as_bytes()).ok());
    let names = alt.iter().flat_map(|alt| &alt.0).filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => address(bytes.as_bytes()),
        _ => None,
    });
    Some(Shown {
        protocol,
        subject: certificate.subject.to_string(),
        names: names.collect(),
        issuer: certificate.issuer.to_string(),
        until: i64::try_from(certificate.validity.not_after.to_unix_duration().as_micros()).ok()?,
    })
}

fn address(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|four| std::net::Ipv4Addr::from(four).to_string()),
        _ => <[u8; 16]>::try_from(bytes).ok().map(|sixteen| std::net::Ipv6Addr::from(sixteen).to_string()),
    }
}
