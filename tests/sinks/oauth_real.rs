//! OAuth 2.0 against oauthlib's own server: both grants, both kinds of client authentication, expiry and rotation.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use portero::deliver::{Outcome, api};

use crate::answers::configured;
use crate::support::{DEADLINE, eventually_async};
use crate::world::{World, record, send};

/// Killed on drop.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start(life: u32) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sinks/oauth_server.py");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).arg(life.to_string()).stdout(Stdio::piped()).stdin(Stdio::null());
        let mut process = command.spawn().expect("python3 is there (`make deps`)");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("python3-oauthlib is installed (`make deps`)");
        Self { process, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn secret(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
    std::fs::set_permissions(dir.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

fn sink(server: &Server, world: &World, more: &str) -> api::Api {
    let dir = world.dir.path();
    secret(dir, "secret", "ses&me");
    secret(dir, "refresh", "r-0");
    let text = format!(
        "on_ambiguous = \"resend\"\nanswer = [{{ status = [201], verdict = \"delivered\" }}]\n\
         auth = {{ type = \"oauth2\", url = \"http://127.0.0.1:{}/token\", client_id = \"gw 1\", \
         client_secret = {{ file = \"{{dir}}/secret\" }}, scope = \"punch\"{more} }}\n",
        server.port
    );
    let url = format!("http://127.0.0.1:{}/events", server.port);
    api::Api::new("far", configured(&text, &url, dir), world.clock.clone()).unwrap()
}

const REFRESH: &str =
    ", grant = \"refresh_token\", refresh_token = { file = \"{dir}/refresh\" }, state_file = \"{dir}/far.token\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_grants_and_both_kinds_of_client_authentication_are_taken() {
    for more in ["", ", client_auth = \"body\"", REFRESH] {
        let (world, server) = (World::new().await, Server::start(3600));
        let mut sink = sink(&server, &world, more);
        for seq in 1..=3 {
            let outcome = send(&mut sink, &[record(seq, world.event(None))]).await;
            assert!(matches!(outcome, Outcome::Settled(_)), "{more}: {outcome:?}");
        }
    }
    let (world, server) = (World::new().await, Server::start(3600));
    let mut wrong = sink(&server, &world, "");
    secret(world.dir.path(), "secret", "wrong");
    let outcome = send(&mut wrong, &[record(1, world.event(None))]).await;
    assert!(matches!(&outcome, Outcome::Blocked { reason } if !reason.contains("wrong")), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_a_second_are_renewed_and_refresh_tokens_rotate_over_restarts() {
    for more in ["", REFRESH] {
        let (mut world, server) = (World::new().await, Server::start(1));
        for _ in 0..3 {
            let relay = world.relay(sink(&server, &world, more)).await;
            for _ in 0..2 {
                world.punches(2).await;
                let before = world.clock.now().boot;
                world.drained("far").await;
                // Until the token is over.
                eventually_async("a second is over", DEADLINE, || async {
                    world.clock.now().boot.micros_since(before) > 1_100_000
                })
                .await;
            }
            relay.stop().await;
            world.reopen().await;
        }
        let stats = world.stats("far").await;
        assert_eq!((stats.delivered, stats.quarantined), (12, 0), "{more}");
    }
}
