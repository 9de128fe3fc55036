//! The live table: on a terminal one screen a second, else a line every three seconds.
//!
//! Must not: change anything on the site.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::site::Site;
use crate::{Interrupted, Stop};

/// What is to be seen at one moment.
#[derive(Default)]
pub(crate) struct Seen {
    /// Sent and confirmed, for each terminal.
    terminals: Vec<(u64, u64)>,
    journalled: Option<u64>,
    vendor: u64,
    central: Option<u64>,
    /// Pending for both destinations together.
    pub(crate) waiting: Option<u64>,
    vendor_waiting: Option<u64>,
    central_waiting: Option<u64>,
}

impl Seen {
    /// Whether nothing is on its way to the journal, in a broker in between, say.
    pub(crate) fn everything_journalled(&self) -> bool {
        self.journalled == Some(self.terminals.iter().map(|(sent, _)| sent).sum())
    }
}

pub(crate) struct Board {
    start: Instant,
    screen: bool,
    printed: Option<Instant>,
    /// Lines counted so far, and up to which byte.
    counted: HashMap<PathBuf, (u64, u64)>,
    last_central: u64,
}

impl Board {
    pub(crate) fn new() -> Self {
        Self {
            start: now(),
            screen: std::io::stdout().is_terminal(),
            printed: None,
            counted: HashMap::new(),
            last_central: 0,
        }
    }

    /// Shows the site for so long.
    pub(crate) fn watch(
        &mut self,
        site: &mut Site,
        stop: &Stop,
        how_long: Duration,
        what: &str,
    ) -> Result<(), Interrupted> {
        if !self.screen {
            println!("{} -- {what}", self.clock());
        }
        let start = now();
        while start.elapsed() < how_long {
            self.show(site, stop, what)?;
        }
        Ok(())
    }

    /// Shows the site until `done`, or until `deadline` has passed.
    pub(crate) fn watch_until(
        &mut self,
        site: &mut Site,
        stop: &Stop,
        deadline: Duration,
        what: &str,
        done: impl Fn(&Seen) -> bool,
    ) -> Result<(), Interrupted> {
        if !self.screen {
            println!("{} -- {what}", self.clock());
        }
        let start = now();
        while start.elapsed() < deadline {
            if done(&self.show(site, stop, what)?) {
                // Once more, with the final numbers.
                self.printed = None;
                let seen = self.look(site);
                self.print(site, &seen, what);
                return Ok(());
            }
        }
        Ok(())
    }

    fn show(&mut self, site: &mut Site, stop: &Stop, what: &str) -> Result<Seen, Interrupted> {
        let round = now();
        let seen = self.look(site);
        let every = if self.screen { Duration::from_secs(1) } else { Duration::from_secs(3) };
        if self.printed.is_none_or(|printed| printed.elapsed() >= every) {
            self.printed = Some(now());
            self.print(site, &seen, what);
        }
        if stop.wait(Duration::from_millis(500).saturating_sub(round.elapsed())) {
            return Err(Interrupted);
        }
        Ok(seen)
    }

    fn look(&mut self, site: &Site) -> Seen {
        let mut seen = Seen { vendor: site.vendor.stored_count() as u64, ..Seen::default() };
        for index in 0..site.terminals.len() {
            let (sent, confirmed) = site.manifests(index);
            seen.terminals.push((self.lines(&sent), self.lines(&confirmed)));
        }
        if !site.destinations_away
            && let Ok(count) = site.postgres.try_psql("select count(*) from portero.event")
        {
            self.last_central = count.parse().unwrap_or(self.last_central);
        }
        seen.central = Some(self.last_central);
        let output = site.gateway.cli(&["journal", "stats", "--json"]);
        if let Ok(stats) = serde_json::from_slice::<serde_json::Value>(&output.stdout) {
            seen.journalled = stats["appended"].as_u64();
            let pending = |name: &str| {
                let sinks = stats["sinks"].as_array()?;
                sinks.iter().find(|sink| sink["name"] == name)?["pending"].as_u64()
            };
            (seen.vendor_waiting, seen.central_waiting) = (pending("vendor"), pending("central"));
            seen.waiting = seen.vendor_waiting.zip(seen.central_waiting).map(|(vendor, central)| vendor + central);
        }
        seen
    }

