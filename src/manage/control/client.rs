//! The other end of the control socket, for the command line: one request, one answer, then closed.
//!
//! Must not: be used by the gateway itself (it blocks).

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// The gateway answers from memory and from an index: a second is long, but a card may be slow.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Longest answer, bytes: 1,000 devices behind each of some dozen links.
const MAX_ANSWER: u64 = 16 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens: no gateway runs with this socket.
    #[error("no gateway listens on {0}")]
    Absent(std::path::PathBuf),
    /// Somebody listens, and we may not talk to it.
    #[error("not allowed to talk to the gateway on {0}; run as root, or as a member of the group portero")]
    Forbidden(std::path::PathBuf),
    /// The connection failed.
    #[error("control socket failed")]
    Io(#[from] io::Error),
    /// The gateway refused, in its own words.
    #[error("{0}")]
    Refused(String),
}

/// `GET path`.
pub fn get(socket: &Path, path: &str) -> Result<Value, Error> {
    get_within(socket, path, TIMEOUT)
}

/// The same where each read may take so long.
pub fn get_within(socket: &Path, path: &str, within: Duration) -> Result<Value, Error> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: portero\r\nConnection: close\r\n\r\n");
    worded(ask(socket, &request, within)?)
}

/// `POST path` with a JSON body.
pub fn post(socket: &Path, path: &str, body: &Value) -> Result<Value, Error> {
    worded(send(socket, path, body)?)
}

/// The same where the answer of a refusal is an object that says more than its words.
pub fn post_for(socket: &Path, path: &str, body: &Value) -> Result<Value, Error> {
    match send(socket, path, body)? {
        (409, value) if value["outcome"].is_string() => Ok(value),
        answer => worded(answer),
    }
}

fn send(socket: &Path, path: &str, body: &Value) -> Result<(u16, Value), Error> {
    let body = body.to_string();
    ask(
        socket,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: portero\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ),
        TIMEOUT,
    )
}

fn ask(socket: &Path, request: &str, within: Duration) -> Result<(u16, Value), Error> {
    let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::Absent(socket.to_owned()),
        io::ErrorKind::PermissionDenied => Error::Forbidden(socket.to_owned()),
        _ => Error::Io(error),
    })?;
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(within))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP");
    // axum answers JSON with Content-Length, and `Connection: close` ends it: no chunks to undo.
    let split = answer.windows(4).position(|w| w == b"\r\n\r\n").ok_or_else(broken)?;
    let head = std::str::from_utf8(&answer[..split]).map_err(|_| broken())?;
    let status: u16 = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(broken)?;
    let body = &answer[split + 4..];
    let value: Value = serde_json::from_slice(body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).chars().take(200).collect()));
    Ok((status, value))
}

fn worded((status, value): (u16, Value)) -> Result<Value, Error> {
    if (200..300).contains(&status) {
        return Ok(value);
    }
    let words = value["error"].as_str().or(value.as_str()).unwrap_or("no reason given");
    Err(Error::Refused(format!("the gateway answered {status}: {words}")))
}
