//! A transaction-mode pgbouncer in between: one server connection for many clients, no prepared statements of its own.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use portero::deliver::postgres;
use portero::tls::TlsMode;

use crate::rigs::{TIMEOUT, server};
use crate::support::{DEADLINE, Process, eventually, find_program, free_port};
use crate::world::World;

/// A pooler with a single server connection: whatever a client leaves behind in it, the next client meets.
pub struct Pooler {
    pub port: u16,
    _process: Process,
    _dir: tempfile::TempDir,
}

impl Pooler {
    pub fn start(server: u16) -> Self {
        let program = find_program("pgbouncer", &[]);
        let dir = tempfile::Builder::new().prefix("portero-pgbouncer-").tempdir().unwrap();
        let port = free_port();
        let ini = dir.path().join("pgbouncer.ini");
        let settings = format!(
            "[databases]\nattendance = host=127.0.0.1 port={server} dbname=attendance user=gateway\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 1\nmax_client_conn = 20\n"
        );
        std::fs::write(&ini, settings).unwrap();
        let mut command = Command::new(program);
        command.arg(&ini).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // It refuses to run as root; `nobody` owns nothing.
        if rustix::process::getuid().is_root() {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            command.uid(65534).gid(65534);
        }
        let process = Process::spawn(&mut command);
        eventually("pgbouncer answers", DEADLINE, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { port, _process: process, _dir: dir }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_gateways_share_one_server_connection_of_a_transaction_mode_pgbouncer() {
    let server = server().await;
    let pooler = Pooler::start(server.port);
    let mut gateways = Vec::new();
    for _ in 0..3 {
        let world = World::new().await;
        let config = postgres::Config {
            url: format!("postgresql://gateway@127.0.0.1:{}/attendance", pooler.port),
            password: None,
            batch: 2000,
            tls: TlsMode::Disable,
            ca_file: None,
            timeout: TIMEOUT,
        };
        let sink = postgres::Postgres::new("far", &config, "00ff", world.clock.clone()).unwrap();
        let relay = world.relay(sink).await;
        gateways.push((world, relay));
    }
    let mut expected = 0;
    for round in 0..4 {
        for (world, _) in &gateways {
            // Large batches by COPY and small ones by arrays, in turns.
            world.punches(if round % 2 == 0 { 2300 } else { 40 }).await;
        }
        expected += if round % 2 == 0 { 2300 } else { 40 };
    }
    for (world, relay) in &gateways {
        assert_eq!(world.drained("far").await.delivered, expected);
        assert_eq!(relay.error(), "");
    }
    // The three gateways report the same records of the same device: one row each.
    assert_eq!(server.psql("SELECT count(*) FROM portero.event"), expected.to_string());
}
