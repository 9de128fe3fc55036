//! From a file to a whole configuration, or to all of its problems.
//!
//! Must not: open a device, a socket or a database (I8), or give a half-right configuration to anybody.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::bundle::Layer;
use super::problem::{self, Problem, Problems};
use super::reader::{Reader, Report};
use super::secrets::{self, Secrets};
use super::sinks::{self, Sink};
use super::status;
use super::terminals::{self, Terminal};
use super::tree::{self, Place};
use super::{Config, Expiring, ManageConfig, brokers, directory, layers, plain, remote, topics};
use crate::terminal::{BrokerConfig, Endpoint};

/// Largest configuration file, bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What loading takes from its surroundings.
#[derive(Debug, Clone)]
pub struct Options {
    /// How closely secrets are looked at.
    pub secrets: Secrets,
    /// The environment's variables; those that start with `PORTERO__` override keys.
    pub environment: Vec<(String, String)>,
    /// `$CREDENTIALS_DIRECTORY`.
    pub credentials: Option<PathBuf>,
    /// Where the systemd unit may stand, best first.
    pub units: Vec<PathBuf>,
}

impl Options {
    /// As this process finds them.
    pub fn from_process(secrets: Secrets) -> Self {
        let environment = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Self {
            secrets,
            environment: environment.collect(),
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            // The order of systemd.unit(5).
            units: ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"]
                .map(|dir| Path::new(dir).join("portero.service"))
                .into(),
        }
    }
}

/// A configuration that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Everything.
    pub config: Config,
    /// What is doubtful and still allowed.
    pub warnings: Vec<Problem>,
}

/// Reads and checks a file.
pub fn load(file: &Path, options: &Options) -> Result<Loaded, Problems> {
    load_layered(file, options, None)
}

/// The same with a bundle over it.
pub fn load_layered(file: &Path, options: &Options, bundle: Option<&Layer>) -> Result<Loaded, Problems> {
    load_layered_text(file, &text_of(file)?, options, bundle)
}

/// The text of a file.
pub fn text_of(file: &Path) -> Result<String, Problems> {
    let fail = |found: String, expected: &str| Problems {
        file: file.to_owned(),
        errors: vec![problem::whole(file, found, expected)],
        warnings: Vec::new(),
    };
    let expected = "a readable configuration file; name another with --config FILE or $PORTERO_CONFIG";
    let length = std::fs::metadata(file).map_err(|e| fail(format!("no readable file ({e})"), expected))?.len();
    if length > MAX_BYTES {
        return Err(fail(format!("{length} bytes"), "at most 1048576 bytes"));
    }
    let bytes = std::fs::read(file).map_err(|e| fail(format!("no readable file ({e})"), expected))?;
    String::from_utf8(bytes).map_err(|_| fail("bytes that are not UTF-8".to_owned(), "UTF-8 text"))
}

/// Checks the text of a file; `file` only stands in messages.
pub fn load_text(file: &Path, text: &str, options: &Options) -> Result<Loaded, Problems> {
    load_layered_text(file, text, options, None)
}

/// The same with a bundle over it.
pub fn load_layered_text(
    file: &Path,
    text: &str,
    options: &Options,
    bundle: Option<&Layer>,
) -> Result<Loaded, Problems> {
    let mut report = Report::new(file, text).with_bundle(bundle);
    let config = match layers::root(&mut report, text, options, bundle) {
        Some(root) => {
            let config = resolve(&root, &report);
            secrets::check(&report, options.secrets, options.credentials.as_deref(), &options.units);
            config
        }
        None => None,
    };
    let (mut errors, mut warnings) = (report.errors.into_inner(), report.warnings.into_inner());
    problem::sort(&mut errors);
    errors.dedup();
    problem::sort(&mut warnings);
    match config {
        Some(config) if errors.is_empty() => Ok(Loaded { config, warnings }),
        _ => {
            if errors.is_empty() {
                // Nothing may be left out without a word; this would be a mistake of ours.
                errors.push(problem::whole(file, "something that could not be understood", "a complete configuration"));
            }
            Err(Problems { file: file.to_owned(), errors, warnings })
        }
    }
}

