//! Which parts a configuration makes, and which of them are others in another configuration.
//!
//! Must not: start anything, or read anything but the secrets that it takes the print of.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

use secrecy::ExposeSecret as _;

use crate::deliver::{self, Kind, directory, postgres};
use crate::manage::config::{Config, PageConfig};
use crate::terminal::{self, BrokerConfig, ConnectConfig, Endpoint, Link, SerialConfig};

/// A part, by which it is found again in another configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// A sink's relay, by the sink's name.
    Relay(String),
    /// A serial line, by its terminal's name.
    Line(String),
    /// A broker and the terminals behind it, by the broker's name.
    Broker(String),
    /// The status page.
    Page,
    /// The sign of life at a database, by the name of the first sink that writes there.
    Heart(String),
    /// The worker directory.
    Directory,
    /// What is said of the gateway at a broker.
    Announcement,
}

/// Where a part stands in the order of the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Brings events in.
    In,
    /// Takes events out.
    Out,
    /// Neither.
    Beside,
}

impl Key {
    pub(super) const fn side(&self) -> Side {
        match self {
            Self::Relay(_) => Side::Out,
            Self::Line(_) | Self::Broker(_) => Side::In,
            Self::Page | Self::Heart(_) | Self::Directory | Self::Announcement => Side::Beside,
        }
    }

    /// Whether people have named it: a sign of life goes with its sink.
    pub(super) const fn is_told(&self) -> bool {
        !matches!(self, Self::Heart(_))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relay(name) => write!(f, "sink '{name}'"),
            Self::Line(name) => write!(f, "terminal '{name}'"),
            Self::Broker(name) => write!(f, "broker '{name}'"),
            Self::Page => f.write_str("status page"),
            Self::Heart(name) => write!(f, "sign of life of sink '{name}'"),
            Self::Directory => f.write_str("worker directory"),
            Self::Announcement => f.write_str("status topic"),
        }
    }
}

/// Everything that a part is made of: it starts again where this is another.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spec {
    pub(super) part: Part,
    /// Of the secrets as they are now; another one is news to whoever has read the old one.
    print: u64,
}

/// What a part is made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    /// A sink, and whether there is a directory.
    Relay(Box<deliver::Config>, bool),
    /// A serial line.
    Line(terminal::Config, SerialConfig),
    /// A broker and the terminals behind it.
    Broker(BrokerConfig, Vec<terminal::Config>),
    /// The status page.
    Page(PageConfig),
    /// A database, and the sink in whose name it is told.
    Heart(String, postgres::Config),
    /// The directory's source and the sinks that it serves.
    Directory(Box<directory::Config>, Vec<String>),
    /// The broker at which the gateway says how it is, and the topic.
    Announcement(ConnectConfig, String),
}

/// The parts of a configuration.
pub(super) type Plan = BTreeMap<Key, Spec>;

/// Reads and hashes secrets, so that a changed one is seen and none is kept.
pub(super) struct Prints(RandomState);

impl Prints {
    pub(super) fn new() -> Self {
        Self(RandomState::new())
    }

    /// Of every secret whose key is `table` or stands in it. One that can't be read counts as one: it may come.
    fn of(&self, config: &Config, table: &str) -> u64 {
        let within = |key: &str| key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'));
        let read = config.secrets.iter().filter(|(key, _)| within(key)).map(|(_, source)| source.read().ok());
        let read: Vec<Option<u64>> =
            read.map(|secret| secret.map(|secret| self.0.hash_one(secret.expose_secret()))).collect();
        self.0.hash_one(read)
    }
}

/// The parts that a configuration makes.
pub(super) fn parts(config: &Config, prints: &Prints) -> Plan {
    let mut plan = Plan::new();
    let numbered = |table: &str, at: usize| prints.of(config, &format!("{table}[{}]", at + 1));
    let mut told = HashSet::new();
    for (at, sink) in config.sinks.iter().enumerate() {
        let print = numbered("sink", at);
        let part = Part::Relay(Box::new(sink.clone()), config.directory.is_some());
        plan.insert(Key::Relay(sink.name.clone()), Spec { part, print });
        if let Kind::Postgres(postgres) = &sink.kind
            // Two that beat at once would tell a database of the journal in the wrong order.
            && told.insert(&postgres.url)
        {
            let part = Part::Heart(sink.name.clone(), postgres.clone());
            plan.insert(Key::Heart(sink.name.clone()), Spec { part, print });
        }
    }
    for (at, terminal) in config.terminals.iter().enumerate() {
        let Link::Serial(serial) = &terminal.link else { continue };
        let part = Part::Line(terminal.clone(), serial.clone());
        plan.insert(Key::Line(terminal.name.clone()), Spec { part, print: numbered("terminal", at) });
    }
    for (at, broker) in config.brokers.iter().enumerate() {
        let behind =
            |terminal: &&terminal::Config| matches!(&terminal.link, Link::Mqtt(link) if link.broker == broker.name);
        let part = Part::Broker(broker.clone(), config.terminals.iter().filter(behind).cloned().collect());
        plan.insert(Key::Broker(broker.name.clone()), Spec { part, print: numbered("broker", at) });
    }
    if let Some(page) = &config.manage.page {
        plan.insert(Key::Page, Spec { part: Part::Page(page.clone()), print: prints.of(config, "manage") });
    }
    if let Some(directory) = &config.directory {
        let sinks = config.sinks.iter().map(|sink| sink.name.clone()).collect();
        let part = Part::Directory(Box::new(directory.clone()), sinks);
        plan.insert(Key::Directory, Spec { part, print: prints.of(config, "directory") });
    }
    if let Some(status) = &config.manage.status
        && let Some((at, broker)) = config.brokers.iter().enumerate().find(|(_, broker)| broker.name == status.broker)
        && let Endpoint::Connect(connect) = &broker.endpoint
    {
        let part = Part::Announcement(connect.clone(), status.topic.clone());
        plan.insert(Key::Announcement, Spec { part, print: numbered("broker", at) });
    }
    plan
}

