//! The machine itself: is the clock right, is the service installed, does the gateway run?
//!
//! Must not: ask systemd (it may not answer), or change anything.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::config::Config;
use super::super::control::client;
use super::{Finding, State, moment};
use crate::clock::{self, Clock, SyncSource};

/// The year in which this release was made: before it, no clock is right.
const RELEASED: i64 = 2026;

/// A year after which a clock has run wild.
const WILD: i64 = 2100;

/// Where a unit that starts with the machine is linked.
const WANTED: &str = "/etc/systemd/system/multi-user.target.wants/portero.service";

/// systemd runs here (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";

/// An installed unit and what its drop-ins add to it.
pub(super) struct Unit {
    pub(super) path: PathBuf,
    lines: Vec<String>,
}

impl Unit {
    /// The first one that is there, with the drop-ins of all places.
    pub(super) fn find(units: &[PathBuf]) -> Option<Self> {
        let path = units.iter().find(|unit| unit.is_file())?.clone();
        let mut texts = vec![std::fs::read_to_string(&path).unwrap_or_default()];
        for unit in units {
            let files = std::fs::read_dir(unit.with_extension("service.d")).into_iter().flatten().flatten();
            let mut files: Vec<PathBuf> = files.map(|file| file.path()).collect();
            files.retain(|file| file.extension().is_some_and(|end| end == "conf"));
            files.sort();
            texts.extend(files.iter().filter_map(|file| std::fs::read_to_string(file).ok()));
        }
        let lines = texts.iter().flat_map(|text| text.lines()).map(|line| line.trim().to_owned()).collect();
        Some(Self { path, lines })
    }

    /// What it says last of a key.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.lines.iter().rev().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }

    /// Where a credential is loaded from: `Some(None)` where it is loaded, but from nowhere that could be looked at.
    pub(super) fn credential(&self, name: &str) -> Option<Option<PathBuf>> {
        let keys = ["LoadCredential=", "LoadCredentialEncrypted=", "SetCredential=", "SetCredentialEncrypted="];
        self.lines.iter().rev().find_map(|line| {
            let (key, value) = keys.iter().find_map(|key| Some((*key, line.strip_prefix(key)?)))?;
            let (found, from) = value.split_once(':').map_or((value, None), |(name, from)| (name, Some(from)));
            if found.trim() != name {
                return None;
            }
            let path = from.map(|from| PathBuf::from(from.trim())).filter(|path| path.is_absolute());
            Some(path.filter(|_| key == "LoadCredential="))
        })
    }
}

/// Is the unit there, and does it start with the machine?
pub(super) fn unit(unit: Option<&Unit>) -> Finding {
    let Some(unit) = unit else {
        let found = "portero.service is not installed";
        return if Path::new(BOOTED).exists() {
            Finding::warn("unit", "", found, "install the package, or copy systemd/portero.service as the README says")
        } else {
            Finding::skipped("unit", "", format!("{found}, and systemd does not run here"), "nothing, in a container")
        };
    };
    let path = unit.path.display().to_string();
    if unit.value("LimitCORE").is_some_and(|limit| limit != "0") {
        let found = "LimitCORE is not 0: after a crash a core file may hold secrets";
        return Finding::warn("unit", path, found, "take LimitCORE out of the drop-in (systemctl edit portero)");
    }
    if Path::new(BOOTED).exists() && !Path::new(WANTED).exists() {
        let found = "installed, and not started with the machine";
        return Finding::warn("unit", path, found, "run: systemctl enable portero");
    }
    Finding::ok("unit", path, "installed")
}

/// Is the clock right, and does the gateway know?
pub(super) fn clock(config: Option<&Config>, clock: &Clock, status: Option<&Value>) -> Vec<Finding> {
    let now = clock.now();
    let at = moment(now.wall);
    let year: i64 = at.get(..4).and_then(|year| year.parse().ok()).unwrap_or(0);
    let source = config.map_or(&SyncSource::Auto, |config| &config.clock);
    let remedy = match source {
        SyncSource::Auto => "start a time service (systemctl enable --now systemd-timesyncd) and let UDP port 123 out",
        SyncSource::File(_) => "look why the file of [gateway] clock_sync_file is not made",
        SyncSource::Trusted => "set the clock",
    };
    if !(RELEASED..WILD).contains(&year) {
        return vec![Finding::fail("clock", "", format!("it says {at}"), remedy)];
    }
    if !now.synchronised {
        let found = format!("it says {at} and is not synchronised: times of events are provisional until it is");
        return vec![Finding::warn("clock", "", found, remedy)];
    }
    let told = status.and_then(|status| status["clock_synchronised"].as_bool());
    if told == Some(false) && *source == SyncSource::Auto && clock::machine_says_synchronised() {
        let found = "it is synchronised, and the gateway's sandbox does not let it see that";
        return vec![Finding::warn("clock", "", found, "run: systemctl enable --now portero-clock")];
    }
    let how = if *source == SyncSource::Trusted { "trusted ([gateway] clock)" } else { "synchronised" };
    vec![Finding::ok("clock", "", format!("{how}, {at}"))]
}

