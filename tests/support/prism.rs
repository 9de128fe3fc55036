//! A real Prism: a mock of an OpenAPI document that judges every request, written by others.
//!
//! Must not: be installed here (`make deps` puts it into `target/prism`).

use std::path::Path;
use std::process::{Command, Stdio};

use super::wait::{DEADLINE, eventually};
use super::{Process, find_program, free_port};

/// A running Prism; killed on drop.
pub struct Prism {
    /// Where it listens, on loopback.
    pub port: u16,
    process: Process,
    log: std::path::PathBuf,
}

impl Prism {
    /// Serves a document, and waits until it does. The log goes beside the document.
    pub fn start(document: &Path) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/prism/node_modules/.bin/prism");
        assert!(program.is_file(), "Prism is not installed: run `make deps`");
        let log = document.with_extension("log");
        let file = std::fs::File::create(&log).unwrap();
        let port = free_port();
        let mut command = Command::new(find_program("node", &[]));
        command.arg(program).args(["mock", "--host", "127.0.0.1", "--port", &port.to_string()]).arg(document);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let mut prism = Self { port, process: Process::spawn(&mut command), log };
        eventually("Prism answers", DEADLINE, || {
            assert!(prism.process.running(), "Prism ended: {}", prism.log());
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        prism
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it says of the requests.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}
