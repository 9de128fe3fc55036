//! Everything on the stage: terminals, gateway, destinations, and the plugs that can be pulled.
//!
//! Must not: know what the screen shows.

#![allow(clippy::expect_used, reason = "what can't be started ends the demo, and drop cleans up")]

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::gateway::{binary, program};
use crate::support::{
    Behaviour, DEADLINE, Gateway, Mosquitto, MosquittoOptions, Postgres, Process, Reply, VendorApi, eventually,
    free_port,
};

/// Devices of the yard's fleet.
const YARD_DEVICES: u32 = 20;

const VENDOR_TOKEN: &str = "demo-token";

const LOGIN: &str = "gw_demo";

/// A terminal as the screen and the reckoning know it.
pub(crate) struct Terminal {
    /// Its name in the configuration.
    pub(crate) name: &'static str,
    pub(crate) protocol: &'static str,
    /// Whether it is told that a record is safe.
    pub(crate) confirmed: bool,
    arguments: Vec<String>,
    process: Option<Process>,
    starts: u64,
}

/// What the vendor API got, by what the devices themselves call their records.
#[derive(Default)]
pub(crate) struct Got {
    /// Device key, device time and native sequence to event ids.
    pub(crate) records: HashMap<String, HashSet<String>>,
    /// Card to event ids, for the reader.
    pub(crate) cards: HashMap<String, HashSet<String>>,
    /// The last event in words.
    pub(crate) last: String,
}

pub(crate) struct Site {
    // Dropped in this order: terminals first, the directory last.
    pub(crate) terminals: Vec<Terminal>,
    pub(crate) gateway: Gateway,
    pub(crate) vendor: VendorApi,
    pub(crate) postgres: Postgres,
    pub(crate) got: Arc<Mutex<Got>>,
    pub(crate) destinations_away: bool,
    broker: String,
    /// The broker of the yard, where it has one of its own.
    between: Option<Mosquitto>,
    dir: tempfile::TempDir,
}

impl Site {
    /// Starts the destinations and the gateway; with `mosquitto` a broker between it and the yard, too.
    pub(crate) fn build(mosquitto: bool) -> Self {
        let dir = tempfile::Builder::new().prefix("portero-demo-").tempdir().expect("a temporary directory");
        let postgres = Postgres::start();
        prepare_centre(&postgres);
        let got = Arc::new(Mutex::new(Got::default()));
        let seen = Arc::clone(&got);
        let vendor = VendorApi::start_lean(Behaviour::Custom(Arc::new(move |request| {
            if request.authorization.as_deref() != Some(concat!("Bearer ", "demo-token")) {
                return Reply::refuse(401);
            }
            let mut got = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            request.events().iter().for_each(|event| got.take(event));
            Reply::ok()
        })));
        let port = free_port();
        let between = mosquitto.then(|| Mosquitto::start(dir.path(), &MosquittoOptions::default()));
        let yard = between.as_ref().map(Mosquitto::url);
        let config = dir.path().join("portero.toml");
        std::fs::write(&config, configuration(&dir, port, yard.as_deref(), &vendor, &postgres))
            .expect("room for a configuration");
        let secrets = [("vendor_token", VENDOR_TOKEN), ("central_password", "unused-on-loopback")];
        let mut gateway = Gateway::start(&config, &secrets);
        gateway.wait_ready();
        // Before somebody has subscribed, a broker in between keeps nothing for him.
        eventually("the gateway hears the yard", DEADLINE, || {
            let status = gateway.cli_json(&["status", "--json"]);
            let links = status["links"].as_array().map_or(&[][..], Vec::as_slice);
            links.iter().any(|link| link["name"] == "yard" && link["state"] == "up")
        });
        let broker = format!("mqtt://127.0.0.1:{port}");
        let terminals = terminals(&broker);
        Self { terminals, gateway, vendor, postgres, got, destinations_away: false, broker, between, dir }
    }