/// Does the gateway run, and what does it say of itself?
pub(super) fn gateway(socket: &Path, answer: &Result<Value, client::Error>) -> Vec<Finding> {
    let at = socket.display().to_string();
    let status = match answer {
        Ok(status) => status,
        Err(client::Error::Absent(_)) => {
            let found = "no gateway runs with this configuration";
            return vec![Finding::warn(
                "gateway",
                at,
                found,
                "run: systemctl start portero, then: systemctl status portero",
            )];
        }
        Err(error @ client::Error::Forbidden(_)) => {
            return vec![Finding::skipped("gateway", at, error.to_string(), "run it as root")];
        }
        Err(error) => {
            let found = format!("the control socket answers nothing useful ({error})");
            return vec![Finding::fail("gateway", at, found, "run: systemctl restart portero, and look into its log")];
        }
    };
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let pid = status["pid"].as_u64().unwrap_or(0);
    let version = text(status, "version");
    let mut findings = vec![Finding::ok("gateway", at, format!("version {version} runs (process {pid})"))];
    if version != env!("CARGO_PKG_VERSION") {
        let found = format!("version {version} runs, {} is installed", env!("CARGO_PKG_VERSION"));
        findings.push(Finding::warn("gateway", "", found, "run: systemctl restart portero"));
    }
    match status["configuration"]["state"].as_str() {
        Some("differs" | "changed") => findings.push(Finding::warn(
            "gateway",
            "",
            "the configuration file says something else than what runs",
            "run: portero check, then: portero config reload",
        )),
        Some("refused") => findings.push(Finding::warn(
            "gateway",
            "",
            "the configuration file was refused; the one before it runs",
            "run: portero check",
        )),
        _ => {}
    }
    findings.extend(remote(&status["configuration"]["remote"]));
    for sink in status["sinks"].as_array().into_iter().flatten() {
        let state = match sink["state"].as_str() {
            Some("blocked" | "gone") => State::Fail,
            Some("open" | "retrying") => State::Warn,
            _ => State::Ok,
        };
        let pending = sink["pending"].as_u64().unwrap_or(0);
        let quarantined = sink["quarantined"].as_u64().unwrap_or(0);
        let name = text(sink, "name");
        if state != State::Ok {
            let words = super::redact::ours(&text(sink, "error"));
            let (found, remedy) = words.rsplit_once("; ").unwrap_or((&words, "see what is said of this sink below"));
            let found = format!("{} events wait; the sink is {}: {found}", pending, text(sink, "state"));
            findings.push(Finding::new("gateway", &name, state, found).remedy(remedy));
        }
        if quarantined > 0 {
            let found = format!("{quarantined} events are set aside");
            findings.push(Finding::warn(
                "gateway",
                &name,
                found,
                format!("run: portero quarantine list --sink {name}"),
            ));
        }
    }
    for link in status["links"].as_array().into_iter().flatten() {
        if let Some(reason) = link["reason"].as_str() {
            let (found, remedy) = reason.rsplit_once("; ").unwrap_or((reason, "see what is said of this link below"));
            let found = format!("the link is {}: {found}", text(link, "state"));
            findings.push(Finding::fail("gateway", text(link, "name"), found, remedy));
        }
    }
    findings
}

/// What the gateway says of configuration from afar.
fn remote(remote: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    for note in remote["degraded"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        findings.push(Finding::warn("remote", "", note, "run: portero check, and mend the local file"));
    }
    if let Some(error) = remote["error"].as_str() {
        let remedy = "look at [manage.remote], and at what stands at its address";
        findings.push(Finding::warn("remote", "", error, remedy));
    }
    if remote["expired"] == true {
        let found = "the bundle that runs has expired; it goes on running";
        findings.push(Finding::warn("remote", "", found, "sign and publish a new one, under a higher revision"));
    }
    let last = &remote["last"];
    if let Some(what @ ("returned" | "refused")) = last["what"].as_str() {
        let reason = last["reason"].as_str().unwrap_or("no reason given");
        let found = format!("revision {} was {what}: {reason}", last["revision"]);
        findings.push(Finding::warn("remote", "", found, "mend the bundle and publish it under a higher revision"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_drop_in_says_where_a_credential_comes_from() {
        let dir = tempfile::tempdir().unwrap();
        let units: Vec<PathBuf> = ["etc", "usr"].map(|place| dir.path().join(place).join("portero.service")).into();
        assert!(Unit::find(&units).is_none());
        std::fs::create_dir_all(dir.path().join("etc/portero.service.d")).unwrap();
        std::fs::create_dir_all(dir.path().join("usr")).unwrap();
        std::fs::write(&units[1], "[Service]\nLimitCORE=0\nLoadCredential=a:/one\n").unwrap();
        let drop_in = "[Service]\nLoadCredential=a:/two\nLoadCredentialEncrypted=b:/three\nLoadCredential=c\n";
        std::fs::write(dir.path().join("etc/portero.service.d/x.conf"), drop_in).unwrap();
        let found = Unit::find(&units).unwrap();
        assert_eq!((&found.path, found.value("LimitCORE")), (&units[1], Some("0")));
        assert_eq!(found.credential("a"), Some(Some("/two".into())));
        assert_eq!(
            (found.credential("b"), found.credential("c"), found.credential("d")),
            (Some(None), Some(None), None)
        );
    }
}
