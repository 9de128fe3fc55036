//! A pseudo-terminal under a stable name, which can be unplugged and plugged in again like a USB adapter.
//!
//! Must not: be mistaken for a UART: baud rate and parity mean nothing here.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};
use rustix::pty::OpenptFlags;

use super::wait::{DEADLINE, eventually};

/// The device's end, and the link under which the gateway finds the other one.
pub struct Pty {
    /// The stable name, as `/dev/serial/by-id/…` would be.
    pub link: PathBuf,
    master: Option<File>,
}

impl Pty {
    /// Makes a pair; `link` points to the gateway's end.
    pub fn pair(link: &Path) -> Self {
        let mut pty = Self { link: link.to_owned(), master: None };
        pty.replug();
        pty
    }

    /// Pulls the plug: the link goes, the gateway's end sees EOF or EIO.
    pub fn unplug(&mut self) {
        let _ = std::fs::remove_file(&self.link);
        self.master = None;
    }

    /// Plugs in again: another pair under the same link.
    pub fn replug(&mut self) {
        self.unplug();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).unwrap();
        rustix::io::ioctl_fionbio(&master, true).unwrap();
        rustix::pty::grantpt(&master).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let name = PathBuf::from(name.into_string().unwrap());
        // Opened and closed once, so that a hang-up shows until the gateway opens it.
        drop(File::options().read(true).write(true).open(&name).unwrap());
        let mut attributes = rustix::termios::tcgetattr(&master).unwrap();
        attributes.make_raw();
        rustix::termios::tcsetattr(&master, rustix::termios::OptionalActions::Now, &attributes).unwrap();
        let staged = self.link.with_extension("staged");
        let _ = std::fs::remove_file(&staged);
        std::os::unix::fs::symlink(&name, &staged).unwrap();
        std::fs::rename(&staged, &self.link).unwrap();
        self.master = Some(File::from(master));
    }

    /// Whether somebody has the gateway's end open.
    pub fn is_open(&self) -> bool {
        let Some(master) = &self.master else { return false };
        let mut fds = [PollFd::new(master, PollFlags::OUT)];
        let _ = rustix::event::poll(&mut fds, Some(&rustix::event::Timespec::default()));
        !fds[0].revents().contains(PollFlags::HUP)
    }

    /// Waits until somebody has it open.
    #[track_caller]
    pub fn wait_open(&self) {
        eventually("the gateway opens the serial line", DEADLINE, || self.is_open());
    }

    /// Says something as the device; waits while the line is full. Nothing happens when it is unplugged.
    #[track_caller]
    pub fn write(&mut self, mut bytes: &[u8]) {
        let Some(master) = &mut self.master else { return };
        eventually("the serial line takes the bytes", DEADLINE, || {
            while !bytes.is_empty() {
                match master.write(bytes) {
                    Ok(n) => bytes = &bytes[n..],
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
                    Err(error) => panic!("the serial line failed: {error}"),
                }
            }
            true
        });
    }

    /// What the gateway said so far.
    pub fn read(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        let mut piece = [0; 4096];
        while let Some(Ok(n @ 1..)) = self.master.as_mut().map(|master| master.read(&mut piece)) {
            heard.extend_from_slice(&piece[..n]);
        }
        heard
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        self.unplug();
    }
}
