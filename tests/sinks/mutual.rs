//! Mutual TLS against a real nginx: with our certificate it lets us in, without it nothing is lost and nothing delivered.

use std::path::Path;
use std::process::{Command, Stdio};

use portero::deliver::{Outcome, api};

use crate::answers::configured;
use crate::support::{Process, find_program};
use crate::world::{World, record, send};

pub fn certificate(dir: &Path, name: &str, authority: bool) {
    let file = |end: &str| dir.join(format!("{name}.{end}")).display().to_string();
    let mut openssl = Command::new(find_program("openssl", &[]));
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=DNS:localhost"]);
    openssl.args(["-addext", &format!("basicConstraints=critical,CA:{}", if authority { "TRUE" } else { "FALSE" })]);
    openssl.args(["-keyout", &file("key"), "-out", &file("crt")]);
    assert!(openssl.stderr(Stdio::null()).status().unwrap().success());
    std::fs::set_permissions(file("key"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

/// nginx that lets in whoever shows the certificate `client`, and says who that is.
pub fn nginx(dir: &Path) -> (Process, u16) {
    let at = dir.display();
    let server = format!(
        "ssl_certificate {at}/server.crt;\nssl_certificate_key {at}/server.key;\nssl_client_certificate {at}/client.crt;\n\
         ssl_verify_client on;\n\
         location / {{ default_type application/json; return 201 '{{\"who\":\"$ssl_client_s_dn\"}}'; }}"
    );
    crate::support::nginx(dir, &server)
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
