//! The disk under the journal: room, inodes, and whether the service may write there.
//!
//! Must not: write a file to find out.

use std::path::Path;

use super::Finding;
use super::users::{self, READ, WRITE, Who};
use crate::journal;

/// Below this the journal's own reserve and its WAL have no room, bytes.
const LEAST: u64 = 32 << 20;

/// Below this somebody should look, bytes.
const LITTLE: u64 = 256 << 20;

/// A handful of files is all that a journal needs.
const FEW_INODES: u64 = 100;

/// Looks at the folder of the journal.
pub(super) fn disk(config: &journal::Config) -> Vec<Finding> {
    let folder = config.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let at = folder.display().to_string();
    if !folder.exists() {
        let parent = folder.parent().is_some_and(Path::exists);
        let remedy = format!("make it: install -d -o portero -g portero -m 700 {at}");
        return vec![if parent {
            Finding::warn("disk", at, "the journal's folder is not there yet; the first start makes it", remedy)
        } else {
            Finding::fail("disk", at, "the journal's folder is not there, nor the one above it", remedy)
        }];
    }
    let mut findings = vec![writable(folder, &at)];
    match rustix::fs::statvfs(folder) {
        Ok(stat) => findings.extend(room(&at, config, &stat)),
        Err(error) => {
            let remedy = "run it as root";
            findings.push(Finding::skipped("disk", at, format!("its file system can't be asked ({error})"), remedy));
        }
    }
    findings
}

fn writable(folder: &Path, at: &str) -> Finding {
    let who = Who::counts();
    let meta = match std::fs::metadata(folder) {
        Ok(meta) if meta.is_dir() => meta,
        Ok(_) => return Finding::fail("disk", at, "this is no folder", "correct [journal] path"),
        Err(error) => {
            return Finding::skipped("disk", at, format!("it can't be looked at ({error})"), "run it as root");
        }
    };
    use std::os::unix::fs::MetadataExt as _;
    let owner = users::user_name(meta.uid());
    if !who.may(&meta, READ | WRITE | 1) {
        let found = format!("{} may not write to the journal's folder, which belongs to {owner}", who.name);
        return Finding::fail("disk", at, found, format!("run: chown -R {} {at}", who.name));
    }
    Finding::ok("disk", at, format!("{} may write there", who.name))
}

fn room(at: &str, config: &journal::Config, stat: &rustix::fs::StatVfs) -> Vec<Finding> {
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let size = stat.f_blocks.saturating_mul(stat.f_frsize);
    let mut findings = Vec::new();
    let words = format!("{} of {} free", bytes(free), bytes(size));
    if stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        let found = "the file system is mounted read-only: nothing can be confirmed";
        findings.push(Finding::fail("disk", at, found, "look into dmesg why, repair it (fsck), mount it read-write"));
    }
    let remedy = "make room, or lower [journal] retention_days";
    findings.push(match free {
        _ if free < LEAST => Finding::fail("disk", at, format!("{words}: too little for the journal"), remedy),
        _ if free < LITTLE => Finding::warn("disk", at, words, remedy),
        _ => {
            let used = std::fs::metadata(&config.path).map_or(0, |meta| meta.len());
            let wants = config.max_bytes.saturating_sub(used);
            let note = if free < wants { "; the journal may want more before it ends itself at max_bytes" } else { "" };
            Finding::ok("disk", at, format!("{words}{note}"))
        }
    });
    // File systems without inodes of a fixed number say 0.
    if stat.f_files > 0 && stat.f_favail < FEW_INODES {
        let found = format!("{} inodes free of {}", stat.f_favail, stat.f_files);
        findings.push(Finding::fail(
            "disk",
            at,
            found,
            "remove small files; find where: du --inodes -x / | sort -n | tail",
        ));
    }
    findings
}

/// A size for people.
pub(super) fn bytes(count: u64) -> String {
    let (unit, name) = match count {
        _ if count >= 1 << 30 => (1_u64 << 30, "GiB"),
        _ => (1_u64 << 20, "MiB"),
    };
    let tenths = u128::from(count) * 10 / u128::from(unit);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        assert_eq!((bytes(0).as_str(), bytes(1_600_000_000).as_str()), ("0.0 MiB", "1.4 GiB"));
    }
}
