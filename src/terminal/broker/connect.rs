//! The beginning of a connection: CONNECT, who it is, CONNACK.
//!
//! Must not: take more than a small packet or a short time from somebody who has not said who he is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::{LastWill, Packet};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Server;
use super::access::Verdict;
use super::client::Client;
use super::packet::{self, CONNECT, Refusal};

/// Between the connection and its CONNECT.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest CONNECT: a will of 64 KiB, ids and passwords.
const MAX_CONNECT_BYTES: usize = 80 * 1024;

/// Longest client id. The standard asks for 23, real ones carry serial numbers and a UUID.
const MAX_CLIENT_ID: usize = 256;

/// A silent peer is probed after this long, so that one without keep-alive can't be half-open for ever, seconds.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// Return codes of CONNACK (table 3.1).
const ACCEPTED: u8 = 0;
const BAD_PROTOCOL: u8 = 1;
const BAD_CLIENT_ID: u8 = 2;
const BAD_CREDENTIALS: u8 = 4;
const NOT_AUTHORISED: u8 = 5;

/// Numbers the clients that leave their id to us.
static ANONYMOUS: AtomicU64 = AtomicU64::new(1);

/// What a client asked for.
struct Wishes {
    client_id: String,
    persistent: bool,
    keep_alive: Duration,
    will: Option<LastWill>,
}

/// Serves one connection from CONNECT to its end.
pub(super) async fn serve(server: Arc<Server>, mut stream: TcpStream) {
    prepare(&stream);
    let shutdown = server.hub.context.shutdown.clone();
    let mut input = BytesMut::with_capacity(4096);
    let greeted = tokio::select! {
        greeted = tokio::time::timeout(CONNECT_TIMEOUT, greet(&server, &mut stream, &mut input)) => greeted,
        () = shutdown.cancelled() => return,
    };
    let wishes = match greeted {
        Ok(Ok(wishes)) => wishes,
        Ok(Err((code, reason))) => {
            server.refused(reason);
            if let Some(code) = code {
                // Whether he hears it is his affair.
                let _ = tokio::time::timeout(CONNECT_TIMEOUT, stream.write_all(&[0x20, 2, 0, code])).await;
            }
            return;
        }
        Err(_) => {
            server.refused("no CONNECT within ten seconds");
            return;
        }
    };
    let ticket = server.registry.enter(&server.hub.context.journal, wishes.client_id, wishes.persistent).await;
    tracing::debug!(terminal = server.hub.name, "client connected");
    let mut client = Client::new(server, stream, input, ticket, wishes.keep_alive, wishes.will);
    client.answer(&[0x20, 2, u8::from(client.session_present()), ACCEPTED]);
    client.run().await;
}

fn prepare(stream: &TcpStream) {
    // Neither is needed for correctness; a peer that resets at once makes them fail.
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_socket_keepalive(stream, true);
    let _ = rustix::net::sockopt::set_tcp_keepidle(stream, TCP_KEEPALIVE);
}

type Refused = (Option<u8>, &'static str);

async fn greet(server: &Server, stream: &mut TcpStream, input: &mut BytesMut) -> Result<Wishes, Refused> {
    let header = loop {
        // The first byte tells an HTTP scanner or a TLS client from a terminal.
        if input.first().is_some_and(|first| *first != CONNECT << 4) {
            return Err((None, "first packet is not CONNECT; is the client set to TLS or WebSocket?"));
        }
        match packet::header(input, MAX_CONNECT_BYTES) {
            Ok(Ok(header)) => break header,
            Ok(Err(missing)) => input.reserve(missing),
            Err(Refusal::TooLarge(_)) => return Err((None, "CONNECT is too large")),
            Err(_) => return Err((None, "CONNECT is malformed")),
        }
        match stream.read_buf(input).await {
            Ok(0) | Err(_) => return Err((None, "connection closed before CONNECT")),
            Ok(_) => {}
        }
    };
    check_protocol(&input[header.start..header.total])?;
    let mut frame = input.split_to(header.total);
    let Ok(Packet::Connect(connect)) = Packet::read(&mut frame, MAX_CONNECT_BYTES) else {
        return Err((None, "CONNECT is malformed"));
    };
    let persistent = !connect.clean_session;
    let client_id = match connect.client_id {
        id if id.is_empty() && persistent => {
            return Err((Some(BAD_CLIENT_ID), "a persistent session needs a client id"));
        }
        id if id.is_empty() => format!("portero-{}", ANONYMOUS.fetch_add(1, Ordering::Relaxed)),
        id if id.len() > MAX_CLIENT_ID => return Err((Some(BAD_CLIENT_ID), "client id is longer than 256 bytes")),
        id => id,
    };
    let login = connect.login.as_ref().map(|l| (l.username.as_str(), l.password.as_str()));
    match server.access.judge(login) {
        Verdict::Accepted => {}
        Verdict::BadCredentials => return Err((Some(BAD_CREDENTIALS), "wrong user or password")),
        Verdict::NotAuthorised => return Err((Some(NOT_AUTHORISED), "no user and password, and anonymous is off")),
    }
    let keep_alive = Duration::from_millis(u64::from(connect.keep_alive) * 1500);
    Ok(Wishes { client_id, persistent, keep_alive, will: connect.last_will })
}

/// Name and level stand before anything whose layout differs between versions.
fn check_protocol(body: &[u8]) -> Result<(), Refused> {
    let malformed = (None, "CONNECT is malformed");
    let (length, rest) = body.split_first_chunk::<2>().ok_or(malformed)?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(malformed)?;
    match (name, rest) {
        (b"MQTT", [4, flags, ..]) if flags & 1 == 0 => Ok(()),
        (b"MQTT", [4, ..]) => Err((None, "CONNECT has its reserved flag set")),
        (b"MQTT" | b"MQIsdp", _) => Err((Some(BAD_PROTOCOL), "not MQTT 3.1.1; set the terminal to version 3.1.1")),
        _ => Err(malformed),
    }
}