    fn manifest(&self, terminal: usize) -> PathBuf {
        self.dir.path().join(format!("{}.jsonl", self.terminals[terminal].name))
    }

    /// What terminal `index` wrote down before sending it, and what of it was confirmed, one JSON object a line.
    pub(crate) fn manifests(&self, index: usize) -> (PathBuf, PathBuf) {
        let sent = self.manifest(index);
        let mut confirmed = sent.clone().into_os_string();
        confirmed.push(".confirmed");
        (sent, confirmed.into())
    }

    fn start(&mut self, index: usize) {
        let (manifest, _) = self.manifests(index);
        let link = self.dir.path().join("reader");
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("terminals.log"));
        let log = log.expect("room for a log");
        let terminal = &mut self.terminals[index];
        terminal.starts += 1;
        let mut command = Command::new(binary());
        command.arg("simulate").arg(terminal.protocol).args(&terminal.arguments);
        command.arg("--manifest").arg(manifest).args(["--seed", &(index as u64 * 100 + terminal.starts).to_string()]);
        if terminal.protocol == "rdm6300" {
            command.arg("--pty").arg(link);
        } else {
            let yard = self.between.as_ref().filter(|_| terminal.name == "yard").map(Mosquitto::url);
            command.args(["--broker", yard.as_ref().unwrap_or(&self.broker)]);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        terminal.process = Some(Process::spawn(&mut command));
    }

    /// Ends a terminal gently: it stops making events and waits for what is still unconfirmed.
    fn stop(&mut self, index: usize) {
        if let Some(process) = &mut self.terminals[index].process {
            process.signal(Signal::TERM);
        }
    }

    fn wait_for_end(&mut self, index: usize) {
        if let Some(mut process) = self.terminals[index].process.take() {
            process.wait(DEADLINE);
        }
    }

    /// Every terminal but the reader.
    pub(crate) fn start_terminals(&mut self) {
        (1..self.terminals.len()).for_each(|index| self.start(index));
    }

    pub(crate) fn stop_terminals(&mut self) {
        (1..self.terminals.len()).for_each(|index| self.stop(index));
        (1..self.terminals.len()).for_each(|index| self.wait_for_end(index));
    }

    pub(crate) fn plug_reader(&mut self) {
        self.start(0);
    }

    /// The swipe that has begun is finished before.
    pub(crate) fn unplug_reader(&mut self) {
        self.stop(0);
        self.wait_for_end(0);
    }

    pub(crate) fn take_destinations_away(&mut self) {
        self.vendor.stop();
        self.postgres.stop_immediate();
        self.destinations_away = true;
    }

    pub(crate) fn bring_destinations_back(&mut self) {
        self.vendor.start_again();
        self.postgres.start_again();
        self.destinations_away = false;
    }

    pub(crate) fn kill_gateway(&mut self) {
        self.gateway.sigkill();
    }

    pub(crate) fn restart_gateway(&mut self) {
        self.gateway.restart_ready();
    }

    pub(crate) fn how_to_look_around(&self) -> String {
        let (program, dir) = (binary(), self.dir.path().display());
        let program = program.display();
        format!(
            "\nThe site goes on. In another terminal:\n  {program} status --config {dir}/portero.toml\n  \
             {program} events --follow --config {dir}/portero.toml\n  psql {}\n  less {dir}/portero.toml.log\n",
            self.postgres.url()
        )
    }
}

impl Got {
    fn take(&mut self, event: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let id = text(&event["event_id"]);
        let who = [&event["person"]["terminal_person_id"], &event["credential"]["bits"]];
        let who = who.iter().find_map(|value| value.as_str()).unwrap_or("?");
        let when = event["event_time"].as_str().and_then(|time| time.get(11..19)).unwrap_or("?");
        self.last = format!("{} {} {who} at {when} UTC", text(&event["terminal_id"]), text(&event["kind"]));
        if event["terminal_id"] == "gate-1" {
            self.cards.entry(text(&event["credential"]["bits"])).or_default().insert(id);
        } else {
            let parts = ["terminal_serial", "device_time_raw", "native_seq"].map(|name| text(&event[name]));
            self.records.entry(parts.join("|")).or_default().insert(id);
        }
    }
}

