//! A tar archive (POSIX.1-1988 `ustar`), as much of it as a few small files need.
//!
//! Must not: hold names of 100 bytes or more, or owners of this machine.

/// Size of a block, bytes.
const BLOCK: usize = 512;

/// Writes files into an archive; `at` is their time, seconds since 1970.
pub(super) fn archive(files: &[(String, Vec<u8>)], at: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes) in files {
        let mut header = [0_u8; BLOCK];
        let mut put = |from: usize, text: &str| header[from..from + text.len()].copy_from_slice(text.as_bytes());
        put(0, name.get(..99.min(name.len())).unwrap_or("file"));
        put(100, "0000600");
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", bytes.len()));
        put(136, &format!("{at:011o}"));
        // The sum is made with blanks in its own place.
        put(148, "        ");
        put(156, "0");
        put(257, "ustar\u{0}00");
        put(265, "portero");
        put(297, "portero");
        let sum: u32 = header.iter().copied().map(u32::from).sum();
        let text = format!("{sum:06o}\0 ");
        header[148..156].copy_from_slice(text.as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tar_itself_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let files = [("b/one.txt".to_owned(), b"1".repeat(700)), ("b/none".to_owned(), Vec::new())];
        std::fs::write(dir.path().join("a.tar"), archive(&files, 1_800_000_000)).unwrap();
        let tar = std::process::Command::new("tar").args(["-xf", "a.tar"]).current_dir(dir.path()).output().unwrap();
        assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
        assert_eq!(std::fs::read(dir.path().join("b/one.txt")).unwrap(), b"1".repeat(700));
        assert_eq!(std::fs::read(dir.path().join("b/none")).unwrap(), b"");
    }
}
