//! How the file system of the journal is mounted: does a sync mean what it says (I1)?
//!
//! Must not: believe that an option which isn't listed is off; ext4 hides what stands in its superblock, so its own list is read.

use std::path::{Path, PathBuf};

use super::Finding;

/// A line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    kind: String,
    source: String,
    /// Major and minor number of the device.
    number: String,
    options: Vec<String>,
}

/// Looks at the mount that holds the journal.
pub(super) fn mounts(journal: &Path) -> Vec<Finding> {
    let Ok(text) = std::fs::read_to_string("/proc/self/mountinfo") else {
        return vec![Finding::skipped(
            "mount",
            "",
            "/proc/self/mountinfo can't be read",
            "run it outside of a sandbox",
        )];
    };
    // The nearest folder that is there.
    let mut folder = journal.parent().unwrap_or(Path::new("/"));
    let real = loop {
        match (std::fs::canonicalize(folder), folder.parent()) {
            (Ok(real), _) => break real,
            (Err(_), Some(above)) => folder = above,
            (Err(_), None) => break PathBuf::from("/"),
        }
    };
    let Some(mut mount) = holds(&text, &real) else {
        return vec![Finding::skipped("mount", "", "no mount holds the journal", "run it outside of a sandbox")];
    };
    // `/dev/root` is nobody's name: the number leads to it.
    let device = std::fs::read_link(format!("/sys/dev/block/{}", mount.number)).unwrap_or_default();
    if let Some(device) = device.file_name().and_then(|name| name.to_str())
        && let Ok(hidden) = std::fs::read_to_string(format!("/proc/fs/{}/{device}/options", mount.kind))
    {
        mount.options.extend(hidden.lines().map(str::to_owned));
        mount.options.sort();
        mount.options.dedup();
    }
    judge(&mount)
}

fn holds(text: &str, path: &Path) -> Option<Mount> {
    // What is mounted later hides what was there.
    text.lines().filter_map(parse).filter(|mount| path.starts_with(&mount.point)).fold(
        None,
        |best: Option<Mount>, next| match best {
            Some(best) if best.point.components().count() > next.point.components().count() => Some(best),
            _ => Some(next),
        },
    )
}

fn parse(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ');
    let number = mount.nth(2)?.to_owned();
    let (point, own) = (mount.nth(1)?, mount.next()?);
    let mut file_system = file_system.split(' ');
    let (kind, source, options) = (file_system.next()?, file_system.next()?, file_system.next().unwrap_or(""));
    Some(Mount {
        point: PathBuf::from(unescape(point)),
        kind: kind.to_owned(),
        source: unescape(source),
        number,
        options: own.split(',').chain(options.split(',')).map(str::to_owned).collect(),
    })
}

/// `\040` is a blank.
fn unescape(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        match rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn judge(mount: &Mount) -> Vec<Finding> {
    let at = mount.point.display().to_string();
    let mut findings = Vec::new();
    let mut fail = |found: String, remedy: &str| findings.push(Finding::fail("mount", &at, found, remedy));
    let fstab = "take the option out of /etc/fstab (or tune2fs -o ^journal_data_writeback) and restart the machine";
    for option in &mount.options {
        match option.as_str() {
            "data=writeback" => fail(
                "data=writeback: after a power cut, files may hold old data, also what was synced around them"
                    .to_owned(),
                fstab,
            ),
            "nobarrier" | "barrier=0" | "fsync_mode=nobarrier" => {
                fail(format!("{option}: a sync does not reach the medium before it is answered"), fstab);
            }
            "volatile" => fail("volatile: every sync is left out".to_owned(), "mount the overlay without volatile"),
            _ => {}
        }
    }
    match mount.kind.as_str() {
        "tmpfs" | "ramfs" => {
            fail(format!("{}: everything is gone after a restart", mount.kind), "put [journal] path onto a disk");
        }
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "fuse.sshfs" | "ceph" => fail(
            format!("{}: a network's file system can't give the locks and syncs that a journal needs", mount.kind),
            "put [journal] path onto a disk of this machine",
        ),
        _ => {}
    }
    let mut warn = |found: &str, remedy: &str| findings.push(Finding::warn("mount", &at, found, remedy));
    if mount.options.iter().any(|option| option == "sync") {
        warn("sync: every write of every program is synced, which wears the medium out", fstab);
    }
    if matches!(mount.kind.as_str(), "vfat" | "exfat" | "msdos") {
        warn("a FAT file system has no journal of its own and breaks at power cuts", "use ext4, f2fs or btrfs");
    }
    if mount.kind == "overlay" {
        warn("an overlay: what is written may be gone with the container", "mount a volume over the journal's folder");
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            "mount",
            at,
            format!("{} on {}, nothing that weakens a sync", mount.kind, mount.source),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    const TABLE: &str = "\
22 1 179:2 / / rw,noatime shared:1 - ext4 /dev/root rw
40 22 8:1 / /srv/my\\040data rw,sync,relatime shared:2 - ext4 /dev/sda1 rw,data=writeback,barrier=0
41 22 0:31 / /run rw,nosuid - tmpfs tmpfs rw,size=1k
42 22 0:32 / /srv/far rw - nfs4 far:/x rw,vers=4.2
43 22 0:33 / /srv/far rw - btrfs /dev/sdb rw,nobarrier
";

    fn found(path: &str) -> Vec<(State, String)> {
        let mount = holds(TABLE, Path::new(path)).unwrap();
        judge(&mount).into_iter().map(|f| (f.state, f.found.split(':').next().unwrap().to_owned())).collect()
    }

    #[test]
    fn options_that_weaken_a_sync_are_found_on_the_mount_that_holds_the_journal() {
        assert_eq!(found("/var/lib/portero").first().map(|f| f.0), Some(State::Ok));
        let words = |list: &[(State, &str)]| list.iter().map(|(s, w)| (*s, (*w).to_owned())).collect::<Vec<_>>();
        assert_eq!(
            found("/srv/my data/portero"),
            words(&[(State::Fail, "data=writeback"), (State::Fail, "barrier=0"), (State::Warn, "sync")])
        );
        assert_eq!(found("/run/portero"), words(&[(State::Fail, "tmpfs")]));
        assert_eq!(found("/srv/far"), words(&[(State::Fail, "nobarrier")]), "the later mount hides the earlier one");
        assert_eq!(found("/srv/farther")[0].0, State::Ok);
    }
}
