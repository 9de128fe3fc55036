//! `portero doctor`: everything that a gateway needs, looked at from outside, each finding with its remedy.
//!
//! Works without a running gateway and without a sound configuration; what then can't be looked at is said to be skipped.
//!
//! Must not: change anything, send an event, open a serial port, name a person or a secret, or take longer than
//! [`WITHIN`] for any one server.

pub mod bundle;

mod credentials;

mod devices;

mod disk;

mod ledger;

mod machine;

mod mounts;

mod reach;

mod redact;

mod tar;

mod users;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::config::{Config, Loaded, Problems};
use super::control::client;
use crate::clock::Clock;
use crate::event::{UtcMicros, json::rfc3339};
use crate::tls::reach::{Shown, Trouble};

/// How long any one server, or the journal, may take.
pub const WITHIN: Duration = Duration::from_secs(5);

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it should be.
    Ok,
    /// Could not be looked at, and why.
    Skipped,
    /// Works, and somebody should look at it.
    Warn,
    /// Does not work.
    Fail,
}

impl State {
    /// In one word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at: `clock`, `disk`, `mount`, `sqlite`, `journal`, `serial`, `broker`, `sink`, `directory`, `remote`,
    /// `credential`, `expiry`, `gateway`, `unit`, `configuration`.
    pub check: &'static str,
    /// Which one of them: a name or key of the configuration, a path.
    pub subject: String,
    /// How it is.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do, in one line.
    pub remedy: Option<String>,
    /// Why a server was not reached, for programs: `name`, `refused`, `timeout`, `unreachable`, `tls`, `login`, …
    pub cause: Option<&'static str>,
    /// What a server showed of itself.
    pub tls: Option<Box<Shown>>,
}

impl Finding {
    fn new(check: &'static str, subject: impl Into<String>, state: State, found: impl Into<String>) -> Self {
        let (subject, found) = (subject.into(), found.into());
        Self { check, subject, state, found, remedy: None, cause: None, tls: None }
    }

    fn ok(check: &'static str, subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(check, subject, State::Ok, found)
    }

    fn skipped(check: &'static str, subject: impl Into<String>, found: impl Into<String>, remedy: &str) -> Self {
        Self::new(check, subject, State::Skipped, found).remedy(remedy)
    }

    fn warn(
        check: &'static str,
        subject: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(check, subject, State::Warn, found).remedy(remedy)
    }

    fn fail(
        check: &'static str,
        subject: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(check, subject, State::Fail, found).remedy(remedy)
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    fn trouble(check: &'static str, subject: impl Into<String>, state: State, trouble: &Trouble) -> Self {
        let mut finding = Self::new(check, subject, state, &trouble.found).remedy(&trouble.remedy);
        finding.cause = Some(trouble.cause);
        finding
    }

    /// As one JSON object.
    pub fn to_json(&self) -> Value {
        let mut object = json!({ "check": self.check, "state": self.state.word(), "found": self.found });
        if !self.subject.is_empty() {
            object["subject"] = self.subject.as_str().into();
        }
        if let Some(remedy) = &self.remedy {
            object["remedy"] = remedy.as_str().into();
        }
        if let Some(cause) = self.cause {
            object["cause"] = cause.into();
        }
        if let Some(tls) = &self.tls {
            object["tls"] = json!({
                "protocol": tls.protocol,
                "subject": tls.subject,
                "names": tls.names,
                "issuer": tls.issuer,
                "until": rfc3339(UtcMicros(tls.until)).as_str(),
            });
        }
        object
    }
}

/// What the doctor starts from.
pub struct Patient {
    /// The configuration, or everything that is wrong with it.
    pub loaded: Result<Loaded, Problems>,
    /// Where the unit may stand, best first.
    pub units: Vec<PathBuf>,
}

/// What was learned.
pub struct Examination {
    /// In the order in which a person would look.
    pub findings: Vec<Finding>,
    /// The running gateway's own account.
    pub status: Option<Value>,
}

impl Patient {
    fn config(&self) -> Option<&Config> {
        self.loaded.as_ref().ok().map(|loaded| &loaded.config)
    }
}

/// Looks at everything, at what may take long all at once. Needs a runtime with some blocking threads: name look-ups that
/// hang must not wait for each other.
pub async fn examine(patient: &Patient) -> Examination {
    let mut findings = configuration(patient);
    let unit = machine::Unit::find(&patient.units);
    let clock = Clock::new(patient.config().map_or_else(Default::default, |config| config.clock.clone()));
    let asked = patient.config().map(|config| client::get_within(&config.manage.socket, "/status", WITHIN));
    let status = asked.as_ref().and_then(|answer| answer.as_ref().ok().cloned());
    findings.extend(machine::clock(patient.config(), &clock, status.as_ref()));
    findings.push(machine::unit(unit.as_ref()));
    let (version, least, sound) = crate::journal::engine();
    findings.push(if sound {
        Finding::ok("sqlite", "", format!("{version}, built in"))
    } else {
        let found = format!("{version} is older than {least} and may damage a journal");
        Finding::fail("sqlite", "", found, "install a release of portero as it was built, with its own SQLite")
    });
    let Some(config) = patient.config() else {
        let found = "disk, journal, devices, servers and credentials: the configuration cannot be used";
        findings.push(Finding::skipped("configuration", "", found, "mend what stands above and run it again"));
        return Examination { findings, status };
    };
    if let Some(answer) = &asked {
        findings.extend(machine::gateway(&config.manage.socket, answer));
    }
    findings.extend(disk::disk(&config.journal));
    findings.extend(mounts::mounts(&config.journal.path));
    findings.extend(credentials::credentials(config, unit.as_ref()));
    findings.extend(credentials::expiry(config, &clock, status.as_ref()));
    findings.extend(devices::serial(config, status.as_ref()));
    let (journal, servers) = futures_util::future::join(
        ledger::journal(&config.journal, &clock),
        reach::servers(config, unit.as_ref(), &clock, status.is_some()),
    )
    .await;
    findings.extend(journal);
    findings.extend(servers);
    Examination { findings, status }
}

fn configuration(patient: &Patient) -> Vec<Finding> {
    let told = |problem: &super::config::Problem, state| {
        let place =
            if problem.line == 0 { problem.key.clone() } else { format!("line {}: {}", problem.line, problem.key) };
        Finding::new("configuration", place, state, format!("found {}", problem.found))
            .remedy(format!("expected {}", problem.expected))
    };
    let (mut findings, warnings) = match &patient.loaded {
        Ok(loaded) => {
            (vec![Finding::ok("configuration", "", loaded.config.file.display().to_string())], &loaded.warnings)
        }
        Err(problems) => {
            (problems.errors.iter().map(|problem| told(problem, State::Fail)).collect(), &problems.warnings)
        }
    };
    findings.extend(warnings.iter().map(|problem| told(problem, State::Warn)));
    findings
}

/// A moment for people: `2026-11-24 00:00:00Z`.
fn moment(time: UtcMicros) -> String {
    let text = rfc3339(time);
    let text = text.as_str();
    format!("{}Z", text.get(..19).unwrap_or(text).replace('T', " "))
}
