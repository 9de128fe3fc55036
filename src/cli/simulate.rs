//! `portero simulate`: plays a terminal.
//!
//! Must not: read the gateway's configuration; a simulator is the other side.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Exit, Failure};
use crate::decode::Protocol;
use crate::simulate::{self, BrokerUrl, Layout, Options, Summary, Target};

/// Plays a terminal, so that a gateway can be tried without one.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("target").required(true).args(["pty", "device", "broker"])))]
pub struct Args {
    /// rdm6300, serial-lines, mqtt-json or mqtt-face
    #[arg(value_parser = protocol)]
    protocol: Protocol,
    /// Make a pseudo-terminal under this link; the gateway opens the link as its serial device
    #[arg(long, value_name = "LINK")]
    pty: Option<PathBuf>,
    /// Talk over a serial device that exists
    #[arg(long, value_name = "PATH")]
    device: Option<PathBuf>,
    /// Bits per second with --device
    #[arg(long, default_value_t = 9600)]
    baud: u32,
    /// Connect to a broker: mqtt://[USER:PASSWORD@]HOST[:PORT]
    #[arg(long, value_name = "URL")]
    broker: Option<BrokerUrl>,
    /// Topic for mqtt-json; + stands for the device [default: site/yard/+/events]
    #[arg(long)]
    topic: Option<String>,
    /// The device's own id; with --devices the beginning of each id
    #[arg(long, value_name = "ID")]
    device_id: Option<String>,
    /// Write what is sent, one JSON object a line, and what is confirmed to FILE.confirmed; both are appended to
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// How many events; without it until stopped
    #[arg(long)]
    count: Option<u64>,
    /// Events a second over all devices; 0: as fast as they are taken [default: 0.5 for a reader, 10 for mqtt-json, else 1]
    #[arg(long)]
    rate: Option<f64>,
    /// The same seed gives the same people, cards and order
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Zone of the device's clock, for example America/Santiago [default: UTC]
    #[arg(long)]
    zone: Option<String>,
    /// How many MQTT devices
    #[arg(long, default_value_t = 1)]
    devices: u32,
    /// Over how many connections the mqtt-json devices share
    #[arg(long, default_value_t = 1)]
    connections: u32,
    /// Most unconfirmed messages of a connection
    #[arg(long, default_value_t = 100)]
    window: u16,
    /// The first sequence number
    #[arg(long, default_value_t = 1)]
    first_seq: u64,
    /// mqtt-face: wipe the terminal's log after N records, so that RecordID starts again
    #[arg(long, value_name = "N")]
    wipe_after: Option<u64>,
    /// mqtt-face: send an unacknowledged record again after this many seconds
    #[arg(long, default_value_t = 10.0)]
    resend_seconds: f64,
    /// mqtt-face: size of the picture in a record, bytes
    #[arg(long, default_value_t = 0)]
    picture_bytes: usize,
    /// Serial: garbage, half frames, wrong checksums and ghost tags between the events
    #[arg(long)]
    noise: bool,
    /// serial-lines: columns, pairs or json
    #[arg(long, default_value = "columns", value_parser = layout)]
    layout: Layout,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

fn protocol(name: &str) -> Result<Protocol, String> {
    Protocol::from_name(name).ok_or_else(|| {
        let names: Vec<_> = Protocol::ALL.iter().map(|protocol| protocol.name()).collect();
        format!("choose one of {}", names.join(", "))
    })
}

fn layout(name: &str) -> Result<Layout, String> {
    match name {
        "columns" => Ok(Layout::Columns),
        "pairs" => Ok(Layout::Pairs),
        "json" => Ok(Layout::Json),
        _ => Err("choose one of columns, pairs, json".to_owned()),
    }
}

impl Args {
    fn options(&self) -> Result<Options, Failure> {
        let target = match (&self.pty, &self.device, &self.broker) {
            (Some(link), None, None) => Target::Pty(link.clone()),
            (None, Some(path), None) => Target::Device(path.clone(), self.baud),
            (None, None, Some(url)) => Target::Broker(url.clone()),
            _ => return Err(Failure::new(Exit::Usage, "choose one of --pty, --device, --broker")),
        };
        let usual = match self.protocol {
            Protocol::Rdm6300 => 0.5,
            Protocol::MqttJson => 10.0,
            Protocol::SerialLines | Protocol::MqttFace => 1.0,
        };
        Ok(Options {
            protocol: self.protocol,
            target,
            manifest: self.manifest.clone(),
            count: self.count,
            rate: self.rate.unwrap_or(usual),
            seed: self.seed,
            zone: self.zone.clone(),
            topic: self.topic.clone(),
            device_id: self.device_id.clone(),
            devices: self.devices,
            connections: self.connections,
            window: self.window,
            first_seq: self.first_seq,
            wipe_after: self.wipe_after,
            resend_seconds: self.resend_seconds,
            picture_bytes: self.picture_bytes,
            noise: self.noise,
            layout: self.layout,
        })
    }
}

/// Runs it until the count is reached and confirmed, or until SIGINT or SIGTERM. Prints a summary; the answer is "no" if
/// events stayed unconfirmed where the protocol confirms.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let options = args.options()?;
    crate::telemetry::start("info", false);
    let confirms = matches!(options.protocol, Protocol::MqttJson | Protocol::MqttFace);
    let summary = super::runtime()?.block_on(async {
        let shutdown = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let running = simulate::run(options, shutdown.clone());
        tokio::pin!(running);
        loop {
            tokio::select! {
                result = &mut running => return anyhow::Ok(result?),
                _ = terminate.recv() => shutdown.cancel(),
                _ = interrupt.recv() => shutdown.cancel(),
            }
        }
    });
    let summary = match summary {
        Ok(summary) => summary,
        Err(error) if matches!(error.downcast_ref(), Some(simulate::Error::Options(_) | simulate::Error::Zone(_))) => {
            return Err(Failure::new(Exit::Usage, error.to_string()).into());
        }
        Err(error) => return Err(error),
    };
    print(&summary, args.json).context("can't print the summary")?;
    Ok(if confirms && summary.confirmed < summary.sent { Exit::No } else { Exit::Done })
}

fn print(summary: &Summary, json: bool) -> std::io::Result<()> {
    let Summary { sent, confirmed, resent, seconds } = *summary;
    let rate = summary.rate();
    let mut out = std::io::stdout().lock();
    if json {
        let line = serde_json::json!({
            "sent": sent, "confirmed": confirmed, "resent": resent, "seconds": seconds, "events_per_second": rate,
        });
        writeln!(out, "{line}")
    } else {
        writeln!(out, "sent {sent}, confirmed {confirmed}, sent again {resent}, in {seconds:.1} s: {rate:.0} events/s")
    }
}
