//! Mutual TLS against a real nginx: with our certificate it lets us in, without it nothing is lost and nothing delivered.

use std::path::Path;
use std::process::{Command, Stdio};

use portero::deliver::{Outcome, api};

use crate::answers::configured;
use crate::support::{DEADLINE, Process, eventually, find_program, free_port};
use crate::world::{World, record, send};

fn certificate(dir: &Path, name: &str, authority: bool) {
    let file = |end: &str| dir.join(format!("{name}.{end}")).display().to_string();
    let mut openssl = Command::new(find_program("openssl", &[]));
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=DNS:localhost"]);
    openssl.args(["-addext", &format!("basicConstraints=critical,CA:{}", if authority { "TRUE" } else { "FALSE" })]);
    openssl.args(["-keyout", &file("key"), "-out", &file("crt")]);
    assert!(openssl.stderr(Stdio::null()).status().unwrap().success());
    std::fs::set_permissions(file("key"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

fn nginx(dir: &Path) -> (Process, u16) {
    let port = free_port();
    let at = dir.display();
    let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {at}/{what};"))
        .join("\n");
    // One process: a worker would outlive a master that is killed.
    let config = format!(
        "daemon off; master_process off; {user} pid {at}/nginx.pid; worker_processes 1;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}\n\
         server {{\nlisten 127.0.0.1:{port} ssl;\nssl_certificate {at}/server.crt;\nssl_certificate_key {at}/server.key;\n\
         ssl_client_certificate {at}/client.crt;\nssl_verify_client on;\n\
         location / {{ default_type application/json; return 201 '{{\"who\":\"$ssl_client_s_dn\"}}'; }}\n}}\n}}\n"
    );
    std::fs::write(dir.join("nginx.conf"), config).unwrap();
    let mut command = Command::new(find_program("nginx", &[]));
    command
        .arg("-e")
        .arg(dir.join("error.log"))
        .arg("-c")
        .arg(dir.join("nginx.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let process = Process::spawn(&mut command);
    eventually("nginx listens", DEADLINE, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    (process, port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_lets_us_in_with_our_certificate_and_not_without() {
    let world = World::new().await;
    let dir = world.dir.path();
    certificate(dir, "server", false);
    certificate(dir, "client", true);
    certificate(dir, "stranger", true);
    let (_nginx, port) = nginx(dir);
    let url = format!("https://localhost:{port}/");
    let rules = "ca_file = \"{dir}/server.crt\"\nauth = { type = \"none\" }\non_ambiguous = \"resend\"\n\
                 answer = [{ status = [201], verdict = \"delivered\", remote_id = \"/who\" }]\n";
    let records = [record(1, world.event(None))];
    let outcome = async |text: &str| {
        let mut sink = api::Api::new("far", configured(text, &url, dir), world.clock.clone()).unwrap();
        send(&mut sink, &records).await
    };
    let known =
        format!("{rules}client_cert = \"{{dir}}/client.crt\"\nclient_key = {{ file = \"{{dir}}/client.key\" }}\n");
    let let_in = outcome(&known).await;
    assert!(matches!(&let_in, Outcome::Settled(_)) && format!("{let_in:?}").contains("CN=client"), "{let_in:?}");
    for text in [rules.to_owned(), known.replace("client.", "stranger.")] {
        let outcome = outcome(&text).await;
        assert!(matches!(&outcome, Outcome::Retry { .. } | Outcome::Blocked { .. }), "{outcome:?}");
    }
    // A key of another certificate is found before anything is sent.
    let mixed = known.replace("client.key", "stranger.key");
    let error = api::Api::new("far", configured(&mixed, &url, dir), world.clock.clone()).err().unwrap().to_string();
    assert!(error.contains("client_key"), "{error}");
}
