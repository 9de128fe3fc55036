//! One HTTP request over a plain connection, exactly as written: also with a `Host` that a client library would refuse.
//!
//! Must not: follow anything or keep a connection.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// A header's value, by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Sends `METHOD PATH` with these header lines (each ended by `\r\n`) and a body, and reads the answer.
pub(crate) fn send(port: u16, method: &str, path: &str, headers: &str, body: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    write!(stream, "{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\n{length}\r\n{body}")?;
    let broken = || std::io::Error::new(std::io::ErrorKind::InvalidData, "no HTTP");
    let mut bytes = Vec::new();
    let mut end = None;
    let mut part = [0; 16 * 1024];
    // Until the length that was announced, or the end: a server may keep the connection all the same.
    loop {
        if end.is_some_and(|end| bytes.len() >= end) {
            break;
        }
        let read = stream.read(&mut part)?;
        if read == 0 {
            break;
        }
        bytes.extend_from_slice(&part[..read]);
        if end.is_none()
            && let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
            end = length.filter(|_| method != "HEAD").map(|length| at + 4 + length);
        }
    }
    let at = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(broken)?;
    let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    Ok(Answer { status, head, body: String::from_utf8_lossy(&bytes[at + 4..]).into_owned() })
}

/// `GET path` as a browser on this machine would.
#[track_caller]
pub(crate) fn get(port: u16, path: &str) -> Answer {
    send(port, "GET", path, &format!("Host: 127.0.0.1:{port}\r\n"), "").unwrap()
}
