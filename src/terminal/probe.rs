//! Whether a broker answers and lets us in: for `portero doctor`.
//!
//! Must not: use the gateway's own client id (the broker would throw the gateway out), leave a session behind, subscribe or
//! publish.

use std::net::SocketAddr;
use std::time::Duration;

use rumqttc::{AsyncClient, ConnectReturnCode, ConnectionError, Event, Packet};
use tokio::time::{Instant, timeout_at};

use super::ConnectConfig;
use super::mqtt::session;
use crate::tls::TlsMode;
use crate::tls::reach::{Learned, Trouble, dial, look};

/// Nothing that a broker says to a client without subscriptions is longer, bytes.
const MAX_PACKET: usize = 64 * 1024;

/// Connects to a broker as the gateway would, under a client id and a session of its own that end at once.
pub async fn broker(connect: &ConnectConfig, within: Duration) -> Learned {
    let deadline = Instant::now() + within;
    let open = || dial(&connect.host, connect.port, deadline);
    let shown = if connect.tls == TlsMode::Disable {
        match open().await {
            Ok(_) => None,
            Err(trouble) => return Learned::failed(trouble, None),
        }
    } else {
        let tls = match crate::tls::client_config(connect.tls, connect.ca_file.as_deref()) {
            Ok(tls) => tls,
            Err(error) => return Learned::failed(settings(&error.to_string()), None),
        };
        match look(open, &connect.host, tls, deadline).await {
            (shown, Ok(())) => shown,
            (shown, Err(trouble)) => return Learned::failed(trouble, shown),
        }
    };
    match timeout_at(deadline, enter(connect)).await {
        Ok(Ok(())) => Learned::answers("lets us in".to_owned(), shown),
        Ok(Err(trouble)) => Learned::failed(trouble, shown),
        Err(_) => Learned::failed(Trouble::late("no answer to CONNECT"), shown),
    }
}

async fn enter(connect: &ConnectConfig) -> Result<(), Trouble> {
    let guest =
        ConnectConfig { client_id: format!("{}-doctor", connect.client_id), status_topic: None, ..connect.clone() };
    let mut options = session::options(&guest, MAX_PACKET).map_err(|error| settings(&error.to_string()))?;
    options.set_clean_session(true);
    let (client, mut events) = AsyncClient::new(options, 4);
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => break,
            Ok(_) => {}
            Err(error) => return Err(refused(&error)),
        }
    }
    if client.disconnect().await.is_ok() {
        // Sends the farewell; that the connection then ends is what we want.
        while let Ok(event) = events.poll().await {
            if matches!(event, Event::Outgoing(rumqttc::Outgoing::Disconnect)) {
                break;
            }
        }
    }
    Ok(())
}

fn refused(error: &ConnectionError) -> Trouble {
    let words = session::explain(error);
    let (found, remedy) = words.split_once("; ").unwrap_or((&words, "look into the broker's log"));
    let cause = match error {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized | ConnectReturnCode::BadClientId,
        ) => "login",
        _ => "broker",
    };
    Trouble::new(cause, found, remedy)
}

fn settings(found: &str) -> Trouble {
    Trouble::new("settings", found, "see the credentials above, or run: portero check")
}

/// Whether somebody takes connections at an address of this machine.
pub async fn listens(address: SocketAddr, within: Duration) -> bool {
    let to = match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (std::net::Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    };
    matches!(tokio::time::timeout(within, tokio::net::TcpStream::connect(to)).await, Ok(Ok(_)))
}