fn terminals(broker: &str) -> Vec<Terminal> {
    debug_assert!(broker.starts_with("mqtt://"));
    let terminal = |name, protocol, confirmed, arguments: &str| Terminal {
        name,
        protocol,
        confirmed,
        arguments: arguments.split_whitespace().map(str::to_owned).collect(),
        process: None,
        starts: 0,
    };
    let yard = format!("--devices {YARD_DEVICES} --connections 4 --rate 40");
    vec![
        terminal("gate-1", "rdm6300", false, "--rate 0.7"),
        terminal("lobby-face", "mqtt-face", true, "--device-id 1026700 --zone America/Santiago --rate 0.8"),
        terminal("canteen-face", "mqtt-face", true, "--device-id 1026701 --zone America/Santiago --rate 0.5"),
        terminal("yard", "mqtt-json", true, &yard),
    ]
}

/// Makes the schema with the gateway's own command, and a login that may do nothing but deliver.
fn prepare_centre(postgres: &Postgres) {
    let url = postgres.url();
    let output = program()
        .args(["central", "init", "--apply", "--tls", "disable", "--url", &url])
        .stdin(Stdio::null())
        .output()
        .expect("portero, which is built beside this program");
    assert!(output.status.success(), "portero central init: {}", String::from_utf8_lossy(&output.stderr));
    postgres.psql(&format!("create role {LOGIN} login in role portero_gateway"));
}

fn configuration(
    dir: &tempfile::TempDir,
    port: u16,
    between: Option<&str>,
    vendor: &VendorApi,
    postgres: &Postgres,
) -> String {
    let yard = between.map_or("site", |_| "between");
    let between =
        between.map_or_else(String::new, |url| format!("\n[[broker]]\nname = \"between\"\nurl = \"{url}\"\n"));
    let (dir, vendor_url, central) = (dir.path().display(), vendor.url(), postgres.url_as(LOGIN));
    format!(
        r#"[gateway]
id = "gw-demo-01"
site = "demo"
zone = "America/Santiago"

[journal]
path = "{dir}/journal.db"

[manage]
socket = "{dir}/control.sock"

[[broker]]
name = "site"
listen = "127.0.0.1:{port}"
{between}
[[terminal]]
name = "gate-1"
protocol = "rdm6300"
link = {{ type = "serial", device = "{dir}/reader", baud = 9600 }}

[[terminal]]
name = "lobby-face"
protocol = "mqtt-face"
link = {{ type = "mqtt", broker = "site", device_id = "1026700" }}

[[terminal]]
name = "canteen-face"
protocol = "mqtt-face"
link = {{ type = "mqtt", broker = "site", device_id = "1026701" }}

[[terminal]]
name = "yard"
protocol = "mqtt-json"
link = {{ type = "mqtt", broker = "{yard}", topic = "site/yard/+/events" }}
zone = "UTC"
fields.person = "/pin"
fields.device_time = "/ts"
fields.native_seq = "/event_id"
fields.terminal_serial = "/sn"
fields.door = "/door"
fields.credential = "/card"
fields.punch = {{ from = "/dir", map = {{ in = "in", out = "out" }} }}
fields.methods = {{ from = "/verify", map = {{ fp = "finger", face = "face", card = "card", pin = "pin" }} }}

[[sink]]
name = "vendor"
type = "api"
url = "{vendor_url}"
batch = 100
auth = {{ type = "bearer", token = {{ credential = "vendor_token" }} }}

[[sink]]
name = "central"
type = "postgres"
url = "{central}"
password = {{ credential = "central_password" }}
tls = "disable"
"#
    )
}
