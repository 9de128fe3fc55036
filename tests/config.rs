//! The configuration as people write it, right and wrong.
//!
//! Each `tests/config/broken/NAME.toml` has a `NAME.expected` beside it: what `portero check` says of it. After a change of
//! a message run `UPDATE_EXPECTED=1 cargo test --test config` and read the difference before you commit it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

use std::path::{Path, PathBuf};

use portero::decode;
use portero::manage::config::{Loaded, Options, Problems, Secrets, load, load_text};
use portero::terminal::{Endpoint, Link};
use portero::tls::TlsMode;

fn options() -> Options {
    Options { secrets: Secrets::Ignore, environment: Vec::new(), credentials: None, units: Vec::new() }
}

fn with(variables: &[(&str, &str)]) -> Options {
    let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Options { environment, ..options() }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The configuration that must work as it stands.
fn site() -> String {
    std::fs::read_to_string(root().join("config/examples/site.toml")).expect("the example is there")
}

fn good(text: &str, options: &Options) -> Loaded {
    match load_text(Path::new("portero.toml"), text, options) {
        Ok(loaded) => loaded,
        Err(problems) => panic!("a good configuration was refused: {problems}"),
    }
}

fn bad(text: &str, options: &Options) -> Problems {
    load_text(Path::new("portero.toml"), text, options).expect_err("a broken configuration was accepted")
}

fn lines(problems: &Problems) -> String {
    problems.errors.iter().map(|p| format!("{p}\n")).collect()
}

#[test]
fn the_site_configuration_is_good_as_it_stands() {
    let config = good(&site(), &options()).config;
    assert_eq!((config.terminals.len(), config.brokers.len(), config.sinks.len()), (3, 1, 2));
    assert_eq!(config.identity.gateway_id, "gw-obra-norte-01");
    assert_eq!(config.identity.tenant, "default");
    let Endpoint::Connect(connect) = &config.brokers[0].endpoint else { panic!("the broker is connected to") };
    assert_eq!((connect.host.as_str(), connect.port, connect.tls), ("127.0.0.1", 1883, TlsMode::Disable));
    let yard = &config.terminals[2];
    assert_eq!(yard.zone.as_deref(), Some("UTC"));
    let decode::Config::MqttJson(json) = &yard.decoder else { panic!("the yard speaks mqtt-json") };
    assert_eq!((json.fields.len(), &json.identity), (8, &None));
    let Link::Mqtt(face) = &config.terminals[1].link else { panic!("the face terminal is behind the broker") };
    assert_eq!((face.device_id.as_deref(), face.max_payload_bytes), (Some("1026700"), 6 << 20));
}

#[test]
fn every_example_is_good() {
    let mut files: Vec<_> = std::fs::read_dir(root().join("config/examples"))
        .expect("examples")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.push(root().join("config/portero.toml"));
    assert!(files.len() > 4);
    for file in files {
        if let Err(problems) = load(&file, &options()) {
            panic!("{problems}");
        }
    }
}

#[test]
fn every_broken_configuration_gets_its_messages() {
    let folder = root().join("tests/config/broken");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    assert!(files.len() >= 10, "ten broken variants are promised");
    let mut wrong = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("readable");
        let problems = bad(&text, &options());
        let mut said = lines(&problems);
        for problem in &problems.errors {
            assert!(!format!("{problem:?}").contains("hunter2"), "a secret is repeated: {problem}");
            said.extend(problem.caret().map(|caret| format!("{caret}\n")).filter(|_| problems.errors.len() == 1));
        }
        let expected_file = file.with_extension("expected");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(&expected_file, &said).expect("writable");
        }
        let expected = std::fs::read_to_string(&expected_file).unwrap_or_default();
        if said != expected {
            wrong.push(format!("{}\n--- expected\n{expected}--- said\n{said}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_problem_has_its_line_and_its_column() {
    let problems = bad(&site().replace("baud = 9600", "baud = \"96oo\""), &options());
    let problem = &problems.errors[0];
    assert_eq!((problem.line, problem.key.as_str()), (19, "terminal[1].link.baud"));
    let caret = problem.caret().expect("a line without secrets is shown");
    let (text, marks) = caret.split_once('\n').expect("two lines");
    assert_eq!(text.find("\"96oo\""), marks.find('^'));
    assert_eq!(marks.matches('^').count(), "\"96oo\"".len());
    assert!(problem.to_json()["expected"].as_str().is_some_and(|e| e.contains("for example 9600")));
}

#[test]
fn the_environment_overrides_any_key_by_name() {
    let variables = [
        ("PORTERO__GATEWAY__ID", "12"),
        ("PORTERO__JOURNAL__PATH", "/data/journal.db"),
        ("PORTERO__SINK__VENDOR__URL", "http://127.0.0.1:9/events"),
        ("PORTERO__SINK__CENTRAL__BATCH", "7"),
        ("PORTERO__TERMINAL__GATE_1__LINK__DEVICE", "/tmp/pty"),
        ("PORTERO__TERMINAL__YARD__FIELDS__PERSON", "/person"),
        ("PORTERO__BROKER__SITE__URL", "mqtt://127.0.0.1:2883"),
        ("PORTERO_CONFIG", "/elsewhere"),
    ];
    let config = good(&site(), &with(&variables)).config;
    assert_eq!(config.identity.gateway_id, "12");
    assert_eq!(config.journal.path, Path::new("/data/journal.db"));
    let portero::deliver::Kind::Api(api) = &config.sinks[0].kind else { panic!("the vendor has an API") };
    assert_eq!(api.url, "http://127.0.0.1:9/events");
    let portero::deliver::Kind::Postgres(postgres) = &config.sinks[1].kind else { panic!("the centre is PostgreSQL") };
    assert_eq!(postgres.batch, 7);
    let Link::Serial(serial) = &config.terminals[0].link else { panic!("the gate is serial") };
    assert_eq!(serial.device, Path::new("/tmp/pty"));
    let Endpoint::Connect(connect) = &config.brokers[0].endpoint else { panic!("the broker is connected to") };
    assert_eq!(connect.port, 2883);
}

#[test]
fn a_bad_variable_is_a_problem_that_names_it() {
    let variables = [
        ("PORTERO__SINK__VENDER__URL", "http://127.0.0.1/"),
        ("PORTERO__SINKS__VENDOR__URL", "http://127.0.0.1/"),
        ("PORTERO__SINK__CENTRAL__BATCH", "lots"),
        ("PORTERO__JOURNAL__PAHT", "/data"),
        ("PORTERO__TERMINAL", "x"),
    ];
    let said = lines(&bad(&site(), &with(&variables)));
    let expected = "\
PORTERO__JOURNAL__PAHT: journal.paht: found an unknown key, expected one of dedup_days, max_bytes, path, retention_days; did you mean path?
PORTERO__SINKS__VENDOR__URL: found table \"sinks\", expected one of GATEWAY, JOURNAL, MANAGE, LOG, BROKER, TERMINAL, SINK, then __ and the key; did you mean SINK?
PORTERO__SINK__CENTRAL__BATCH: sink[2].batch: found \"lots\", expected a whole number of events, for example 100 (from 1 to 50000)
PORTERO__SINK__VENDER__URL: found sink \"vender\", expected a sink of the file: VENDOR, CENTRAL; did you mean VENDOR?
PORTERO__TERMINAL: found a name without a key, expected PORTERO__TERMINAL__NAME__KEY
";
    assert_eq!(said, expected);
}

#[test]
fn secrets_are_looked_for_where_they_will_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let unit = folder.path().join("portero.service");
    let expect = |units: Vec<PathBuf>, secrets| Options { secrets, units, ..options() };

    // By hand, without a unit: doubts, not problems.
    let doubtful = good(&site(), &expect(vec![unit.clone()], Secrets::Expect));
    assert_eq!(doubtful.warnings.iter().filter(|w| w.found.contains("cannot be checked")).count(), 2);

    // By hand, with a unit that loads one of the two.
    std::fs::write(&unit, "[Service]\nLoadCredential=vendor_token:/etc/portero/credentials/vendor_token\n")
        .expect("written");
    let problems = bad(&site(), &expect(vec![unit.clone()], Secrets::Expect));
    assert_eq!(problems.errors.len(), 1);
    assert!(problems.errors[0].to_string().contains("LoadCredential=central_password:"), "{problems}");
    std::fs::create_dir(folder.path().join("portero.service.d")).expect("made");
    let more = "[Service]\nLoadCredentialEncrypted=central_password\n";
    std::fs::write(folder.path().join("portero.service.d/10-central.conf"), more).expect("written");
    good(&site(), &expect(vec![unit.clone()], Secrets::Expect));

    // To run they must be readable.
    let problems = bad(&site(), &expect(vec![unit], Secrets::Need));
    assert_eq!(problems.errors.len(), 2, "{problems}");

    // A file is looked at wherever we are.
    let file = folder.path().join("token");
    let text = site().replace("{ credential = \"vendor_token\" }", &format!("{{ file = \"{}\" }}", file.display()));
    let problems = bad(&text, &expect(Vec::new(), Secrets::Expect));
    assert_eq!((problems.errors.len(), problems.errors[0].line), (1, 45), "{problems}");
}

#[test]
fn a_page_on_the_network_is_a_doubt_and_one_on_loopback_is_none() {
    let page = |listen: &str| {
        let text = format!("{}\n[manage]\nlisten = \"{listen}\"\ntoken = {{ credential = \"page\" }}\n", site());
        good(&text, &options())
    };
    let loopback = page("127.0.0.1:8787");
    assert!(loopback.config.manage.page.is_some_and(|page| page.token.is_some()));
    assert!(!loopback.warnings.iter().any(|w| w.key == "manage.listen"));
    let network = page("[::]:8787");
    let doubt = network.warnings.iter().find(|w| w.key == "manage.listen").expect("a doubt");
    assert!(doubt.to_string().contains("unencrypted"), "{doubt}");
    assert_eq!(good(&site(), &options()).config.manage.page, None);
}

#[test]
fn a_file_that_is_not_there_is_one_problem() {
    let problems = load(Path::new("/nonexistent/portero.toml"), &options()).expect_err("there is no such file");
    assert_eq!(problems.errors.len(), 1);
    assert!(problems.to_string().contains("--config"), "{problems}");
}

#[test]
fn lines_and_pairs_are_read_by_their_layout() {
    let text = |layout: &str, person: &str| {
        format!(
            "[gateway]\nid = \"g\"\nsite = \"s\"\nzone = \"UTC\"\n[[terminal]]\nname = \"t\"\nprotocol = \"serial-lines\"\n\
             link = {{ type = \"serial\", device = \"/dev/null\" }}\nlayout = \"{layout}\"\nfields.person = {person}\n"
        )
    };
    let place = |layout: &str, person: &str| {
        let config = good(&text(layout, person), &options()).config;
        let decode::Config::SerialLines(lines) = &config.terminals[0].decoder else { panic!("serial-lines") };
        lines.fields[0].place.clone()
    };
    use portero::decode::fields::Place;
    assert_eq!(place("columns", "3"), Place::Column(3));
    assert_eq!(place("columns", "\"3\""), Place::Column(3));
    assert_eq!(place("columns", "{ column = 3 }"), Place::Column(3));
    assert_eq!(place("columns", "{ constant = \"7\" }"), Place::Constant("7".to_owned()));
    assert_eq!(place("pairs", "\"pin\""), Place::Key("pin".to_owned()));
    assert_eq!(place("json", "\"/a/b\""), Place::Pointer("/a/b".to_owned()));
    bad(&text("columns", "0"), &options());
    bad(&text("columns", "\"/pin\""), &options());
    bad(&text("json", "{ column = 3 }"), &options());
}

#[test]
fn a_problem_inside_of_a_preset_names_the_preset() {
    let text =
        format!("{}\n[[sink]]\nname = \"hr\"\npreset = \"buk-clockings\"\nurl = \"https://hr.example\"\n", site());
    assert_eq!(good(&text, &options()).config.sinks.len(), 3);
    let need = Options { secrets: Secrets::Need, ..options() };
    let said = lines(&bad(&text, &need));
    let of_preset: Vec<_> = said.lines().filter(|l| l.starts_with("config/presets/buk-clockings.toml:")).collect();
    assert_eq!(of_preset.len(), 2, "{said}");
    assert!(of_preset[0].contains("sink[3].auth.headers.x-provider-name"), "{said}");
    // What the sink says itself wins.
    let own = format!(
        "{text}auth.headers.x-provider-name = \"portero\"\nauth.headers.x-provider-token = {{ file = \"/x\" }}\n"
    );
    let said = lines(&bad(&own, &need));
    assert!(!said.contains("config/presets") && said.contains("/x"), "{said}");
}

#[test]
fn a_mapping_is_read_in_the_order_in_which_it_is_written() {
    use portero::deliver::api::mapping::{Format, Origin, Time};
    let text = std::fs::read_to_string(root().join("config/examples/vendor-mapping.toml")).expect("the example");
    let config = good(&text, &options()).config;
    let sink = &config.sinks[0];
    assert_eq!(sink.filter.kinds, [portero::event::Kind::AttendancePunch]);
    let portero::deliver::Kind::Api(api) = &sink.kind else { panic!("an API") };
    let map = api.map.as_ref().expect("a mapping");
    let targets: Vec<String> = map.fields.iter().map(|field| field.target.join(".")).collect();
    assert_eq!(targets, ["serialNumber", "idNumber", "time", "isEntry"]);
    let Origin::Source(source, Some(Time { zone, format })) = &map.fields[2].rule.origin else { panic!("a time") };
    assert_eq!(
        (source.pointer(), zone.as_str()),
        ("/event_time", "America/Santiago"),
        "the site's zone is the gateway's"
    );
    assert_eq!(*format, Format::Pattern("%Y-%m-%d %H:%M:%S".to_owned()));

    let elsewhere = text.replace("kinds = [", "terminals = [\"lobby-fac\"]\nkinds = [");
    let warnings = good(&elsewhere, &options()).warnings;
    let doubt = warnings.iter().find(|w| w.key == "sink[1].terminals").expect("a doubt");
    assert_eq!(doubt.nearest.as_deref(), Some("\"lobby-face\""));

    // Tables and dotted keys nest, an escaped dot does not, and true and false are words like others.
    let nested = text.replace(
        "serialNumber = \"/terminal_serial\"",
        "\"device.serial\" = \"/terminal_serial\"\ndevice.door = { from = \"/door/number\", optional = true }\n'a\\.b' = \"/kind\"\n\
         alarm = { from = \"/alarm/active\", map = { true = 1, false = 0 }, default = 0 }",
    );
    let config = good(&nested, &options()).config;
    let portero::deliver::Kind::Api(api) = &config.sinks[0].kind else { panic!("an API") };
    let targets: Vec<_> = api.map.as_ref().expect("a mapping").fields.iter().map(|f| f.target.join("|")).collect();
    assert_eq!(targets[..4], ["device|serial", "device|door", "a.b", "alarm"]);
}
