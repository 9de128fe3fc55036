//! A bundle from afar over the local file: what replaces what, what a bundle must not set, and where each value comes from.
//! Signatures and revisions are elsewhere; here every bundle is believed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

use std::path::Path;

use portero::deliver::Kind;
use portero::manage::config::{From, Layer, Loaded, Options, Problems, Secrets, load_layered_text, origins};

const LOCAL: &str = r#"[gateway]
id = "gw-1"
site = "s"
zone = "America/Santiago"

[journal]
path = "/tmp/portero-layers/journal.db"
retention_days = 20

[[terminal]]
name = "gate"
protocol = "rdm6300"
link = { type = "serial", device = "/dev/ttyS7" }

[[sink]]
name = "vendor"
type = "api"
url = "http://127.0.0.1:9/events"
batch = 5

[[sink]]
name = "central"
type = "postgres"
url = "postgresql://portero@127.0.0.1/attendance"
tls = "disable"
"#;

fn options(environment: &[(&str, &str)]) -> Options {
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Options { secrets: Secrets::Ignore, environment, credentials: None, units: Vec::new() }
}

fn layer(text: &str) -> Layer {
    Layer { name: "bundle 7".into(), text: text.to_owned() }
}

fn load(local: &str, bundle: &str) -> Result<Loaded, Problems> {
    load_layered_text(Path::new("portero.toml"), local, &options(&[]), Some(&layer(bundle)))
}

fn good(bundle: &str) -> Loaded {
    load(LOCAL, bundle).unwrap_or_else(|problems| panic!("a good bundle was refused: {problems}"))
}

fn bad(local: &str, bundle: &str) -> String {
    let problems = load(local, bundle).expect_err("a bad bundle was taken");
    problems.errors.iter().map(|problem| format!("{problem}\n")).collect()
}

#[test]
fn lists_are_replaced_whole_and_single_tables_key_by_key() {
    let config = good(
        "[bundle]\nrevision = 7\n[journal]\ndedup_days = 50\n[log]\nlevel = \"debug\"\n\
         [[sink]]\nname = \"other\"\ntype = \"api\"\nurl = \"http://127.0.0.1:8/\"\n",
    )
    .config;
    let names: Vec<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!((names, config.terminals.len()), (vec!["other"], 1), "the other lists are the local file's");
    assert_eq!((config.journal.retention_days, config.journal.dedup_days), (20, 50));
    assert_eq!((config.log.level.as_str(), config.identity.gateway_id.as_str()), ("debug", "gw-1"));
}

#[test]
fn a_bundle_that_says_nothing_leaves_the_local_file_as_it_is() {
    let alone = load_layered_text(Path::new("portero.toml"), LOCAL, &options(&[]), None).unwrap();
    assert_eq!(good("[bundle]\nrevision = 7\n"), alone);
}

#[test]
fn the_environment_wins_over_a_bundle() {
    let variables = [("PORTERO__SINK__OTHER__BATCH", "9")];
    let bundle = layer("[[sink]]\nname = \"other\"\ntype = \"api\"\nurl = \"http://127.0.0.1:8/\"\nbatch = 3\n");
    let loaded = load_layered_text(Path::new("portero.toml"), LOCAL, &options(&variables), Some(&bundle)).unwrap();
    let Kind::Api(api) = &loaded.config.sinks[0].kind else { panic!("an API") };
    assert_eq!(api.batch, 9);
}

#[test]
fn what_a_bundle_must_not_set_is_refused_with_its_line() {
    let sink = "[[sink]]\nname = \"v\"\ntype = \"api\"\nurl = \"https://v.example/\"\n";
    let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    for (bundle, line, key) in [
        ("[gateway]\nid = \"gw-2\"\n".to_owned(), 2, "gateway.id"),
        ("[gateway]\nsite = \"t\"\n".to_owned(), 2, "gateway.site"),
        ("[gateway]\ntenant = \"t\"\n".to_owned(), 2, "gateway.tenant"),
        ("[gateway]\ngroup = \"t\"\n".to_owned(), 2, "gateway.group"),
        ("[gateway]\nclock = \"trusted\"\n".to_owned(), 2, "gateway.clock"),
        ("[journal]\npath = \"/tmp/x.db\"\n".to_owned(), 2, "journal.path"),
        ("[manage]\nsocket = \"/tmp/x.sock\"\n".to_owned(), 2, "manage.socket"),
        (format!("[manage.remote]\nactive_key = \"{key}\"\n"), 1, "manage.remote"),
        ("manage.remote.url = \"https://other.example/\"\n".to_owned(), 1, "manage.remote"),
        ("remote_may = [\"listen\"]\n".to_owned(), 1, "remote_may"),
        ("terminal = []\n".to_owned(), 1, "terminal"),
        ("sink = []\n".to_owned(), 1, "sink"),
        ("broker = []\n".to_owned(), 1, "broker"),
        (format!("{sink}tls = \"insecure\"\n"), 5, "sink[1].tls"),
        (format!("{sink}auth = {{ type = \"bearer\", token = {{ file = \"/s\" }} }}\n"), 5, "sink[1].auth.token"),
        (
            format!(
                "{sink}auth = {{ type = \"oauth2\", url = \"https://l.example/\", client_id = \"g\", grant = \"refresh_token\", \
                 refresh_token = {{ credential = \"r\" }}, state_file = \"/var/lib/portero/x\" }}\n"
            ),
            5,
            "sink[1].auth.state_file",
        ),
        ("[manage]\nlisten = \"0.0.0.0:8787\"\ntoken = { credential = \"t\" }\n".to_owned(), 2, "manage.listen"),
        ("[[broker]]\nname = \"own\"\nlisten = \"0.0.0.0:1883\"\nanonymous = true\n".to_owned(), 3, "broker[1].listen"),
        (
            "[directory]\nfile = \"/etc/people.csv\"\nperson = \"p\"\nexternal_id = \"e\"\n".to_owned(),
            2,
            "directory.file",
        ),
        ("[directory]\nfile.x = 1\n".to_owned(), 2, "directory.file"),
        ("[sinks]\nx = 1\n".to_owned(), 1, "sinks"),
        ("[journal]\nretention_days = \"x\"\n".to_owned(), 2, "journal.retention_days"),
        ("[journal\n".to_owned(), 1, ""),
    ] {
        let said = bad(LOCAL, &bundle);
        let wanted = if key.is_empty() { format!("bundle 7:{line}: ") } else { format!("bundle 7:{line}: {key}: ") };
        assert!(said.lines().any(|l| l.starts_with(&wanted)), "{bundle}\nwanted {wanted}\n{said}");
    }
}

