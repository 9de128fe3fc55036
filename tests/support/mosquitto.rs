//! A real mosquitto with a configuration, a port and a store of its own.
//!
//! Must not: touch the machine's own broker.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::wait::{DEADLINE, eventually};
use super::{Process, find_program, free_port};

/// What can be chosen.
#[derive(Debug, Clone)]
pub struct MosquittoOptions {
    /// Keeps sessions and messages in a file, and saves it at every change.
    pub persistence: bool,
    /// `max_inflight_messages`; mosquitto's own default is 20.
    pub max_inflight: u32,
    /// `max_queued_messages`; mosquitto's own default is 1000, 0 is no limit.
    pub max_queued: u32,
    /// Anybody may connect.
    pub allow_anonymous: bool,
    /// Further lines of the configuration file.
    pub extra: Vec<String>,
}

impl Default for MosquittoOptions {
    fn default() -> Self {
        Self { persistence: true, max_inflight: 1000, max_queued: 0, allow_anonymous: true, extra: Vec::new() }
    }
}

/// A running broker; killed on drop.
pub struct Mosquitto {
    /// Where it listens, on loopback.
    pub port: u16,
    dir: PathBuf,
    process: Option<Process>,
}

impl Mosquitto {
    /// Starts one in `dir` (which must outlive it) and waits until it answers an MQTT client.
    pub fn start(dir: &Path, options: &MosquittoOptions) -> Self {
        let dir = dir.join("mosquitto");
        std::fs::create_dir_all(&dir).unwrap();
        let port = free_port();
        let mut config = format!("listener {port} 127.0.0.1\n");
        config += &format!("allow_anonymous {}\n", options.allow_anonymous);
        config += &format!("max_inflight_messages {}\n", options.max_inflight);
        config += &format!("max_queued_messages {}\n", options.max_queued);
        config += "log_type error\nlog_type warning\nlog_type notice\n";
        if options.persistence {
            config += &format!("persistence true\npersistence_location {}/\n", dir.display());
            config += "autosave_on_changes true\nautosave_interval 1\n";
        }
        if rustix::process::getuid().is_root() {
            config += "user root\n"; // else it could not write into a directory of ours
        }
        for line in &options.extra {
            config += line;
            config += "\n";
        }
        std::fs::write(dir.join("mosquitto.conf"), config).unwrap();
        let mut broker = Self { port, dir, process: None };
        broker.restart();
        broker
    }

    /// `mqtt://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// SIGTERM, which lets it save its store, and waits for the end.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(rustix::process::Signal::TERM);
            process.wait(DEADLINE);
        }
    }

    /// Starts it again on the same port with the same store (killing it before, if it runs).
    pub fn restart(&mut self) {
        self.kill9();
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = Command::new(find_program("mosquitto", &[]));
        command.arg("-c").arg(self.dir.join("mosquitto.conf")).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let mut process = Process::spawn(&mut command);
        let port = self.port;
        eventually("mosquitto answers", DEADLINE, || {
            assert!(process.running(), "mosquitto ended: {}", self.log());
            answers(port)
        });
        self.process = Some(process);
    }

    /// Removes its store; call it between [`Self::kill9`] and [`Self::restart`].
    pub fn wipe_store(&self) {
        let _ = std::fs::remove_file(self.dir.join("mosquitto.db"));
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

/// CONNECT of a nameless client with a clean session, and a CONNACK that refuses or not: either is an answer.
fn answers(port: u16) -> bool {
    const CONNECT: &[u8] = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00";
    let attempt = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(CONNECT)?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        Ok(answer[0] == 0x20)
    };
    attempt().unwrap_or(false)
}
