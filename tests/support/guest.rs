//! A small machine of its own: systemd as process 1 in a container of systemd-nspawn, on this machine's own /usr, with the
//! unit as it is shipped and the binary under test. Boots in a few seconds.
//!
//! Needs root (or sudo without a password) and the right to mount. Where that isn't given the tests that need it say so and
//! pass; in CI (`CI` is set, as .ci/run does) they fail instead.
//!
//! Must not: touch this machine's own services, or leave the container running. Rules by control group (DeviceAllow,
//! IPAddressDeny, MemoryMax) may not be enforced inside: that depends on the kernel's control groups here.

use std::collections::HashMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::wait::{DEADLINE, eventually};
use super::{Process, gateway::binary, tempdir};

/// The service's own files, from `systemd/`, and where they stand in the guest.
const SHIPPED: &[(&str, &str)] = &[
    ("portero.service", "etc/systemd/system/portero.service"),
    ("portero-clock.service", "etc/systemd/system/portero-clock.service"),
    ("portero.sysusers", "etc/sysusers.d/portero.conf"),
];

/// What the host's systemd would start besides, and a test doesn't need.
const MASKED: &[&str] = &["console-getty.service", "systemd-logind.service", "dbus.socket", "dbus.service"];

/// A guest that has been prepared, and perhaps booted. Ends with the test.
pub struct Guest {
    root: Option<tempfile::TempDir>,
    nspawn: Option<Process>,
    leader: u32,
}

impl Guest {
    /// A guest that isn't booted yet, with the service installed and enabled; `None`, and a word on standard error, where
    /// no container can run.
    #[track_caller]
    pub fn prepare() -> Option<Self> {
        if let Err(reason) = possible() {
            assert!(std::env::var_os("CI").is_none(), "systemd-nspawn can't run here: {reason}");
            eprintln!("skipped: systemd-nspawn can't run here: {reason}");
            return None;
        }
        let guest = Self { root: Some(tempdir()), nspawn: None, leader: 0 };
        // It becomes `/`: everybody must get through.
        std::fs::set_permissions(guest.root(), std::fs::Permissions::from_mode(0o755)).unwrap();
        guest.furnish();
        Some(guest)
    }

    fn root(&self) -> &Path {
        self.root.as_ref().unwrap().path()
    }

