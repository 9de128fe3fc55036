//! From arguments to a decoder and what stamping needs.
//!
//! Must not: read input.

use std::path::Path;
use std::sync::Arc;

use super::Args;
use crate::cli::{Exit, Failure};
use crate::clock::{SyncSource, Zone, no_zones, zones_like};
use crate::decode::{self, Decoder};
use crate::event::Source;
use crate::manage::config::{self, Config};
use crate::terminal::Link;
use crate::terminal::stamp::Stamp;

/// Everything a [`super::Sniffer`] works with.
pub(super) struct Setup {
    /// The decoder.
    pub decoder: Box<dyn Decoder>,
    /// What ends a line at the end of the input, for a stream of lines.
    pub line_end: Option<Vec<u8>>,
    /// Each line is a message.
    pub messages: bool,
    /// The topic filter whose wildcards name the device.
    pub filter: Option<String>,
    /// Terminal, zone, device.
    pub stamp: Stamp,
    /// How to tell that the clock is right.
    pub clock: SyncSource,
    /// Show frames instead of events.
    pub frames: bool,
    /// No fields are known: only framing can be wrong.
    pub framing_only: bool,
}

impl Setup {
    /// From the arguments, and the configuration where a terminal of it is asked for.
    pub(super) fn new(args: &Args) -> anyhow::Result<Self> {
        let (mut config, source, device_id, filter, clock) = match (&args.terminal, args.protocol) {
            (Some(name), _) => configured(&load(&args.config)?, name)?,
            (None, Some(protocol)) => (protocol.defaults(), nobody(protocol), None, None, SyncSource::Auto),
            (None, None) => return Err(Failure::new(Exit::Usage, "give --protocol NAME or --terminal NAME").into()),
        };
        // One good frame is what a capture often holds.
        if let decode::Config::Rdm6300(config) = &mut config {
            config.confirm_frames = 1;
        }
        let framing_only = !knows_fields(&config);
        if framing_only && !args.frames {
            let protocol = config.protocol().name();
            let message =
                format!("{protocol} knows no fields of its own; use --terminal NAME, or --frames to see frames");
            return Err(Failure::new(Exit::Usage, message).into());
        }
        let source = Source {
            site_id: args.site.clone().unwrap_or(source.site_id),
            zone: args.zone.clone().unwrap_or(source.zone),
            ..source
        };
        let zone = Zone::named(&source.zone).map_err(|unknown| {
            let like = zones_like(&source.zone);
            let hint = if like.is_empty() { "America/Santiago".to_owned() } else { like.join(", ") };
            let remedy =
                no_zones().map_or_else(|| format!("use for example {hint}"), |what| format!("expected {what}"));
            Failure::new(Exit::Usage, format!("{unknown}; {remedy}"))
        })?;
        let mut decoder = config.build();
        if args.frames {
            decoder.trace();
        }
        Ok(Self {
            decoder,
            line_end: match &config {
                decode::Config::SerialLines(lines) => Some(lines.delimiter.clone()),
                _ => None,
            },
            messages: config.protocol().link() == decode::LinkKind::Mqtt,
            filter,
            stamp: Stamp { source: Arc::new(source), zone, device_id },
            clock,
            frames: args.frames,
            framing_only,
        })
    }
}

fn knows_fields(config: &decode::Config) -> bool {
    match config {
        decode::Config::SerialLines(lines) => !lines.fields.is_empty(),
        decode::Config::MqttJson(json) => !json.fields.is_empty(),
        decode::Config::Rdm6300(_) | decode::Config::MqttFace(_) => true,
    }
}

fn nobody(protocol: decode::Protocol) -> Source {
    Source {
        tenant: String::new(),
        site_id: String::new(),
        gateway_id: String::new(),
        terminal_id: String::new(),
        protocol: protocol.name().to_owned(),
        zone: "UTC".to_owned(),
    }
}

type Parts = (decode::Config, Source, Option<String>, Option<String>, SyncSource);

fn configured(config: &Config, name: &str) -> Result<Parts, Failure> {
    let Some(terminal) = config.terminals.iter().find(|t| t.name == name) else {
        let known: Vec<&str> = config.terminals.iter().map(|t| t.name.as_str()).collect();
        let message =
            format!("there is no terminal '{name}' in {}; it has {}", config.file.display(), known.join(", "));
        return Err(Failure::new(Exit::Usage, message));
    };
    let (device_id, filter) = match &terminal.link {
        Link::Mqtt(link) => (link.device_id.clone(), link.topic.clone()),
        Link::Serial(_) => (None, None),
    };
    let source = Source {
        tenant: config.identity.tenant.clone(),
        site_id: config.identity.site_id.clone(),
        gateway_id: config.identity.gateway_id.clone(),
        terminal_id: name.to_owned(),
        protocol: terminal.decoder.protocol().name().to_owned(),
        zone: terminal.zone.clone().unwrap_or_else(|| config.identity.zone.clone()),
    };
    Ok((terminal.decoder.clone(), source, device_id, filter, config.clock.clone()))
}

/// Reads the configuration; a capture is decoded without any secret.
fn load(file: &Path) -> anyhow::Result<Config> {
    Ok(config::load(file, &config::Options::from_process(config::Secrets::Ignore))?.config)
}