/// What is another in a new plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Only in the new one.
    pub(super) added: Vec<Key>,
    /// In both, and made of something else.
    pub(super) changed: Vec<Key>,
    /// Only in the old one.
    pub(super) removed: Vec<Key>,
}

impl Difference {
    pub(super) fn between(old: &BTreeMap<&Key, &Spec>, new: &Plan) -> Self {
        let mut difference = Self::default();
        for (key, spec) in old {
            match new.get(key) {
                None => difference.removed.push((*key).clone()),
                Some(other) if other != *spec => difference.changed.push((*key).clone()),
                Some(_) => {}
            }
        }
        difference.added = new.keys().filter(|key| !old.contains_key(key)).cloned().collect();
        difference
    }

    #[cfg(test)]
    const fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

/// Tables that are taken at the start only, in which the two differ.
pub(super) fn only_at_start(old: &Config, new: &Config) -> Vec<&'static str> {
    let mut tables = Vec::new();
    let mut note = |differs: bool, words| {
        if differs {
            tables.push(words);
        }
    };
    note(old.identity != new.identity || old.clock != new.clock, "[gateway]");
    note(old.journal != new.journal, "[journal]");
    note(old.manage.socket != new.manage.socket, "[manage] socket");
    note(old.log.format != new.log.format, "[log] format");
    tables
}

/// The new one with what is taken at the start only as it is now.
pub(super) fn as_far_as_it_goes(old: &Config, new: Config) -> Config {
    let mut config = new;
    config.identity = old.identity.clone();
    config.clock = old.clock.clone();
    config.journal = old.journal.clone();
    config.manage.socket.clone_from(&old.manage.socket);
    config.log.format = old.log.format;
    config
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::manage::config::{Options, Secrets, load_text};

    fn config(text: &str) -> Config {
        let options =
            Options { secrets: Secrets::Ignore, environment: Vec::new(), credentials: None, units: Vec::new() };
        load_text(Path::new("portero.toml"), text, &options).unwrap().config
    }

    const SITE: &str = r#"
        [gateway]
        id = "gw"
        site = "site"
        zone = "UTC"
        [[broker]]
        name = "site"
        listen = "127.0.0.1:1883"
        [[terminal]]
        name = "gate"
        protocol = "rdm6300"
        link = { type = "serial", device = "/dev/ttyUSB0" }
        [[terminal]]
        name = "yard"
        protocol = "mqtt-json"
        link = { type = "mqtt", broker = "site", topic = "site/#" }
        fields.person = "/pin"
        [[sink]]
        name = "vendor"
        type = "api"
        url = "http://127.0.0.1:9/events"
        auth = { type = "bearer", token = { file = "/nowhere/token" } }
        [[sink]]
        name = "central"
        type = "postgres"
        url = "postgresql://portero@127.0.0.1/attendance"
        password = { credential = "central" }
        tls = "disable"
        "#;

    fn difference(old: &str, new: &str) -> Difference {
        let prints = Prints::new();
        let (old, new) = (parts(&config(old), &prints), parts(&config(new), &prints));
        Difference::between(&old.iter().collect(), &new)
    }

    #[test]
    fn only_what_is_another_differs() {
        let site = SITE.to_owned();
        assert!(difference(&site, &site).is_empty());
        let changed = site.replace("ttyUSB0", "ttyUSB1").replace(":9/events", ":9/clockings");
        let changed = difference(&site, &changed);
        assert_eq!(changed.changed, [Key::Relay("vendor".to_owned()), Key::Line("gate".to_owned())]);
        assert!(changed.added.is_empty() && changed.removed.is_empty());
        // A terminal behind a broker is the broker's.
        let behind = difference(&site, &site.replace("/pin", "/badge"));
        assert_eq!(behind.changed, [Key::Broker("site".to_owned())]);
        // A database goes with its sign of life, and another order of the sinks is no difference.
        let (before, sinks) = site.split_at(site.find("[[sink]]").unwrap());
        let (vendor, central) = sinks.split_at(sinks.rfind("[[sink]]").unwrap());
        let gone = difference(&site, &format!("{before}{vendor}"));
        assert_eq!(gone.removed, [Key::Relay("central".to_owned()), Key::Heart("central".to_owned())]);
        assert!(difference(&site, &format!("{before}{central}{vendor}")).is_empty());
    }

    #[test]
    fn another_secret_makes_another_part() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("token");
        let put = |text: &str| {
            std::fs::write(&token, text).unwrap();
            std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        let config = config(&SITE.replace("/nowhere/token", &token.display().to_string()));
        let prints = Prints::new();
        put("first");
        let (before, again) = (parts(&config, &prints), parts(&config, &prints));
        assert!(Difference::between(&before.iter().collect(), &again).is_empty());
        put("second");
        let after = Difference::between(&before.iter().collect(), &parts(&config, &prints));
        assert_eq!(after.changed, [Key::Relay("vendor".to_owned())]);
    }

    #[test]
    fn what_is_taken_at_the_start_only_stays_and_is_named() {
        let (old, new) = (config(SITE), config(&SITE.replace("\"UTC\"", "\"Asia/Tokyo\"").replace(":9/", ":8/")));
        assert_eq!(only_at_start(&old, &new), ["[gateway]"]);
        let taken = as_far_as_it_goes(&old, new.clone());
        assert_eq!((&taken.identity, &taken.sinks), (&old.identity, &new.sinks));
        assert!(only_at_start(&old, &taken).is_empty());
    }
}