#[test]
fn remote_may_of_the_local_file_lets_a_bundle_do_what_it_names_and_no_more() {
    let sink = "[[sink]]\nname = \"v\"\ntype = \"api\"\nurl = \"https://v.example/\"\n";
    let insecure = format!("{sink}auth = {{ type = \"none\" }}\ntls = \"insecure\"\n");
    let secret = format!("{sink}auth = {{ type = \"bearer\", token = {{ file = \"/s\" }} }}\n");
    let listen = "[manage]\nlisten = \"0.0.0.0:8787\"\ntoken = { credential = \"t\" }\n".to_owned();
    let words = [("tls_insecure", &insecure), ("secret_file", &secret), ("listen", &listen)];
    for (word, bundle) in words {
        for (other, _) in words {
            let local = format!("remote_may = [\"{other}\"]\n{LOCAL}");
            assert_eq!(load(&local, bundle).is_ok(), word == other, "{other} for {bundle}");
        }
    }
    let own = "remote_may = [\"tls_insecure\"]\n".to_owned() + &insecure;
    assert!(bad(LOCAL, &own).contains("remote_may"), "a bundle gives itself nothing");
}

#[test]
fn a_bundle_may_not_take_away_the_broker_that_bundles_come_from() {
    let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    let local = format!(
        "{LOCAL}\n[[broker]]\nname = \"site\"\nurl = \"mqtts://b.example\"\n\
         [manage.remote]\ntopic = \"portero/config\"\nbroker = \"site\"\nactive_key = \"{key}\"\n"
    );
    let said = bad(&local, "[[broker]]\nname = \"other\"\nurl = \"mqtts://c.example\"\n");
    assert!(said.contains("manage.remote.broker"), "{said}");
}

#[test]
fn every_value_says_where_it_comes_from_and_no_secret_is_shown() {
    let bundle = layer(
        "[bundle]\nrevision = 7\n[journal]\ndedup_days = 50\n\
         [[sink]]\nname = \"vendor\"\ntype = \"api\"\nurl = \"https://v.example/\"\n\
         auth = { type = \"bearer\", token = { credential = \"t\" } }\nheaders = { X-Api-Token = \"hunter2\" }\n",
    );
    let variables = [("PORTERO__LOG__LEVEL", "warn")];
    let found = origins(Path::new("p.toml"), LOCAL, &options(&variables), Some(&bundle));
    let of = |key: &str| {
        let origin = found.iter().find(|origin| origin.key == key).unwrap_or_else(|| panic!("{key} is missing"));
        (origin.value.as_str(), origin.from.clone())
    };
    assert_eq!(of("gateway.id"), ("\"gw-1\"", From::File("p.toml".into(), 2)));
    assert_eq!(of("journal.retention_days"), ("20", From::File("p.toml".into(), 8)));
    assert_eq!(of("journal.dedup_days"), ("50", From::Bundle("bundle 7".into(), 4)));
    assert_eq!(of("journal.max_bytes").1, From::Default);
    assert_eq!(of("log.level"), ("\"warn\"", From::Variable("PORTERO__LOG__LEVEL".to_owned())));
    assert_eq!(of("sink.vendor.auth.token"), ("{ credential = \"t\" }", From::Bundle("bundle 7".into(), 9)));
    assert_eq!(of("sink.vendor.headers.X-Api-Token").0, "(not shown)");
    assert!(found.iter().all(|origin| !origin.key.starts_with("sink.central") && !origin.value.contains("hunter2")));
}