fn resolve(root: &tree::Table, report: &Report<'_>) -> Option<Config> {
    let top = Place::File(0..0);
    let root = Reader::new(report, String::new(), top.clone(), Some(root));
    // An absent table is an empty one: its needed keys are then reported one by one.
    let table = |key: &'static str, expected: &str| {
        root.child(key, expected).unwrap_or_else(|| Reader::new(report, key.to_owned(), top.clone(), None))
    };
    let (identity, clock, group) = plain::gateway(table("gateway", "a table [gateway]"));
    let journal = plain::journal(table("journal", "a table [journal]"));
    let directory = root.child("directory", "a table [directory]").map(directory::directory);
    let manage = plain::manage(table("manage", "a table [manage]"));
    let log = plain::log(table("log", "a table [log]"));
    layers::may(&root);
    let remote_place = remote::place(&root);
    let gateway_id = identity.as_ref().map(|i| i.gateway_id.as_str());
    let mut broker_names = Vec::new();
    let mut brokers = Vec::new();
    for reader in root.children("broker", "tables [[broker]]") {
        if let Some(node) = reader.get("name")
            && let Some(name) = super::reader::as_text(node)
        {
            broker_names.push((reader.path.clone(), name.to_owned(), node.place.clone()));
        }
        let (path, place) = (reader.path.clone(), reader.place.clone());
        brokers.push((path, place, brokers::broker(reader, gateway_id)));
    }
    let terminals: Vec<Terminal> =
        root.children("terminal", "tables [[terminal]]").into_iter().map(terminals::terminal).collect();
    let around = sinks::Around {
        site_zone: identity.as_ref().map(|i| i.zone.as_str()),
        terminals: terminals.iter().filter_map(|t| t.name.as_ref().map(|(name, _)| name.as_str())).collect(),
        directory: directory.is_some(),
    };
    let sinks: Vec<Sink> =
        root.children("sink", "tables [[sink]]").into_iter().map(|reader| sinks::sink(reader, &around)).collect();
    if let Some(reader) = root.child("manage", "a table [manage]") {
        status::fits(&reader, &manage, &brokers);
    }
    root.finish(&[]);

    unique(report, "a name that no other broker has", broker_names.iter().map(|(p, n, place)| (p, n, place)));
    let terminal_names = terminals.iter().filter_map(|t| t.name.as_ref().map(|(n, place)| (&t.path, n, place)));
    unique(report, "a name that no other terminal has", terminal_names.clone());
    // `status` shows brokers and terminals in one list.
    let brokers_too: Vec<&str> = broker_names.iter().map(|b| b.1.as_str()).collect();
    for (path, name, place) in terminal_names {
        if brokers_too.contains(&name.as_str()) {
            let key = format!("{path}.name");
            report.error(report.problem(place, &key, &tree::quoted(name), "a name that no broker has"));
        }
    }
    let sink_names = sinks.iter().filter_map(|s| s.name.as_ref().map(|(n, place)| (&s.path, n, place)));
    unique(report, "a name that no other sink has", sink_names);
    devices(report, &terminals);
    clients(report, &brokers);
    page_alone(report, &brokers, &manage);
    remote::broker(report, &remote_place, manage.remote.as_ref(), &brokers);
    let known: Vec<(&str, Option<&BrokerConfig>)> = broker_names
        .iter()
        .map(|(path, name, _)| {
            let config = brokers.iter().find(|(p, _, _)| p == path).and_then(|(_, _, config)| config.as_ref());
            (name.as_str(), config)
        })
        .collect();
    topics_of(report, &terminals, &known);

    let expiring = report.expiring.take().into_iter().map(|(key, day)| {
        let owner = sinks.iter().find(|sink| key.starts_with(&format!("{}.", sink.path)));
        let sink = owner.and_then(|sink| sink.name.as_ref()).map(|(name, _)| name.clone());
        Expiring { sink, key, last_day: day }
    });
    let expiring = expiring.collect();
    let used = report.secrets.borrow().iter().map(|(source, problem)| (problem.key.clone(), source.clone())).collect();
    Some(Config {
        expiring,
        secrets: used,
        file: report.file.clone(),
        identity: identity?,
        group,
        clock,
        journal,
        brokers: brokers.into_iter().map(|(_, _, broker)| broker).collect::<Option<_>>()?,
        terminals: terminals.into_iter().map(|t| t.config).collect::<Option<_>>()?,
        sinks: sinks.into_iter().map(|s| s.config).collect::<Option<_>>()?,
        directory: match directory {
            Some(read) => Some(read?),
            None => None,
        },
        manage,
        log,
    })
}

#[expect(clippy::needless_pass_by_value, reason = "a cloneable iterator is a few pointers")]
fn unique<'a>(
    report: &Report<'_>,
    expected: &str,
    names: impl Iterator<Item = (&'a String, &'a String, &'a Place)> + Clone,
) {
    for (index, (path, name, place)) in names.clone().enumerate() {
        if let Some((first, _, _)) = names.clone().take(index).find(|(_, n, _)| *n == name) {
            let found = format!("{}, the name of {first}", tree::quoted(name));
            report.error(report.problem(place, &format!("{path}.name"), &found, expected));
        }
    }
}

/// Two terminals on one device, also by way of two names of it.
fn devices(report: &Report<'_>, terminals: &[Terminal]) {
    let real = |path: &PathBuf| std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
    let used: Vec<_> = terminals.iter().filter_map(|t| t.device.as_ref().map(|(d, p)| (t, d, p, real(d)))).collect();
    for (index, (terminal, device, place, at)) in used.iter().enumerate() {
        if let Some((other, ..)) = used[..index].iter().find(|(_, _, _, earlier)| earlier == at) {
            let owner = other.name.as_ref().map_or(other.path.as_str(), |(name, _)| name);
            let found = format!("{}, the device of \"{owner}\"", tree::quoted(&device.display().to_string()));
            let key = format!("{}.link.device", terminal.path);
            report.error(report.problem(place, &key, &found, "a device of its own for each terminal"));
        }
    }
}

