//! What the kernel says of this process (proc_pid_status(5), clock_gettime(2)), for `/metrics`.
//!
//! Must not: guess; what can't be read is left out.

use rustix::time::{ClockId, clock_gettime};

/// Processor time used, microseconds.
pub(super) fn cpu_micros() -> Option<u64> {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let (seconds, nanos) = (u64::try_from(used.tv_sec).ok()?, u64::try_from(used.tv_nsec).ok()?);
    Some(seconds * 1_000_000 + nanos / 1000)
}

/// Memory that is in use, bytes.
pub(super) fn resident_bytes() -> Option<u64> {
    resident(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Files, sockets and devices that are open.
pub(super) fn open_files() -> Option<usize> {
    // One of them is this look.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_numbers() {
        assert_eq!(resident("VmPeak:\t  9 kB\nVmRSS:\t   12 kB\n"), Some(12_288));
        assert_eq!(resident("VmRSS: many\n"), None);
        assert!(cpu_micros() > Some(0) && resident_bytes() > Some(1 << 20) && open_files() > Some(2));
    }
}
