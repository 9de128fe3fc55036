//! `portero mapping check` against documents of ours: it finds what was planted and names both places, passes what is
//! right, and Prism, which others wrote, says the same of what the gateway really sends.
#![cfg(feature = "contract")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod support;

#[path = "contract/planted.rs"]
mod planted;
#[path = "contract/prism.rs"]
mod prism;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use planted::{In, PLANTED, Planted};
use serde_json::{Value, json};
use support::gateway::binary;
use support::{DEADLINE, Gateway, eventually, free_port, tempdir, yard_config};

const CONFIG: &str = include_str!("fixtures/contract/portero.toml");
const DOCUMENT: &str = include_str!("fixtures/contract/clockings.yaml");

fn check(config: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(["mapping", "check", "--config"]).arg(config).args(more);
    command.env_remove("PORTERO_CONFIG").env_remove("CREDENTIALS_DIRECTORY").stdin(Stdio::null()).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A configuration and a document on disk.
struct Desk {
    dir: tempfile::TempDir,
    config: PathBuf,
    document: PathBuf,
}

impl Desk {
    fn new(config: &str, document: &str) -> Self {
        let dir = tempdir();
        let (config_file, document_file) = (dir.path().join("portero.toml"), dir.path().join("vendor.yaml"));
        std::fs::write(&config_file, config).unwrap();
        std::fs::write(&document_file, document).unwrap();
        Self { dir, config: config_file, document: document_file }
    }

    /// With `--json`, findings and notes apart.
    #[track_caller]
    fn findings(&self, sink: &str, more: &[&str]) -> (Option<i32>, Vec<Value>, Vec<Value>) {
        let document = self.document.to_str().unwrap();
        let output = check(&self.config, &[&["--sink", sink, "--openapi", document, "--json"], more].concat());
        assert!(matches!(output.status.code(), Some(0 | 1)), "{sink}: {}", err(&output));
        let lines = out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
        let (found, notes) = lines.into_iter().partition(|line| line["level"] == "finding");
        (output.status.code(), found, notes)
    }
}

/// The text after every change, each of which must change something, and only one place.
#[track_caller]
fn edited(text: &str, edits: &[(&str, &str)]) -> String {
    edits.iter().fold(text.to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "in one place and no other: {from}");
        text.replacen(from, to, 1)
    })
}

/// Only one `[[sink]]` of the configuration, which is what is edited.
fn only(sink: &str) -> String {
    let mut parts = CONFIG.split("[[sink]]\n");
    let before = parts.next().unwrap();
    let own = parts.find(|part| part.starts_with(&format!("name = \"{sink}\""))).unwrap();
    format!("{before}[[sink]]\n{own}")
}

fn line(text: &str, number: &Value) -> String {
    let number = usize::try_from(number.as_u64().unwrap_or(0)).unwrap();
    text.lines().nth(number.wrapping_sub(1)).unwrap_or("no line at all").trim().to_owned()
}

#[test]
fn what_is_right_passes_with_notes_and_without_findings() {
    for sink in ["hr", "many", "form"] {
        let desk = Desk::new(CONFIG, DOCUMENT);
        let (code, found, notes) = desk.findings(sink, &[]);
        assert_eq!((code, found), (Some(0), Vec::new()), "{sink}");
        assert!(!notes.is_empty() && notes.iter().all(|note| note["rule"] == "answer"), "{sink}: {notes:?}");
    }
    let desk = Desk::new(CONFIG, DOCUMENT);
    assert_eq!(desk.findings("hr", &["--operation", "createClocking"]).0, Some(0));
}

#[test]
fn every_planted_mistake_is_found_and_both_places_are_named() {
    assert!(PLANTED.len() >= 20);
    for Planted { sink, plant, rule, ours, theirs, pointer } in PLANTED {
        let edits = |wanted: In| -> Vec<(&str, &str)> {
            plant.iter().filter(|(place, ..)| *place == wanted).map(|(_, from, to)| (*from, *to)).collect()
        };
        let config = edited(&only(sink), &edits(In::Config));
        let document = edited(DOCUMENT, &edits(In::Document));
        let desk = Desk::new(&config, &document);
        let (code, found, _) = desk.findings(sink, &[]);
        let what = format!("{plant:?}: {found:#?}");
        assert_eq!((code, found.len()), (Some(1), 1), "{what}");
        let finding = &found[0];
        assert_eq!(&finding["rule"], rule, "{what}");
        assert_eq!(finding["file"], desk.config.to_str().unwrap(), "{what}");
        assert_eq!(finding["document"], desk.document.to_str().unwrap(), "{what}");
        let (our_line, their_line) = (line(&config, &finding["line"]), line(&document, &finding["document_line"]));
        assert!(our_line.starts_with(ours), "{our_line} is not {ours} in {what}");
        assert!(their_line.starts_with(theirs), "{their_line} is not {theirs} in {what}");
        assert!(finding["pointer"].as_str().unwrap().ends_with(pointer), "{what}");
        assert!(finding["key"].as_str().unwrap().starts_with(&format!("sink.{sink}")), "{what}");
    }
}

