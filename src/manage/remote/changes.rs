//! Which parts of a running gateway another configuration changes.
//!
//! Must not: change anything.

use crate::manage::config::Config;
use crate::terminal::{self, Link};

/// What is different.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Parts that are new or other: `sink NAME`, `link NAME` (a serial terminal, or a broker with all terminals behind it),
    /// `directory`, and the names of plain tables.
    pub changed: Vec<String>,
    /// Parts that go.
    pub removed: Vec<String>,
}

impl Changes {
    /// Names of the sinks that go.
    pub fn removed_sinks(&self) -> impl Iterator<Item = &str> {
        self.removed.iter().filter_map(|part| part.strip_prefix("sink "))
    }
}

/// From one configuration to another; the file's name is no difference.
pub fn changes(old: &Config, new: &Config) -> Changes {
    let mut found = Changes::default();
    let elsewhere = old.identity != new.identity || old.clock != new.clock;
    compare(&mut found, &sinks(old), &sinks(new), false);
    compare(&mut found, &links(old), &links(new), elsewhere);
    let tables = [
        ("gateway", old.identity != new.identity || old.group != new.group || old.clock != new.clock),
        ("journal", old.journal != new.journal),
        ("directory", old.directory != new.directory),
        ("manage", old.manage != new.manage),
        ("log", old.log != new.log),
    ];
    found.changed.extend(tables.iter().filter(|(_, other)| *other).map(|(name, _)| (*name).to_owned()));
    found
}

type Named<T> = Vec<(String, T)>;

fn compare<T: PartialEq>(found: &mut Changes, old: &Named<T>, new: &Named<T>, all: bool) {
    for (name, part) in new {
        let same = old.iter().any(|(other, earlier)| other == name && earlier == part);
        if !same || all {
            found.changed.push(name.clone());
        }
    }
    found.removed.extend(old.iter().filter(|(name, _)| !new.iter().any(|(n, _)| n == name)).map(|(n, _)| n.clone()));
}

fn sinks(config: &Config) -> Named<&crate::deliver::Config> {
    config.sinks.iter().map(|sink| (format!("sink {}", sink.name), sink)).collect()
}

type LinkOf<'c> = (Option<&'c terminal::BrokerConfig>, Vec<&'c terminal::Config>);

fn links(config: &Config) -> Named<LinkOf<'_>> {
    let serial = config.terminals.iter().filter(|terminal| matches!(terminal.link, Link::Serial(_)));
    let mut links: Named<LinkOf<'_>> =
        serial.map(|terminal| (format!("link {}", terminal.name), (None, vec![terminal]))).collect();
    for broker in &config.brokers {
        let behind = |t: &&terminal::Config| matches!(&t.link, Link::Mqtt(link) if link.broker == broker.name);
        let behind = config.terminals.iter().filter(behind).collect();
        links.push((format!("link {}", broker.name), (Some(broker), behind)));
    }
    links
}