    /// Counts the lines of a growing file without reading it again from the front.
    fn lines(&mut self, path: &Path) -> u64 {
        let (lines, offset) = self.counted.entry(path.to_owned()).or_default();
        let mut fresh = Vec::new();
        if let Ok(mut file) = std::fs::File::open(path)
            && file.seek(std::io::SeekFrom::Start(*offset)).is_ok()
            && file.read_to_end(&mut fresh).is_ok()
        {
            *offset += fresh.len() as u64;
            *lines += fresh.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        *lines
    }

    fn clock(&self) -> String {
        let seconds = self.start.elapsed().as_secs();
        format!("{:02}:{:02}", seconds / 60, seconds % 60)
    }

    fn print(&self, site: &mut Site, seen: &Seen, what: &str) {
        let alive = site.gateway.running();
        let number = |value: Option<u64>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
        let (sent, confirmed) =
            seen.terminals.iter().fold((0, 0), |(sent, confirmed), (s, c)| (sent + s, confirmed + c));
        let mut out = std::io::stdout().lock();
        if !self.screen {
            let _ = writeln!(
                out,
                "{} sent {sent}, confirmed {confirmed}, gateway {}, journalled {}, vendor {}{}, postgresql {}{}, waiting {}",
                self.clock(),
                if alive { "up" } else { "DEAD" },
                number(seen.journalled),
                seen.vendor,
                if site.destinations_away { " (away)" } else { "" },
                number(seen.central),
                if site.destinations_away { " (away)" } else { "" },
                number(seen.waiting),
            );
            return;
        }
        // One write for the whole screen: home, then each line with what was behind it erased.
        let mut text = String::from("\x1b[H\x1b[2J");
        let mut line = |content: String| {
            text += &content;
            text += "\n";
        };
        line(format!("\x1b[1mPortero\x1b[0m  {}  {what}", self.clock()));
        line(String::new());
        line(format!("  {:<14} {:<11} {:>8} {:>10}", "terminal", "protocol", "sent", "confirmed"));
        for (terminal, (sent, confirmed)) in site.terminals.iter().zip(&seen.terminals) {
            let confirmed = if terminal.confirmed { confirmed.to_string() } else { "never told".to_owned() };
            line(format!("  {:<14} {:<11} {sent:>8} {confirmed:>10}", terminal.name, terminal.protocol));
        }
        line(String::new());
        let state = if alive {
            format!("\x1b[32mup\x1b[0m, pid {}", site.gateway.pid())
        } else {
            "\x1b[31mdead\x1b[0m".to_owned()
        };
        line(format!("  gateway: {state}; events in its journal: {}", number(seen.journalled)));
        line(String::new());
        line(format!("  {:<14} {:<11} {:>8} {:>10}", "destination", "state", "arrived", "waiting"));
        let state = if site.destinations_away { "\x1b[31maway\x1b[0m" } else { "\x1b[32mup\x1b[0m  " };
        let last = site.got.lock().unwrap_or_else(std::sync::PoisonError::into_inner).last.clone();
        line(format!(
            "  {:<14} {state}        {:>8} {:>10}   {last}",
            "vendor API",
            seen.vendor,
            number(seen.vendor_waiting)
        ));
        line(format!(
            "  {:<14} {state}        {:>8} {:>10}",
            "PostgreSQL",
            number(seen.central),
            number(seen.central_waiting)
        ));
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }
}

#[allow(clippy::disallowed_methods, reason = "a screen is timed by the clock on the wall")]
fn now() -> Instant {
    Instant::now()
}