#[test]
fn queries_plain_events_and_json_rpc_are_read_too() {
    let config = include_str!("fixtures/contract/bodies/portero.toml");
    let desk = Desk::new(config, include_str!("fixtures/contract/bodies/vendor.yaml"));
    for (sink, expected) in [
        ("q", &[("enum", "sink.q.map.dir", "dir = ")][..]),
        ("plain", &[("required", "sink.plain", "[[sink]]")]),
        ("rpc", &[("enum", "sink.rpc.map.dir", "dir = "), ("type", "sink.rpc.map.who", "who = ")]),
    ] {
        let (code, found, _) = desk.findings(sink, &[]);
        assert_eq!((code, found.len()), (Some(1), expected.len()), "{found:#?}");
        for (finding, (rule, key, ours)) in found.iter().zip(expected) {
            assert_eq!((&finding["rule"], &finding["key"]), (&json!(rule), &json!(key)), "{found:#?}");
            assert!(line(config, &finding["line"]).starts_with(ours), "{found:#?}");
        }
    }
}

#[test]
fn people_are_shown_both_places_and_a_sum() {
    let config = edited(&only("hr"), &[("method = \"POST\"", "method = \"PUT\"")]);
    let desk = Desk::new(&config, DOCUMENT);
    let (ours, theirs) = (desk.config.to_str().unwrap(), desk.document.to_str().unwrap());
    let shown = check(&desk.config, &["--sink", "hr", "--openapi", theirs]);
    assert_eq!(shown.status.code(), Some(1));
    let first = format!(
        "{ours}:19: sink.hr.request.method: /clockings takes no PUT; it takes POST [method]\n    \
         {theirs}:16: /paths/~1clockings\n    in "
    );
    assert!(out(&shown).starts_with(&first), "{}", out(&shown));
    assert!(out(&shown).contains("\n# 1 finding; ") && out(&shown).contains(" 0 of stored "), "{}", out(&shown));
    let slip = check(&desk.config, &["--sink", "hr", "--openapi", theirs, "--operation", "createCloking"]);
    assert_eq!(slip.status.code(), Some(2));
    assert!(err(&slip).contains("near are createClocking"), "{}", err(&slip));
}

/// An `auth`, what is changed in the document, and whether the two then fit.
type Shown<'a> = (String, Vec<(&'a str, String)>, bool);

#[test]
fn other_ways_to_show_who_we_are_fit_where_the_document_names_them() {
    let key = "auth = { type = \"api_key\", header = \"x-provider-token\", key = { credential = \"hr_token\" } }";
    let secret = "{ credential = \"hr_token\" }";
    let scheme = "in: header\n      name: X-Provider-Token";
    let cert = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/ca.pem");
    let named = |what: &str| format!("providerToken:\n      type: {what}\n");
    let token = "providerToken:\n      type: apiKey\n      in: header\n      name: X-Provider-Token\n";
    let cases: [Shown<'_>; 7] = [
        (
            format!("auth = {{ type = \"query\", name = \"key\", value = {secret} }}"),
            vec![(scheme, "in: query\n      name: key".into())],
            true,
        ),
        (format!("auth = {{ type = \"query\", name = \"key\", value = {secret} }}"), Vec::new(), false),
        (
            format!(
                "auth = {{ type = \"oauth2\", url = \"https://hr.example/token\", client_id = \"gw\", client_secret = {secret} }}"
            ),
            vec![(token, named("oauth2"))],
            true,
        ),
        (
            format!("auth = {{ type = \"basic\", user = \"gw\", password = {secret} }}"),
            vec![(token, named("http\n      scheme: basic"))],
            true,
        ),
        (
            format!("auth = {{ type = \"basic\", user = \"gw\", password = {secret} }}"),
            vec![(token, named("http\n      scheme: bearer"))],
            false,
        ),
        (
            format!("auth = {{ type = \"none\" }}\nclient_cert = \"{cert}\"\nclient_key = {secret}"),
            vec![(token, named("mutualTLS"))],
            true,
        ),
        ("auth = { type = \"none\" }".to_owned(), vec![(token, named("mutualTLS"))], false),
    ];
    for (auth, document, fits) in cases {
        let config = edited(&only("hr"), &[(key, &auth)]);
        let document: Vec<(&str, &str)> = document.iter().map(|(from, to)| (*from, to.as_str())).collect();
        let desk = Desk::new(&config, &edited(DOCUMENT, &document));
        let (code, found, _) = desk.findings("hr", &[]);
        assert_eq!(code, Some(i32::from(!fits)), "{auth}: {found:?}");
        assert!(fits || found[0]["rule"] == "security" && found[0]["key"] == "sink.hr.auth", "{auth}: {found:?}");
    }
}

