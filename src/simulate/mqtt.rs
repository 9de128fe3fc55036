//! The client side of an MQTT 3.1.1 connection, as lean as a device's: one buffer each way, packet ids of its own.
//!
//! Must not: know what it carries.

use bytes::{Buf as _, BytesMut};
use rumqttc::mqttbytes::v4::{Connect, LastWill, Login, Packet};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant};

/// Largest packet that a device takes, bytes.
const MAX_PACKET_BYTES: usize = 1 << 20;

/// A connection that isn't made or answered within this time is given up.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Keep-alive that a device promises, seconds. A ping goes at half of it.
const KEEP_ALIVE_SECONDS: u16 = 30;

/// Longest pause between two attempts to connect.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// `mqtt://[user:password@]host[:port]`
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    host: String,
    port: u16,
    login: Option<(String, String)>,
}

impl std::fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mqtt://{}:{}", self.host, self.port)
    }
}

impl std::str::FromStr for BrokerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("mqtt://").ok_or("a broker is named as mqtt://HOST:PORT, without TLS")?;
        let (login, rest) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((login, rest)) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                (Some((user.to_owned(), password.to_owned())), rest)
            }
        };
        let rest = rest.trim_end_matches('/');
        let (host, port) = match rest.rsplit_once(':') {
            None => (rest, 1883),
            Some((host, port)) => (host, port.parse().map_err(|_| format!("'{port}' is no port: 1 to 65535"))?),
        };
        if host.is_empty() {
            return Err("the broker's host is missing: mqtt://HOST:PORT".to_owned());
        }
        Ok(Self { host: host.trim_matches(['[', ']']).to_owned(), port, login })
    }
}

/// Who connects.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// Client id.
    pub(super) id: String,
    /// Keeps its session at the broker.
    pub(super) persistent: bool,
    /// Topic and payload that the broker publishes when the device disappears.
    pub(super) will: Option<(String, Vec<u8>)>,
}

/// An open connection. Callers append packets to `output`; it leaves while they wait in [`Self::step`].
pub(super) struct Connection {
    stream: TcpStream,
    pub(super) output: BytesMut,
    input: BytesMut,
    heard: Instant,
    pinged: Instant,
}

/// What happened while waiting.
pub(super) enum Heard {
    /// A packet id was acknowledged.
    Ack(u16),
    /// Another packet.
    Packet(Packet),
}

impl Connection {
    /// Connects and waits for CONNACK.
    async fn open(url: &BrokerUrl, client: &Client) -> std::io::Result<Self> {
        let stream = TcpStream::connect((url.host.as_str(), url.port)).await?;
        stream.set_nodelay(true)?;
        let now = Instant::now();
        let mut connection =
            Self { stream, output: BytesMut::new(), input: BytesMut::with_capacity(16 << 10), heard: now, pinged: now };
        let mut connect = Connect::new(&client.id);
        connect.clean_session = !client.persistent;
        connect.keep_alive = KEEP_ALIVE_SECONDS;
        connect.login =
            url.login.as_ref().map(|(user, password)| Login { username: user.clone(), password: password.clone() });
        connect.last_will = client
            .will
            .as_ref()
            .map(|(topic, payload)| LastWill::new(topic, payload.clone(), rumqttc::mqttbytes::QoS::AtMostOnce, false));
        connection.put(&Packet::Connect(connect));
        while !connection.output.is_empty() {
            connection.stream.write_buf(&mut connection.output).await?;
        }
        loop {
            match connection.take()? {
                Some(Heard::Packet(Packet::ConnAck(ack))) if ack.code == rumqttc::ConnectReturnCode::Success => {
                    return Ok(connection);
                }
                Some(Heard::Packet(Packet::ConnAck(ack))) => {
                    return Err(std::io::Error::other(format!("the broker refused: {:?}", ack.code)));
                }
                Some(_) => return Err(std::io::Error::other("the broker did not begin with CONNACK")),
                None => connection.fill().await?,
            }
        }
    }

