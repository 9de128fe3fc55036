//! The real binary, `portero run`, under the test's control.
//!
//! Must not: call into the library; what a test learns of the gateway, it learns as an operator would.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use super::Process;
use super::wait::{DEADLINE, eventually};

/// The binary under test; for an example the one that was built beside it.
pub fn binary() -> PathBuf {
    match option_env!("CARGO_BIN_EXE_portero") {
        Some(path) => path.into(),
        None => std::env::current_exe().unwrap().parent().unwrap().with_file_name("portero"),
    }
}

/// The gateway's program, ready for arguments: the binary under test, unless `PORTERO_TEST_COMMAND` names another one, words
/// split at blanks (a build for another processor, behind its emulator).
pub fn program() -> Command {
    let named = std::env::var("PORTERO_TEST_COMMAND").unwrap_or_default();
    let mut words = named.split_whitespace();
    let mut command = words.next().map_or_else(|| Command::new(binary()), Command::new);
    command.args(words);
    command
}

/// A gateway process; killed on drop.
pub struct Gateway {
    config: PathBuf,
    log: PathBuf,
    dir: tempfile::TempDir,
    notify: UnixDatagram,
    process: Option<Process>,
    environment: Vec<(String, String)>,
}

impl Gateway {
    /// Starts `portero run --config CONFIG` with these credentials, and does not wait for anything. The log goes to
    /// CONFIG with `.log` appended.
    pub fn start(config: &Path, credentials: &[(&str, &str)]) -> Self {
        let mut gateway = Self::prepare(config, credentials);
        gateway.restart();
        gateway
    }

    /// The same without starting it: for environment variables, and for commands without a running gateway.
    pub fn prepare(config: &Path, credentials: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("portero-").tempdir().unwrap();
        let secrets = dir.path().join("credentials");
        std::fs::create_dir(&secrets).unwrap();
        for (name, value) in credentials {
            std::fs::write(secrets.join(name), value).unwrap();
        }
        let notify = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        notify.set_nonblocking(true).unwrap();
        let mut log = config.as_os_str().to_owned();
        log.push(".log");
        Self { config: config.to_owned(), log: log.into(), dir, notify, process: None, environment: Vec::new() }
    }

    /// Sets a variable of the gateway's environment for the next start.
    pub fn env(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Plays `count` events of the yard to a broker on this machine and waits for every confirmation; `more` are further
    /// arguments of `portero simulate`.
    pub fn play_yard(&self, port: u16, count: u32, seed: u32, more: &[&str]) {
        let (broker, count, seed) = (format!("mqtt://127.0.0.1:{port}"), count.to_string(), seed.to_string());
        let yard = ["simulate", "mqtt-json", "--rate", "0", "--broker", &broker, "--count", &count, "--seed", &seed];
        let played = self.cli(&[&yard, more].concat());
        assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));
    }

    fn command(&self) -> Command {
        let mut command = program();
        command.env("CREDENTIALS_DIRECTORY", self.dir.path().join("credentials")).env_remove("NOTIFY_SOCKET");
        command.env("PORTERO_CONFIG", &self.config).env("RUST_BACKTRACE", "1").stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it (again); a running one is killed before.
    pub fn restart(&mut self) {
        self.sigkill();
        while self.notify.recv(&mut [0; 512]).is_ok() {} // what the one before said
        self.restart_under(&self.dir.path().join("notify"));
    }

    /// The same under another service manager, which listens at this socket.
    pub fn restart_under(&mut self, manager: &Path) {
        self.sigkill();
        let log = std::fs::File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = self.command();
        command.arg("run").arg("--config").arg(&self.config);
        command.env("NOTIFY_SOCKET", manager);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(Process::spawn(&mut command));
    }

    /// Waits until it says `READY=1` to its service manager, which is us.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        eventually("the gateway says that it is ready", DEADLINE, || {
            assert!(self.running(), "the gateway ended instead of becoming ready:\n{}", self.log());
            let mut message = [0; 512];
            while let Ok(n) = self.notify.recv(&mut message) {
                if String::from_utf8_lossy(&message[..n]).lines().any(|line| line == "READY=1") {
                    return true;
                }
            }
            false
        });
    }

    /// Starts it again and waits until it is ready.
    #[track_caller]
    pub fn restart_ready(&mut self) {
        self.restart();
        self.wait_ready();
    }

    /// Its process id; 0 when it doesn't run.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Process::id)
    }

    /// Whether it runs.
    pub fn running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::running)
    }

    /// SIGKILL, and waits until it is gone.
    pub fn sigkill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// SIGTERM, and waits for the orderly end.
    #[track_caller]
    pub fn sigterm(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("the gateway runs");
        process.signal(rustix::process::Signal::TERM);
        process.wait(DEADLINE)
    }

    /// Sends it any signal.
    pub fn signal(&mut self, signal: rustix::process::Signal) {
        if let Some(process) = &mut self.process {
            process.signal(signal);
        }
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn wait_end(&mut self, deadline: Duration) -> ExitStatus {
        self.process.take().expect("the gateway runs").wait(deadline)
    }

    /// Runs another subcommand with the same configuration (`PORTERO_CONFIG`) and credentials.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// Runs a subcommand that answers one JSON object. An answer that is no JSON fails the test.
    #[track_caller]
    pub fn cli_json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.cli(arguments);
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("portero {arguments:?}: {error}\n{text}\n{}", String::from_utf8_lossy(&output.stderr))
        })
    }

    /// Everything that it and its predecessors logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}