/// Two connections under one client id at one broker would throw each other out for ever; two listeners can't share a port.
fn clients(report: &Report<'_>, brokers: &[(String, Place, Option<BrokerConfig>)]) {
    for (index, (path, place, broker)) in brokers.iter().enumerate() {
        let Some(broker) = broker else { continue };
        for (other, _, earlier) in &brokers[..index] {
            match (&broker.endpoint, earlier.as_ref().map(|b| &b.endpoint)) {
                (Endpoint::Connect(a), Some(Endpoint::Connect(b)))
                    if (&a.host, a.port, &a.client_id) == (&b.host, b.port, &b.client_id) =>
                {
                    let found = format!("{}, the client id of {other} at the same broker", tree::quoted(&a.client_id));
                    let expected = "one [[broker]] for both, or another client_id";
                    report.error(report.problem(place, &format!("{path}.client_id"), &found, expected));
                }
                (Endpoint::Listen(a), Some(Endpoint::Listen(b))) if meet(a.address, b.address) => {
                    let found = format!("\"{}\", which {other} listens on", a.address);
                    report.error(report.problem(place, &format!("{path}.listen"), &found, "another port"));
                }
                _ => {}
            }
        }
    }
}

/// The status page's port is nobody else's.
fn page_alone(report: &Report<'_>, brokers: &[(String, Place, Option<BrokerConfig>)], manage: &ManageConfig) {
    let Some(page) = &manage.page else { return };
    for (path, place, broker) in brokers {
        if let Some(Endpoint::Listen(listen)) = broker.as_ref().map(|broker| &broker.endpoint)
            && meet(listen.address, page.address)
        {
            let found = format!("\"{}\", where [manage] serves the status page", listen.address);
            report.error(report.problem(place, &format!("{path}.listen"), &found, "another port"));
        }
    }
}

fn meet(x: SocketAddr, y: SocketAddr) -> bool {
    x.port() == y.port() && x.port() != 0 && (x.ip() == y.ip() || x.ip().is_unspecified() || y.ip().is_unspecified())
}

/// Brokers that don't exist, payloads larger than packets, patterns that overlap.
fn topics_of(report: &Report<'_>, terminals: &[Terminal], brokers: &[(&str, Option<&BrokerConfig>)]) {
    let used: Vec<_> = terminals.iter().filter_map(|t| t.mqtt.as_ref().map(|m| (t, m))).collect();
    for (index, (terminal, mqtt)) in used.iter().enumerate() {
        match brokers.iter().find(|(name, _)| *name == mqtt.broker) {
            None => {
                let names: Vec<&str> = brokers.iter().map(|b| b.0).collect();
                let expected = if names.is_empty() {
                    "the name of a [[broker]], and there is none in this file".to_owned()
                } else {
                    format!("the name of a [[broker]]: {}", names.join(", "))
                };
                let key = format!("{}.link.broker", terminal.path);
                let mut problem = report.problem(&mqtt.broker_place, &key, &tree::quoted(&mqtt.broker), &expected);
                problem.nearest = super::suggest::nearest(&mqtt.broker, names).map(|n| format!("\"{n}\""));
                report.error(problem);
            }
            Some((_, Some(broker))) if mqtt.max_payload >= broker.max_packet_bytes => {
                let key = format!("{}.link.max_payload_bytes", terminal.path);
                let expected = format!(
                    "less than the broker's max_packet_bytes ({}): a larger packet would break the connection for ever",
                    broker.max_packet_bytes
                );
                report.error(report.problem(&mqtt.payload_place, &key, &mqtt.max_payload.to_string(), &expected));
            }
            Some(_) => {}
        }
        for (other, earlier) in &used[..index] {
            let told_apart = matches!((&mqtt.only_device, &earlier.only_device), (Some(a), Some(b)) if a != b);
            let pair = (mqtt.filters.iter())
                .flat_map(|a| earlier.filters.iter().map(move |b| (a, b)))
                .find(|(a, b)| topics::overlap(a, b));
            if mqtt.broker == earlier.broker
                && !told_apart
                && let Some((mine, theirs)) = pair
            {
                let owner = other.name.as_ref().map_or(other.path.as_str(), |(name, _)| name);
                let found = format!("\"{mine}\", which overlaps with \"{theirs}\" of \"{owner}\"");
                let expected = "patterns that no topic can both match, or (mqtt-face) a device_id of its own for each";
                report.error(report.problem(
                    &mqtt.filters_place,
                    &format!("{}.link.topic", terminal.path),
                    &found,
                    expected,
                ));
            }
        }
    }
}
