//! Through a real forward proxy: plain to this machine, and tunnelled with TLS end to end.

use portero::deliver::{Outcome, api};

use crate::answers::configured;
use crate::mutual::{certificate, nginx};
use crate::support::{Behaviour, VendorApi, Web};
use crate::world::{World, record, send};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_go_through_the_proxy_that_is_named_and_through_no_other() {
    let (vendor, world) = (VendorApi::start(Behaviour::Ok), World::new().await);
    let dir = world.dir.path();
    certificate(dir, "server", false);
    certificate(dir, "client", true);
    let (_nginx, far) = nginx(dir);
    let web = Web::forward_proxy("gw", "sesame", far);
    let proxy = |password: &str| {
        format!(
            "proxy = {{ url = \"http://127.0.0.1:{}\", user = \"gw\", password = {{ file = \"{{dir}}/{password}\" }} }}\n",
            web.port
        )
    };
    // `configured` puts the password into `key`.
    let records = [record(1, world.event(None))];
    let mut near = api::Api::new("far", configured(&proxy("key"), &vendor.url(), dir), world.clock.clone()).unwrap();
    let outcome = send(&mut near, &records).await;
    assert!(matches!(outcome, Outcome::Settled(_)), "{outcome:?}");
    let requests = vendor.requests();
    assert!(requests[0].headers.contains_key("via") && !requests[0].headers.contains_key("proxy-authorization"));

    let rules = "ca_file = \"{dir}/server.crt\"\nauth = { type = \"none\" }\non_ambiguous = \"resend\"\n\
                 answer = [{ status = [201], verdict = \"delivered\" }]\n\
                 client_cert = \"{dir}/client.crt\"\nclient_key = { file = \"{dir}/client.key\" }\n";
    let url = format!("https://localhost:{far}/");
    let text = format!("{rules}{}", proxy("key"));
    let mut tunnelled = api::Api::new("far", configured(&text, &url, dir), world.clock.clone()).unwrap();
    let outcome = send(&mut tunnelled, &records).await;
    assert!(matches!(outcome, Outcome::Settled(_)), "{outcome:?}");

    // A proxy that does not know us has not harmed any event.
    std::fs::write(dir.join("wrong"), "hunter2").unwrap();
    std::fs::set_permissions(dir.join("wrong"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let text = format!("{rules}{}", proxy("wrong"));
    let mut unknown = api::Api::new("far", configured(&text, &url, dir), world.clock.clone()).unwrap();
    let outcome = send(&mut unknown, &records).await;
    assert!(matches!(&outcome, Outcome::Retry { reason, .. } if reason.contains("proxy")), "{outcome:?}");
    assert!(!format!("{outcome:?}").contains("hunter2"));

    let direct = api::Api::new("far", configured(rules, &url, dir), world.clock.clone());
    let outcome = send(&mut direct.unwrap(), &records).await;
    assert!(matches!(outcome, Outcome::Settled(_)), "{outcome:?}");
    drop((near, tunnelled, unknown));
    let log = std::fs::read_to_string(web.dir.path().join("access.log")).unwrap();
    assert!(log.contains("POST 200") && log.contains("CONNECT 407"), "{log}");
}