    /// Connects, and tries again with growing pauses until it works. The first failure of a row is a warning.
    pub(super) async fn open_patiently(url: &BrokerUrl, client: &Client) -> Self {
        let mut pause = Duration::from_millis(100);
        let mut attempt = 0_u32;
        loop {
            let problem = match tokio::time::timeout(CONNECT_DEADLINE, Self::open(url, client)).await {
                Ok(Ok(connection)) => {
                    if attempt > 0 {
                        tracing::info!(count = attempt, "broker is reachable again");
                    }
                    return connection;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            attempt += 1;
            if attempt == 1 {
                tracing::warn!(reason = problem, "broker is not reachable, trying until it is");
            } else {
                tracing::debug!(attempt, reason = problem, "broker is not reachable");
            }
            // Jitter, so that a thousand devices don't come back at once.
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Appends a packet. Packets of ours always fit.
    pub(super) fn put(&mut self, packet: &Packet) {
        let _ = packet.write(&mut self.output, usize::MAX);
    }

    /// Sends and receives until something was heard, `output` has left, or `until`. Safe to cancel: a byte is either
    /// still in `output` or gone.
    pub(super) async fn step(&mut self, until: Instant) -> std::io::Result<()> {
        let ping_at = self.pinged + Duration::from_secs(u64::from(KEEP_ALIVE_SECONDS) / 2);
        let (mut reader, mut writer) = self.stream.split();
        tokio::select! {
            read = reader.read_buf(&mut self.input) => {
                if read? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                self.heard = Instant::now();
            }
            written = writer.write_buf(&mut self.output), if !self.output.is_empty() => {
                written?;
            }
            () = tokio::time::sleep_until(until.min(ping_at)) => {}
        }
        let now = Instant::now();
        if now >= ping_at {
            if now - self.heard > Duration::from_secs(u64::from(KEEP_ALIVE_SECONDS)) {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
            self.pinged = now;
            self.put(&Packet::PingReq);
        }
        Ok(())
    }

    /// The next thing that was heard, if it is complete.
    pub(super) fn take(&mut self) -> std::io::Result<Option<Heard>> {
        // Acknowledgements come by the hundred thousand: they are read without the general parser.
        if let [0x40, 0x02, high, low, ..] = self.input[..] {
            self.input.advance(4);
            return Ok(Some(Heard::Ack(u16::from_be_bytes([high, low]))));
        }
        match Packet::read(&mut self.input, MAX_PACKET_BYTES) {
            Ok(packet) => Ok(Some(Heard::Packet(packet))),
            Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(std::io::Error::other(format!("the broker speaks no MQTT 3.1.1: {error:?}"))),
        }
    }

    /// Says goodbye, so that the broker publishes no last will.
    pub(super) async fn close(mut self) {
        self.put(&Packet::Disconnect);
        while !self.output.is_empty() {
            if self.stream.write_buf(&mut self.output).await.is_err() {
                return;
            }
        }
        let _ = self.stream.shutdown().await;
    }

    async fn fill(&mut self) -> std::io::Result<()> {
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Encodes a QoS 1 publish into `frame`, replacing what was there. The DUP bit of a frame is [`DUP`] in its first byte.
pub(super) fn encode_publish(topic: &str, packet_id: u16, payload: &[u8], frame: &mut Vec<u8>) {
    frame.clear();
    frame.push(0x32);
    let mut length = 2 + topic.len() + 2 + payload.len();
    loop {
        let low = (length & 0x7F) as u8; // seven bits
        length >>= 7;
        frame.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    let topic_length = u16::try_from(topic.len()).unwrap_or(u16::MAX);
    frame.extend_from_slice(&topic_length.to_be_bytes());
    frame.extend_from_slice(topic.as_bytes());
    frame.extend_from_slice(&packet_id.to_be_bytes());
    frame.extend_from_slice(payload);
}

/// The bit of a publish's first byte that says "again" (MQTT 3.1.1 §3.3.1.1).
pub(super) const DUP: u8 = 0x08;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_reads_back_through_the_library_of_the_other_side() {
        for size in [0, 1, 100, 127, 128, 20_000] {
            let payload = vec![b'x'; size];
            let mut frame = Vec::new();
            encode_publish("site/yard/a/events", 513, &payload, &mut frame);
            frame[0] |= DUP;
            let mut bytes = BytesMut::from(&frame[..]);
            let Packet::Publish(publish) = Packet::read(&mut bytes, 1 << 20).unwrap() else { unreachable!() };
            assert!(publish.dup && bytes.is_empty());
            assert_eq!(
                (publish.topic.as_str(), publish.pkid, publish.payload.len()),
                ("site/yard/a/events", 513, size)
            );
        }
    }

    #[test]
    fn a_broker_url_is_read_or_refused_with_a_remedy() {
        let url: BrokerUrl = "mqtt://127.0.0.1:1884".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port, &url.login), ("127.0.0.1", 1884, &None));
        let url: BrokerUrl = "mqtt://u:p@broker/".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port), ("broker", 1883));
        assert_eq!(format!("{url:?}"), "mqtt://broker:1883", "a password is never shown");
        assert!("mqtts://x".parse::<BrokerUrl>().unwrap_err().contains("mqtt://HOST:PORT"));
        assert!("mqtt://x:99999".parse::<BrokerUrl>().is_err());
    }
}
