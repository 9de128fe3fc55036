//! The device's end of a serial line: a pseudo-terminal that is made under a link, or a device that exists.
//!
//! Must not: know what is said over it.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pty::OpenptFlags;
use tokio::time::Duration;

use super::{Error, Target};

/// How often a line is asked whether the other end is open.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a full line is left alone.
const RETRY_AFTER: Duration = Duration::from_millis(5);

/// How long bytes may still be on their way when the line is closed: a closed pseudo-terminal throws away what the other
/// end has not read.
const LINGER: Duration = Duration::from_millis(500);

/// A line to talk over.
pub(super) enum Line {
    /// A pseudo-terminal of ours.
    Pty {
        /// Our end.
        master: File,
        /// The name under which the other end is found; removed on drop.
        link: PathBuf,
    },
    /// A real (or somebody else's) device.
    Device(tokio_serial::SerialStream),
}

impl Line {
    /// Makes or opens the line of `target`.
    pub(super) fn open(target: &Target) -> Result<Self, Error> {
        match target {
            Target::Pty(link) => pty(link).map_err(|error| Error::Line { path: link.display().to_string(), error }),
            Target::Device(path, baud) => {
                let text = path.display().to_string();
                let builder = tokio_serial::new(text.as_str(), *baud);
                tokio_serial::SerialStream::open(&builder)
                    .map(Self::Device)
                    .map_err(|error| Error::Line { path: text, error: error.into() })
            }
            Target::Broker(_) => Err(Error::Options("a serial protocol needs --pty or --device".to_owned())),
        }
    }

    /// Waits until somebody has the other end open. A real line can't tell.
    pub(super) async fn wait_open(&self) {
        while !self.is_open() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn is_open(&self) -> bool {
        let Self::Pty { master, .. } = self else { return true };
        let mut fds = [PollFd::new(master, PollFlags::OUT)];
        let _ = rustix::event::poll(&mut fds, Some(&Timespec::default()));
        !fds[0].revents().contains(PollFlags::HUP)
    }

    /// Says `bytes`. Into a pseudo-terminal that nobody has open they vanish, as on a wire.
    pub(super) async fn send(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        if !self.is_open() {
            return Ok(());
        }
        match self {
            Self::Device(stream) => tokio::io::AsyncWriteExt::write_all(stream, bytes).await,
            Self::Pty { master, .. } => {
                while !bytes.is_empty() {
                    match master.write(bytes) {
                        Ok(written) => bytes = &bytes[written..],
                        // The line is full: the other end is slow, so we are too.
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                            tokio::time::sleep(RETRY_AFTER).await;
                        }
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            }
        }
    }

    /// Gives the last bytes time to be read.
    pub(super) async fn close(self) {
        if self.is_open() {
            tokio::time::sleep(LINGER).await;
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Self::Pty { link, .. } = self {
            let _ = std::fs::remove_file(link);
        }
    }
}

fn pty(link: &Path) -> std::io::Result<Line> {
    let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?;
    let name = name.into_string().map_err(std::io::Error::other)?;
    // Opened and closed once: from then on a hang-up shows until somebody opens it.
    drop(File::options().read(true).write(true).open(&name)?);
    let mut attributes = rustix::termios::tcgetattr(&master)?;
    attributes.make_raw();
    rustix::termios::tcsetattr(&master, rustix::termios::OptionalActions::Now, &attributes)?;
    match std::fs::symlink_metadata(link) {
        Ok(found) if found.is_symlink() => std::fs::remove_file(link)?,
        Ok(_) => return Err(std::io::Error::other("exists and is no link: choose another name")),
        Err(_) => {}
    }
    std::os::unix::fs::symlink(name, link)?;
    Ok(Line::Pty { master: File::from(master), link: link.to_owned() })
}
