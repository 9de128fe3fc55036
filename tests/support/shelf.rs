//! A static host: serves what a test lays on it, with entity tags, or misbehaves.
//!
//! Must not: know what is served.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// How it answers.
#[derive(Clone, Default)]
pub enum Manner {
    /// What lies there, or 404.
    #[default]
    Files,
    /// A page, with 200.
    Page,
    /// To another address.
    Redirect(String),
    /// Nothing, on an open connection.
    Hang,
    /// A body without end, a byte at a time.
    Trickle,
    /// A body without end, up to so many bytes, without a length.
    Flood(usize),
}

/// A running host; its threads end with the test.
pub struct Shelf {
    /// Where it listens, on loopback.
    pub port: u16,
    files: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    manner: Arc<Mutex<Manner>>,
    asked: Arc<AtomicU32>,
    unchanged: Arc<AtomicU32>,
}

impl Shelf {
    /// With nothing on it.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shelf = Self {
            port: listener.local_addr().unwrap().port(),
            files: Arc::default(),
            manner: Arc::default(),
            asked: Arc::default(),
            unchanged: Arc::default(),
        };
        let (files, manner) = (Arc::clone(&shelf.files), Arc::clone(&shelf.manner));
        let (asked, unchanged) = (Arc::clone(&shelf.asked), Arc::clone(&shelf.unchanged));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (files, manner) = (Arc::clone(&files), manner.lock().unwrap().clone());
                let (asked, unchanged) = (Arc::clone(&asked), Arc::clone(&unchanged));
                std::thread::spawn(move || {
                    asked.fetch_add(1, Ordering::Relaxed);
                    // Whoever asked may be gone.
                    let _ = answer(stream, &files, &manner, &unchanged);
                });
            }
        });
        shelf
    }

    /// Where a file is.
    pub fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }

    /// Lays a file and its signature, both at once.
    pub fn lay(&self, name: &str, payload: &[u8], signature: &str) {
        let mut files = self.files.lock().unwrap();
        files.insert(format!("/{name}.minisig"), signature.as_bytes().to_vec());
        files.insert(format!("/{name}"), payload.to_vec());
    }

    /// From now on.
    pub fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// How often it was asked.
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    /// How often it said that nothing is new.
    pub fn unchanged(&self) -> u32 {
        self.unchanged.load(Ordering::Relaxed)
    }
}

fn answer(
    mut stream: TcpStream,
    files: &Mutex<HashMap<String, Vec<u8>>>,
    manner: &Manner,
    unchanged: &AtomicU32,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or("/").to_owned();
    let mut tag = None;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("if-none-match")
        {
            tag = Some(value.to_owned());
        }
    }
    let head = |status: &str, more: &str, length: usize| {
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{more}\r\n")
    };
    match manner {
        Manner::Files => {
            let body = files.lock().unwrap().get(&path).cloned();
            let Some(body) = body else { return stream.write_all(head("404 Not Found", "", 0).as_bytes()) };
            let own = format!("\"{}\"", crate::support::shelf::sum(&body));
            if tag.as_deref() == Some(own.as_str()) {
                unchanged.fetch_add(1, Ordering::Relaxed);
                return stream.write_all(head("304 Not Modified", "", 0).as_bytes());
            }
            stream.write_all(head("200 OK", &format!("ETag: {own}\r\n"), body.len()).as_bytes())?;
            stream.write_all(&body)
        }
        Manner::Page => {
            let body = "<!DOCTYPE html><html>Please log in to this network</html>";
            stream.write_all(head("200 OK", "Content-Type: text/html\r\n", body.len()).as_bytes())?;
            stream.write_all(body.as_bytes())
        }
        Manner::Redirect(to) => stream.write_all(head("302 Found", &format!("Location: {to}\r\n"), 0).as_bytes()),
        Manner::Hang => {
            // Until the other side gives up.
            let mut rest = [0; 1];
            std::io::Read::read(&mut stream, &mut rest).map(drop)
        }
        Manner::Trickle => {
            stream.write_all(head("200 OK", "", 1 << 16).as_bytes())?;
            loop {
                stream.write_all(b"#")?;
                pause();
            }
        }
        Manner::Flood(most) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            let chunk = vec![b'#'; 1 << 16];
            (0..most / chunk.len()).try_for_each(|_| stream.write_all(&chunk))
        }
    }
}

/// The far end is slow itself.
#[expect(clippy::disallowed_methods, reason = "it plays a slow far end, it does not wait for anything")]
fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(100));
}

/// Another text, another number.
pub fn sum(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
