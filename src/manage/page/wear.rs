//! What this process writes, and what that does to a memory card.
//!
//! The kernel counts what we hand to block devices (`write_bytes` of `/proc/self/io`, proc_pid_io(5)). What a card stands is
//! taken from the rating of one that has one: SanDisk says 10,000 hours of video at 26 Mbit/s for its High Endurance card of
//! 128 GB, which is 117 TB or 914 times its size.
//!
//! Must not: claim to know the card. No maker says what a small write costs inside of it, so what is told is what is
//! counted, and what it is measured against stands beside it.

use std::path::Path;

/// How often such a card may be written from end to end.
pub(super) const ENDURANCE: u64 = 900;

/// Bytes that this process has handed to block devices; `None` where the kernel does not say.
pub(super) fn written() -> Option<u64> {
    of(&std::fs::read_to_string("/proc/self/io").ok()?)
}

fn of(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse().ok())
}

/// The size of the file system that a file is on, bytes.
pub(super) fn size(file: &Path) -> Option<u64> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let stat = rustix::fs::statvfs(folder).ok()?;
    stat.f_blocks.checked_mul(stat.f_frsize).filter(|bytes| *bytes > 0)
}

/// How much of such a card's life goes in a year, thousandths of a percent.
pub(super) fn a_year(bytes_a_day: u64, card_bytes: u64) -> u64 {
    let life = u128::from(card_bytes) * u128::from(ENDURANCE);
    let share = (u128::from(bytes_a_day) * 365 * 100_000).checked_div(life);
    share.and_then(|share| u64::try_from(share).ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_count_is_read() {
        let io = "rchar: 9\nwchar: 8\nread_bytes: 7\nwrite_bytes: 4096\ncancelled_write_bytes: 5\n";
        assert_eq!((of(io), of("wchar: 8\n")), (Some(4096), None));
    }

    #[test]
    fn a_gibibyte_a_day_is_a_little_more_than_one_percent_of_a_32_gib_card_a_year() {
        assert_eq!(a_year(1 << 30, 32 << 30), 1_267);
        assert_eq!((a_year(0, 1), a_year(u64::MAX, 0)), (0, u64::MAX));
    }
}
