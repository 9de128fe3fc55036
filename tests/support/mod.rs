//! What the integration tests stand on: a real broker, a real PostgreSQL, a vendor API that remembers, the real binary, a
//! pseudo-terminal that can be unplugged. A test file says `mod support;` and takes what it needs.
//!
//! Must not: replace anything that can be had for real, skip a test because a service is missing (that is a failure, and
//! `make deps` is the remedy), or leave a process behind.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

pub mod gateway;
pub mod guest;
pub mod mosquitto;
pub mod mutate;
pub mod postgres;
pub mod prism;
pub mod process;
pub mod pty;
pub mod shelf;
pub mod signer;
pub mod vendor;
pub mod wait;
pub mod web;

pub use gateway::Gateway;
pub use guest::Guest;
pub use mosquitto::{Mosquitto, MosquittoOptions};
pub use postgres::Postgres;
pub use prism::Prism;
pub use process::Process;
pub use pty::Pty;
pub use signer::Signer;
pub use vendor::{Behaviour, Oracle, Reply, Request, VendorApi};
pub use wait::{DEADLINE, eventually, eventually_async};
pub use web::{Web, nginx};

/// How much of a long test is run: `PORTERO_TEST_SCALE`, 1 by default, 10 for a night.
pub fn scale() -> u64 {
    std::env::var("PORTERO_TEST_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
}

/// A port on loopback that nobody has, and that no other test takes while this program runs, even while nobody listens on it:
/// servers here are killed and started again. It lies below the range (32768 and up, `ip_local_port_range`) from which the
/// kernel gives a port to whoever connects, so that no client sits on it meanwhile, or connects to itself.
pub fn free_port() -> u16 {
    static MINE: std::sync::Mutex<Vec<std::fs::File>> = std::sync::Mutex::new(Vec::new());
    let dir = std::env::temp_dir().join(format!("portero-ports-{}", rustix::process::getuid().as_raw()));
    std::fs::create_dir_all(&dir).unwrap();
    loop {
        let port = fastrand::u16(12_000..32_000);
        let file = std::fs::File::create(dir.join(port.to_string())).unwrap();
        if file.try_lock().is_ok() && std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            MINE.lock().unwrap().push(file);
            return port;
        }
    }
}

/// A temporary directory on the disk that holds the build, not on a tmpfs: what is synced there is really synced.
pub fn tempdir() -> tempfile::TempDir {
    let base = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, std::path::PathBuf::from);
    std::fs::create_dir_all(&base).unwrap();
    tempfile::Builder::new().prefix("portero-").tempdir_in(base).unwrap()
}

/// The program `name`, looked for in the directories `extra`, then on the path. That it is missing is a failed test.
pub fn find_program(name: &str, extra: &[std::path::PathBuf]) -> std::path::PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<_> = extra.to_vec();
    places.extend(std::env::split_paths(&path));
    places.extend(["/usr/sbin", "/usr/local/sbin"].map(Into::into));
    places.into_iter().map(|place| place.join(name)).find(|file| file.is_file()).unwrap_or_else(|| {
        panic!("{name} is not installed: run `make deps`");
    })
}

/// A configuration with the yard fleet behind one broker, whose endpoint is `broker` (`listen = …` or `url = …`), and
/// these sinks.
pub fn yard_config(dir: &std::path::Path, broker: &str, sinks: &str) -> String {
    let dir = dir.display();
    format!(
        r#"
[gateway]
id = "gw-test"
site = "obra-norte"
zone = "America/Santiago"

[journal]
path = "{dir}/journal.db"

[manage]
socket = "{dir}/control.sock"

[[broker]]
name = "site"
{broker}

[[terminal]]
name = "yard"
protocol = "mqtt-json"
link = {{ type = "mqtt", broker = "site", topic = "site/yard/+/events" }}
zone = "UTC"
fields.person = "/pin"
fields.device_time = "/ts"
fields.native_seq = "/event_id"
fields.terminal_serial = "/sn"
fields.door = "/door"
fields.credential = "/card"
fields.punch = {{ from = "/dir", map = {{ in = "in", out = "out" }} }}
fields.methods = {{ from = "/verify", map = {{ fp = "finger", face = "face", card = "card", pin = "pin" }} }}
{sinks}"#
    )
}

/// A `[[sink]]` named `vendor` for [`VendorApi`].
pub fn api_sink(url: &str, batch: usize) -> String {
    format!("\n[[sink]]\nname = \"vendor\"\ntype = \"api\"\nurl = \"{url}\"\nbatch = {batch}\ntimeout_seconds = 2\n")
}

/// A `[[sink]]` named `central` for [`Postgres`].
pub fn postgres_sink(url: &str) -> String {
    format!("\n[[sink]]\nname = \"central\"\ntype = \"postgres\"\nurl = \"{url}\"\ntls = \"disable\"\n")
}