#[test]
fn a_cookie_that_auth_sends_is_there_and_a_number_in_a_list_of_a_query_is_one() {
    let key = "auth = { type = \"api_key\", header = \"x-provider-token\", key = { credential = \"hr_token\" } }";
    let login = "auth = { type = \"login\", url = \"https://hr.example/login\", fields = { \"/key\" = { credential = \"hr_token\" } }, \
                 token = \"/token\", place = \"cookie:session\" }";
    let scheme = ("in: header\n      name: X-Provider-Token", "in: cookie\n      name: session");
    let operation = "operationId: createClocking\n";
    for (name, fits) in [("session", true), ("sesion", false)] {
        let declared = format!(
            "{operation}      parameters:\n        - {{ name: {name}, in: cookie, required: true, schema: {{ type: string }} }}\n        \
             - {{ name: site, in: query, schema: {{ type: array, items: {{ type: integer }} }} }}\n"
        );
        let config = edited(&only("hr"), &[(key, login), ("path = \"/clockings\"", "path = \"/clockings?site=7\"")]);
        let desk = Desk::new(&config, &edited(DOCUMENT, &[scheme, (operation, &declared)]));
        let (code, found, _) = desk.findings("hr", &[]);
        assert_eq!(code, Some(i32::from(!fits)), "{found:?}");
        assert!(
            fits || found[0]["message"].as_str().unwrap().contains("lacks the required cookie 'sesion'"),
            "{found:?}"
        );
    }
}

#[test]
fn a_document_of_openapi_3_1_says_the_same_in_its_own_words() {
    let newer = edited(
        DOCUMENT,
        &[
            ("openapi: 3.0.3", "openapi: 3.1.0"),
            ("minimum: 0\n            exclusiveMinimum: true", "exclusiveMinimum: 0"),
            ("maximum: 1440\n                  exclusiveMaximum: true", "exclusiveMaximum: 1440"),
            (
                "type: string\n                  nullable: true\n                  enum: [terminal, mobile]",
                "enum: [terminal, mobile, null]",
            ),
            ("type: string\n          nullable: true", "type: [string, \"null\"]"),
        ],
    );
    for sink in ["hr", "many", "form"] {
        let (code, found, _) = Desk::new(CONFIG, &newer).findings(sink, &[]);
        assert_eq!((code, found), (Some(0), Vec::new()), "{sink}");
    }
    // A bound that is not reached any more, in both ways of saying so.
    let config = edited(&only("form"), &[("{/person/terminal_person_id}", "0")]);
    for document in [DOCUMENT, newer.as_str()] {
        let (_, found, _) = Desk::new(&config, document).findings("form", &[]);
        let rules: Vec<&Value> = found.iter().map(|finding| &finding["rule"]).collect();
        assert_eq!(rules, [&json!("exclusiveMinimum")], "{found:?}");
    }
}

#[test]
fn a_json_schema_alone_is_enough() {
    let schema = "{\n  \"type\": \"object\",\n  \"required\": [\"idNumber\", \"isEntry\"],\n  \"properties\": {\n    \
                  \"isEntry\": { \"type\": \"boolean\" },\n    \"mask\": { \"enum\": [0, 1] }\n  }\n}\n";
    for (edits, code) in [(&[][..], 0), (&[("yes = 1", "yes = 2")], 1)] {
        let desk = Desk::new(&edited(&only("hr"), edits), DOCUMENT);
        let file = desk.dir.path().join("schema.json");
        std::fs::write(&file, schema).unwrap();
        let checked = check(&desk.config, &["--sink", "hr", "--schema", file.to_str().unwrap()]);
        assert_eq!(checked.status.code(), Some(code), "{}{}", out(&checked), err(&checked));
        let place = format!("{}:6: /properties/mask/enum", file.display());
        assert_eq!(out(&checked).contains(&place), code == 1, "{}", out(&checked));
    }
}

