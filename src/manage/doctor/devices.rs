//! Serial devices: are they there, may the service open them, who else has them?
//!
//! Must not: open one. Opening drives its control lines, which restarts some readers, and another program may be at it.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use serde_json::Value;

use super::super::config::Config;
use super::Finding;
use super::users::{READ, WRITE, Who, group_name};
use crate::terminal::{Link, serial::holder};

/// Stable names of USB adapters.
const BY_ID: &str = "/dev/serial/by-id";

/// Every serial line of the configuration.
pub(super) fn serial(config: &Config, status: Option<&Value>) -> Vec<Finding> {
    let gateway = status.and_then(|status| status["pid"].as_u64()).unwrap_or(0);
    let lines = config.terminals.iter().filter_map(|terminal| match &terminal.link {
        Link::Serial(serial) => Some((terminal.name.as_str(), serial.device.as_path())),
        Link::Mqtt(_) => None,
    });
    lines.flat_map(|(name, device)| line(name, device, gateway)).collect()
}

fn line(name: &str, device: &Path, gateway: u64) -> Vec<Finding> {
    let shown = device.display();
    let subject = format!("{name}, {shown}");
    let meta = match std::fs::metadata(device) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let there = others();
            let remedy = if there.is_empty() {
                "plug it in (no serial adapter is there at all), or correct link.device".to_owned()
            } else {
                format!("plug it in, or correct link.device; there are: {}", there.join(", "))
            };
            return vec![Finding::fail("serial", subject, "there is no such device", remedy)];
        }
        Err(error) => {
            let found = format!("it can't be looked at ({error})");
            return vec![Finding::skipped("serial", subject, found, "run it as root")];
        }
    };
    if !meta.file_type().is_char_device() {
        return vec![Finding::fail(
            "serial",
            subject,
            "this is no device",
            "correct link.device; see: ls /dev/serial/by-id",
        )];
    }
    let mut findings = Vec::new();
    let who = Who::counts();
    if !who.may(&meta, READ | WRITE) {
        let group = group_name(meta.gid());
        let mode = meta.mode() & 0o777;
        let found = format!("{} may not open it (group {group}, mode {mode:04o})", who.name);
        // Nobody should be made a member of root's group.
        let remedy = if mode & 0o060 == 0o060 && meta.gid() != 0 {
            format!("run: usermod -a -G {group} {}, then: systemctl restart portero", who.name)
        } else {
            "give it to group dialout, mode 0660, by a udev rule such as 60-portero.rules".to_owned()
        };
        findings.push(Finding::fail("serial", &subject, found, remedy));
    }
    match holder(device) {
        Some((pid, _)) if u64::from(pid) == gateway => {
            findings.push(Finding::ok("serial", &subject, format!("the gateway has it (process {pid})")));
        }
        Some((pid, program)) => {
            let found = format!("process {pid} ({program}) has it");
            let remedy = match program.as_str() {
                "ModemManager" => {
                    "install the udev rule 60-portero.rules, or run: systemctl disable --now ModemManager"
                }
                "agetty" | "getty" => {
                    "run: systemctl disable --now serial-getty@NAME of this line, and take it from cmdline.txt"
                }
                _ => "stop that program, or name another device",
            };
            findings.push(Finding::fail("serial", &subject, found, remedy));
        }
        None => {}
    }
    if let Some(console) = console(device) {
        let found = format!("the kernel writes its console to it ({console})");
        findings.push(Finding::fail(
            "serial",
            &subject,
            found,
            "take console= of this line out of the kernel's command line",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("serial", &subject, "there, and free"));
    }
    let numbered = device.to_string_lossy();
    if numbered.starts_with("/dev/ttyUSB") || numbered.starts_with("/dev/ttyACM") {
        let found = "the number in its name may be another one after a restart";
        findings.push(Finding::warn("serial", &subject, found, "use its stable name: ls -l /dev/serial/by-id"));
    }
    findings
}

/// The adapters that are plugged in.
fn others() -> Vec<String> {
    let list = std::fs::read_dir(BY_ID).into_iter().flatten().flatten();
    let mut names: Vec<String> = list.take(8).map(|entry| entry.path().display().to_string()).collect();
    names.sort();
    names
}

/// The console on this device, by `/proc/consoles` (proc(5)).
fn console(device: &Path) -> Option<String> {
    let real = std::fs::canonicalize(device).ok()?;
    let name = real.file_name()?.to_str()?;
    let text = std::fs::read_to_string("/proc/consoles").ok()?;
    text.lines().filter_map(|line| line.split_whitespace().next()).find(|found| *found == name).map(str::to_owned)
}
