//! `portero decode`: bytes in, events out, for the installer who looks at what a terminal says.
//!
//! Must not: open a device or the journal, or answer a terminal: it only listens.

mod setup;
mod sniff;

use std::io::{BufWriter, Read, Write};
use std::path::PathBuf;

use clap::ArgGroup;

use super::{Exit, Failure};
use crate::clock::Clock;
use crate::decode::Protocol;
use setup::Setup;
use sniff::Sniffer;

/// How much is read at once, bytes.
const CHUNK: usize = 64 * 1024;

/// Show what a terminal's bytes mean, one event as JSON a line.
///
/// Reads raw bytes from FILE or standard input. For MQTT protocols every line is one message: TOPIC, a blank and the
/// payload, or the payload alone. What can't be decoded goes to standard error, and the exit code is then 1.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("what").required(true).args(["protocol", "terminal"])))]
pub struct Args {
    /// The protocol, with its default options.
    #[arg(long, value_name = "NAME", value_parser = protocol)]
    pub protocol: Option<Protocol>,
    /// A terminal of the configuration: its protocol, options, fields and zone.
    #[arg(long, value_name = "NAME")]
    pub terminal: Option<String>,
    /// The input is hex text; white space doesn't count.
    #[arg(long)]
    pub hex: bool,
    /// IANA zone of times without zone (UTC, or the terminal's).
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,
    /// The site that enters the event id; without a site no event id is shown.
    #[arg(long, value_name = "SITE")]
    pub site: Option<String>,
    /// Show frames, good and bad, instead of events.
    #[arg(long)]
    pub frames: bool,
    /// The configuration file, for --terminal.
    #[arg(long, value_name = "FILE", env = "PORTERO_CONFIG", default_value = "/etc/portero/portero.toml")]
    pub config: PathBuf,
    /// Where to read from; standard input if left out.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

fn protocol(name: &str) -> Result<Protocol, String> {
    Protocol::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = Protocol::ALL.iter().map(|p| p.name()).collect();
        format!("there is no protocol '{name}'; use one of {}", known.join(", "))
    })
}

/// Decodes until the input ends. [`Exit::No`] if there were faults.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let setup = Setup::new(args)?;
    let clock = Clock::new(setup.clock.clone());
    let mut input: Box<dyn Read> =
        match &args.file {
            None => Box::new(std::io::stdin().lock()),
            Some(file) => Box::new(std::fs::File::open(file).map_err(|e| {
                Failure::new(Exit::Io, format!("cannot open {}: {e}; name another FILE", file.display()))
            })?),
        };
    let (out, err) = (std::io::stdout().lock(), std::io::stderr().lock());
    let mut sniffer = Sniffer::new(setup, BufWriter::new(out), err);
    match pump(&mut *input, args.hex, &clock, &mut sniffer) {
        // `head` has seen enough.
        Err(Stop::Io(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => {}
        Err(Stop::Io(e)) => return Err(e.into()),
        Err(Stop::Hex(at)) => {
            let message = format!("byte {at} of the input is not a hex digit, or the last digit has no second one");
            return Err(Failure::new(Exit::Usage, message).into());
        }
        Ok(()) => {}
    }
    Ok(if sniffer.faults() == 0 { Exit::Done } else { Exit::No })
}

enum Stop {
    Io(std::io::Error),
    Hex(u64),
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads chunk by chunk, so that a live line shows at once.
fn pump<O: Write, E: Write>(
    input: &mut dyn Read,
    hex: bool,
    clock: &Clock,
    sniffer: &mut Sniffer<O, E>,
) -> Result<(), Stop> {
    let mut chunk = vec![0; CHUNK];
    let mut digits = Hex::default();
    loop {
        let length = match input.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e.into()),
        };
        if hex {
            let bytes = digits.bytes(&chunk[..length])?;
            sniffer.feed(clock.now(), &bytes)?;
        } else {
            sniffer.feed(clock.now(), &chunk[..length])?;
        }
    }
    if digits.high.is_some() {
        return Err(Stop::Hex(digits.offset));
    }
    sniffer.end(clock.now())?;
    Ok(())
}

/// Hex text to bytes, in any chunks.
#[derive(Default)]
struct Hex {
    high: Option<u8>,
    offset: u64,
}

impl Hex {
    fn bytes(&mut self, text: &[u8]) -> Result<Vec<u8>, Stop> {
        let mut bytes = Vec::with_capacity(text.len() / 2);
        for &byte in text {
            if !byte.is_ascii_whitespace() {
                let digit = char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
                let digit = digit.ok_or(Stop::Hex(self.offset))?;
                match self.high.take() {
                    None => self.high = Some(digit),
                    Some(high) => bytes.push(high << 4 | digit),
                }
            }
            self.offset += 1;
        }
        Ok(bytes)
    }
}