    fn furnish(&self) {
        for folder in ["dev", "proc", "sys", "run", "tmp", "var", "root", "etc/portero", "usr/bin", "host-bin"] {
            std::fs::create_dir_all(self.root().join(folder)).unwrap();
        }
        for link in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            if let Ok(target) = std::fs::read_link(Path::new("/").join(link)) {
                symlink(target, self.root().join(link)).unwrap();
            }
        }
        // All of the host's programs beside ours.
        for entry in std::fs::read_dir("/usr/bin").unwrap() {
            let name = entry.unwrap().file_name();
            if name != "portero" {
                symlink(Path::new("/host-bin").join(&name), self.root().join("usr/bin").join(&name)).unwrap();
            }
        }
        self.write("usr/bin/portero", "");
        std::fs::copy("/usr/lib/os-release", self.root().join("etc/os-release")).unwrap();
        // With one of its own the guest doesn't ask who it is on its first boot.
        self.write("etc/machine-id", "5a5a5a5a5a5a4a5a8a5a5a5a5a5a5a5a\n");
        self.write("etc/resolv.conf", "");
        let units = self.root().join("etc/systemd/system");
        std::fs::create_dir_all(units.join("multi-user.target.wants")).unwrap();
        symlink("/usr/lib/systemd/system/multi-user.target", units.join("default.target")).unwrap();
        symlink("../portero.service", units.join("multi-user.target.wants/portero.service")).unwrap();
        for unit in MASKED {
            symlink("/dev/null", units.join(unit)).unwrap();
        }
        for (from, to) in SHIPPED {
            self.write(to, &std::fs::read_to_string(shipped("systemd").join(from)).unwrap());
        }
    }

    /// Writes a file; `path` is relative to the guest's root.
    pub fn write(&self, path: &str, text: &str) {
        let file = self.root().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    /// The gateway's configuration.
    pub fn configure(&self, text: &str) {
        self.write("etc/portero/portero.toml", text);
    }

    /// In the place of the configuration a pipe, which a start reads until somebody has written.
    #[track_caller]
    pub fn configure_later(&self) {
        let made = Command::new("mkfifo").arg(self.root().join("etc/portero/portero.toml")).status();
        assert!(made.unwrap().success());
    }

    /// A drop-in for the service, lines of its `[Service]`.
    pub fn drop_in(&self, lines: &str) {
        self.write("etc/systemd/system/portero.service.d/test.conf", &format!("[Service]\n{lines}\n"));
    }

    /// Starts it and waits until its systemd answers.
    #[track_caller]
    pub fn boot(&mut self) {
        let mut command = as_root("systemd-nspawn");
        command.args(["--register=no", "--keep-unit", "--boot", "--console=read-only", "--private-network"]);
        command.arg("-D").arg(self.root());
        for entry in std::fs::read_dir("/usr").unwrap() {
            let (name, place) = entry.map(|e| (e.file_name(), e.path())).unwrap();
            if name != "bin" && place.is_dir() {
                std::fs::create_dir_all(self.root().join("usr").join(&name)).unwrap();
                command.arg(format!("--bind-ro={}", place.display()));
            }
        }
        command.arg("--bind-ro=/usr/bin:/host-bin");
        command.arg(format!("--bind-ro={}:/usr/bin/portero", binary().display()));
        let console = std::fs::File::create(self.console()).unwrap();
        command.stdin(Stdio::null()).stdout(console.try_clone().unwrap()).stderr(console);
        let mut nspawn = Process::spawn(&mut command);
        eventually("the guest has a process 1", DEADLINE, || {
            assert!(nspawn.running(), "the guest ended:\n{}", self.said());
            self.leader = leader(nspawn.id()).unwrap_or(0);
            self.leader != 0
        });
        self.nspawn = Some(nspawn);
        eventually("the guest's systemd answers", DEADLINE, || {
            let state = self.try_sh("systemctl show --property=Version --value");
            state.is_ok_and(|text| !text.trim().is_empty())
        });
    }

    fn console(&self) -> PathBuf {
        self.root().with_extension("console")
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.console()).unwrap_or_default()
    }

    /// Runs a script as root in the guest and returns what it printed; its failure is an `Err` with both outputs.
    pub fn try_sh(&self, script: &str) -> Result<String, String> {
        let mut command = as_root("nsenter");
        command.args(["--target", &self.leader.to_string(), "--mount", "--uts", "--ipc", "--net", "--pid"]);
        command.args(["--wd=/", "env", "-i", "PATH=/usr/sbin:/usr/bin", "sh", "-c", script]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        Err(format!("{}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr)))
    }

    /// The same for a script that must succeed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.try_sh(script).unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// What systemd knows of a service: `systemctl show`.
    #[track_caller]
    pub fn show(&self, unit: &str) -> HashMap<String, String> {
        let text = self.sh(&format!("systemctl show {unit}"));
        text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    /// Waits until the gateway's `property` is as `wanted`, and returns all of them.
    #[track_caller]
    pub fn until(&self, property: &str, wanted: impl Fn(&str) -> bool) -> HashMap<String, String> {
        let mut shown = HashMap::new();
        eventually(&format!("{property} of the service is as it should be"), DEADLINE, || {
            shown = self.show("portero");
            wanted(&shown[property])
        });
        shown
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() && self.nspawn.is_some() {
            let log = self.try_sh("systemctl status --no-pager portero; journalctl --no-pager --lines=60");
            eprintln!("{}\n{}", self.said(), log.unwrap_or_else(|error| error));
        }
        if let Some(mut nspawn) = self.nspawn.take() {
            // With its process 1 the kernel ends all of a guest, and systemd-nspawn clears up.
            let _ = as_root("kill").args(["-9", &self.leader.to_string()]).status();
            let _ = nspawn.wait(DEADLINE);
        }
        let _ = std::fs::remove_file(self.console());
        if let Some(root) = self.root.take() {
            // The guest's own files are root's.
            let _ = as_root("rm").args(["-rf", "--one-file-system"]).arg(root.path()).status();
        }
    }
}

/// A file or folder at the project's top level.
fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("-n").arg(program);
    command
}

fn possible() -> Result<(), String> {
    let tried = |command: &mut Command| match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(error.to_string()),
    };
    tried(Command::new("systemd-nspawn").arg("--version")).map_err(|e| format!("{e}; run `make deps`"))?;
    tried(as_root("unshare").args(["--mount", "true"])).map_err(|e| format!("{e}; run it as root"))
}

/// The process below `above` that is number 1 of another process namespace.
fn leader(above: u32) -> Option<u32> {
    let mut parents = HashMap::new();
    let mut first = Vec::new();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else { continue };
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        parents.insert(pid, field("PPid:").trim().parse::<u32>().unwrap_or(0));
        let numbers: Vec<&str> = field("NSpid:").split_whitespace().collect();
        if numbers.len() > 1 && numbers.last() == Some(&"1") {
            first.push(pid);
        }
    }
    let is_below = |pid: &u32| {
        let mut at = *pid;
        while let Some(&parent) = parents.get(&at) {
            if parent == above {
                return true;
            }
            at = parent;
        }
        false
    };
    first.into_iter().find(is_below)
}