#[test]
fn what_cannot_be_read_or_used_is_refused_in_words() {
    let photos = edited(&only("hr"), &[("path = \"/clockings\"", "path = \"/photos\"")]);
    let hr = only("hr");
    let circle =
        edited(DOCUMENT, &[("    Identifier:\n      type: string", "    Identifier:\n      $ref: \"#/nowhere\"")]);
    let cases: &[(&str, &str, i32, &[&str])] = &[
        (&hr, "swagger: \"2.0\"\npaths: {}\n", 65, &["Swagger 2.0", "swagger2openapi"]),
        (&hr, "openapi: 4.0.0\npaths: {}\n", 65, &["4.0.0", "3.0 or 3.1"]),
        (&hr, "title: no document\n", 65, &["no key 'openapi'"]),
        (&photos, DOCUMENT, 65, &["https://photos.example/schema.json", "bundle", "vendor.yaml:126"]),
        (&hr, &circle, 65, &["#/nowhere", "leads nowhere"]),
        (&hr, "openapi: 3.0.3\npaths: [\n", 65, &["neither JSON nor YAML", "line "]),
        (&hr, "{\n \"openapi\": \"3.0.3\",,\n}", 65, &["line 2", "neither JSON nor YAML"]),
        (&hr, "", 65, &["nothing in it"]),
        ("[gateway]\nid = 7\n", DOCUMENT, 78, &["gateway"]),
    ];
    for (config, document, code, words) in cases {
        let desk = Desk::new(config, document);
        let checked = check(&desk.config, &["--sink", "hr", "--openapi", desk.document.to_str().unwrap()]);
        assert_eq!(checked.status.code(), Some(*code), "{words:?}: {}{}", out(&checked), err(&checked));
        for word in *words {
            assert!(err(&checked).contains(word), "{word} in {}", err(&checked));
        }
    }
    let desk = Desk::new(CONFIG, DOCUMENT);
    let document = desk.document.to_str().unwrap();
    for (more, code) in [
        (&["--sink", "hr"][..], 2),
        (&["--sink", "hr", "--openapi", document, "--schema", document], 2),
        (&["--sink", "nobody", "--openapi", document], 2),
        (&["--sink", "hr", "--openapi", "/nonexistent.yaml"], 74),
    ] {
        let checked = check(&desk.config, more);
        assert_eq!(checked.status.code(), Some(code), "{more:?}: {}", err(&checked));
    }
}

#[test]
fn stored_events_are_checked_as_they_are() {
    let dir = tempdir();
    let port = free_port();
    let sink = only("hr");
    let sink = &sink[sink.find("[[sink]]").unwrap()..];
    // Nobody listens there: the events stay where they are.
    let sink = sink.replace("https://hr.example", "http://127.0.0.1:9");
    let config = dir.path().join("portero.toml");
    std::fs::write(&config, yard_config(dir.path(), &format!("listen = \"127.0.0.1:{port}\""), &sink)).unwrap();
    let mut gateway = Gateway::start(&config, &[("hr_token", "t0ken")]);
    gateway.wait_ready();
    gateway.play_yard(port, 30, 3, &[]);
    eventually("the journal has them", DEADLINE, || {
        gateway.cli_json(&["journal", "stats", "--json"])["appended"] == 30
    });
    let document = dir.path().join("vendor.yaml");
    std::fs::write(&document, DOCUMENT).unwrap();
    let arguments = ["mapping", "check", "--sink", "hr", "--openapi", document.to_str().unwrap()];
    let good = gateway.cli(&arguments);
    assert_eq!(good.status.code(), Some(0), "{}{}", out(&good), err(&good));
    assert!(out(&good).contains(", 30 of stored and "), "{}", out(&good));
    // Six digits, as this site's terminals have them, where generated events have four.
    let short = [(
        "idNumber:\n          $ref: \"#/components/schemas/Identifier\"",
        "idNumber:\n          type: string\n          maxLength: 5",
    )];
    std::fs::write(&document, edited(DOCUMENT, &short)).unwrap();
    let found = gateway.cli(&[&arguments[..], &["--json"]].concat());
    assert_eq!(found.status.code(), Some(1), "{}", err(&found));
    let first: Value = serde_json::from_str(out(&found).lines().next().unwrap()).unwrap();
    assert_eq!((&first["rule"], &first["key"]), (&json!("maxLength"), &json!("sink.hr.map.idNumber")));
    assert_eq!((&first["requests"], &first["seqs"]), (&json!(30), &json!([1])));
    assert_eq!(gateway.sigterm().code(), Some(0));
}
