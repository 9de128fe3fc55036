//! A real PostgreSQL server from the installed package, thrown away afterwards.
//!
//! Must not: touch a server of the machine, or be used to prove that PostgreSQL itself is durable (`fsync = off`).

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::wait::{DEADLINE, eventually};
use super::{Process, find_program, free_port};

/// The database that [`Postgres::url`] names.
pub const DATABASE: &str = "attendance";

/// A running server; killed and removed on drop.
pub struct Postgres {
    /// Where it listens, on loopback.
    pub port: u16,
    programs: PathBuf,
    process: Option<Process>,
    dir: tempfile::TempDir,
}

impl Postgres {
    /// Starts one in which everybody on loopback is trusted, and waits until it answers.
    pub fn start() -> Self {
        Self::start_as("trust")
    }

    /// Starts one that asks everybody but `postgres` for a password.
    pub fn start_with_passwords() -> Self {
        Self::start_as("scram-sha-256")
    }

    fn start_as(method: &str) -> Self {
        let programs = programs();
        // Not under the build directory: root's home may be closed to the user that the server runs as.
        let dir = tempfile::Builder::new().prefix("portero-pg-").tempdir().unwrap();
        if let Some((user, group)) = server_user() {
            std::os::unix::fs::chown(dir.path(), Some(user), Some(group)).unwrap();
        }
        let data = dir.path().join("data");
        match option_env!("CARGO_TARGET_TMPDIR") {
            Some(base) => {
                let template = template(&programs, Path::new(base));
                run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&template).arg(&data));
            }
            // A program that is no test has no place of its own under the build directory.
            None => make_cluster(&programs, &data),
        }
        let hba = format!(
            "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 {method}\n\
                     host replication postgres 127.0.0.1/32 trust\n"
        );
        std::fs::write(data.join("pg_hba.conf"), hba).unwrap();
        let mut server = Self { port: free_port(), programs, process: None, dir };
        server.start_again();
        server
    }

    /// `postgresql://postgres@127.0.0.1:PORT/attendance`: the administrator.
    pub fn url(&self) -> String {
        self.url_as("postgres")
    }

    /// The same for another login.
    pub fn url_as(&self, user: &str) -> String {
        format!("postgresql://{user}@127.0.0.1:{}/{DATABASE}", self.port)
    }

    /// Starts a second server that follows this one: a hot standby, which takes no writes until [`Postgres::promote`]. From
    /// then on this one answers no commit before the standby has it.
    pub fn standby(&self) -> Self {
        let dir = tempfile::Builder::new().prefix("portero-pg-").tempdir().unwrap();
        if let Some((user, group)) = server_user() {
            std::os::unix::fs::chown(dir.path(), Some(user), Some(group)).unwrap();
        }
        let mut copy = as_server_user(Command::new(self.programs.join("pg_basebackup")));
        copy.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres", "-R", "-X", "stream"]);
        run(copy.args(["-c", "fast", "--no-sync", "-D"]).arg(dir.path().join("data")));
        let mut server = Self { port: free_port(), programs: self.programs.clone(), process: None, dir };
        server.start_again();
        self.psql("ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.psql("SELECT pg_reload_conf()");
        eventually("the standby follows", DEADLINE, || {
            self.psql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"
        });
        server
    }

    /// Makes a standby the server that takes writes; it waits for no standby of its own.
    pub fn promote(&self) {
        self.psql("SELECT pg_promote()");
        self.psql("ALTER SYSTEM SET synchronous_standby_names = ''");
        self.psql("SELECT pg_reload_conf()");
    }

    /// Stops it as a power cut would: no goodbye to clients, no checkpoint.
    pub fn stop_immediate(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(rustix::process::Signal::QUIT);
            process.wait(DEADLINE);
        }
    }

    /// Starts it again on the same port with the same data.
    pub fn start_again(&mut self) {
        self.stop_immediate();
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut command = as_server_user(Command::new(self.programs.join("postgres")));
        command.arg("-D").arg(self.dir.path().join("data")).args(["-p", &self.port.to_string()]);
        command.args(["-k", self.dir.path().to_str().unwrap()]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut process = Process::spawn(&mut command);
        eventually("postgresql answers", DEADLINE, || {
            assert!(process.running(), "postgresql ended: {}", self.log());
            let mut ready = Command::new(self.programs.join("pg_isready"));
            ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
            ready.status().is_ok_and(|status| status.success())
        });
        self.process = Some(process);
    }

    /// Runs SQL as the administrator; answers rows as lines and columns with `|`, without headings. An error fails the
    /// test.
    #[track_caller]
    pub fn psql(&self, sql: &str) -> String {
        match self.try_psql(sql) {
            Ok(text) => text,
            Err(text) => panic!("psql: {text}\n{sql}"),
        }
    }

    /// The same, answering an error as its text.
    pub fn try_psql(&self, sql: &str) -> Result<String, String> {
        self.try_psql_as("postgres", sql)
    }

    /// The same with another login.
    pub fn try_psql_as(&self, user: &str, sql: &str) -> Result<String, String> {
        let output = Command::new(self.programs.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", user, "-d", DATABASE, "-c", sql])
            .args(["-h", self.dir.path().to_str().unwrap(), "-p", &self.port.to_string()])
            .env("PGCONNECT_TIMEOUT", "10")
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

/// Small and fast. `fsync = off` still survives the death of the server, if not of the machine; `synchronous_commit` stays
/// on, since without it a commit that was answered could be gone after a crash and look like our loss.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=16MB",
    "min_wal_size=8MB",
    "max_wal_size=128MB",
    "max_connections=50",
    "autovacuum=off",
    "logging_collector=off",
];

/// Where the newest installed server keeps its programs.
fn programs() -> PathBuf {
    let mut versions: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|list| list.filter_map(|entry| entry.ok().map(|entry| entry.path().join("bin"))).collect())
        .unwrap_or_default();
    versions.sort_by_key(|path: &PathBuf| {
        path.iter().rev().nth(1).and_then(|name| name.to_str()?.parse::<u32>().ok()).unwrap_or(0)
    });
    versions.reverse();
    find_program("initdb", &versions).canonicalize().unwrap().parent().unwrap().to_owned()
}

/// A cluster that was made once for each build directory, to be copied for each server.
fn template(programs: &Path, base: &Path) -> PathBuf {
    // Several tests of one program may ask at the same time.
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    std::fs::create_dir_all(base).unwrap();
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let version = programs.iter().rev().nth(1).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let uid = rustix::process::getuid().as_raw();
    let template = base.join(format!("postgres-template-{version}-{uid}"));
    if template.is_dir() {
        return template;
    }
    let dir = tempfile::Builder::new().prefix("portero-pg-").tempdir().unwrap();
    if let Some((user, group)) = server_user() {
        std::os::unix::fs::chown(dir.path(), Some(user), Some(group)).unwrap();
    }
    let data = dir.path().join("data");
    make_cluster(programs, &data);
    // Several processes may race here: the first rename wins, the others throw theirs away.
    let staged = base.join(format!("postgres-template-{}", std::process::id()));
    run(Command::new("cp").arg("-a").arg(&data).arg(&staged));
    if std::fs::rename(&staged, &template).is_err() {
        let _ = std::fs::remove_dir_all(&staged);
    }
    template
}

/// A fresh cluster with an empty database.
fn make_cluster(programs: &Path, data: &Path) {
    let mut initdb = as_server_user(Command::new(programs.join("initdb")));
    initdb.arg("-D").arg(data).args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]);
    run(initdb.arg("--wal-segsize=4"));
    let mut single = as_server_user(Command::new(programs.join("postgres")));
    single.args(["--single", "-F", "-D"]).arg(data).arg("postgres");
    single.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut single = single.spawn().unwrap();
    std::io::Write::write_all(&mut single.stdin.take().unwrap(), format!("CREATE DATABASE {DATABASE}\n").as_bytes())
        .unwrap();
    assert!(single.wait().unwrap().success(), "could not create the database");
}

/// The user and group that the server runs as: it refuses to run as root.
fn server_user() -> Option<(u32, u32)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = line.expect("no user postgres: run `make deps`").split(':').skip(2);
    let mut number = || fields.next().unwrap().parse().unwrap();
    Some((number(), number()))
}

fn as_server_user(mut command: Command) -> Command {
    if let Some((user, group)) = server_user() {
        command.uid(user).gid(group);
    }
    command.current_dir("/");
    command
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
