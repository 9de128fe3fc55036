//! Standard output that survives a closed pipe.
//!
//! Must not: panic or fail because `head` has seen enough.

use std::io::{IsTerminal as _, Write};

/// Standard output, buffered. Once the reader has gone every further line is dropped without an error, and
/// [`Output::closed`] says so, for loops that would else run for ever.
pub struct Output {
    stream: std::io::BufWriter<Box<dyn Write>>,
    tty: bool,
    closed: bool,
}

impl Output {
    /// The process's standard output.
    pub fn stdout() -> Self {
        let stdout = std::io::stdout();
        Self { tty: stdout.is_terminal(), stream: std::io::BufWriter::new(Box::new(stdout)), closed: false }
    }

    /// Writes a line.
    pub fn line(&mut self, text: impl std::fmt::Display) -> std::io::Result<()> {
        let written = writeln!(self.stream, "{text}");
        self.settle(written)
    }

    /// Writes bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let written = self.stream.write_all(bytes);
        self.settle(written)
    }

    /// Hands everything to the system.
    pub fn flush(&mut self) -> std::io::Result<()> {
        let flushed = self.stream.flush();
        self.settle(flushed)
    }

    /// Whether a person looks at it: then, and only then, colour.
    pub const fn is_tty(&self) -> bool {
        self.tty
    }

    /// Whether the reader has gone.
    pub const fn closed(&self) -> bool {
        self.closed
    }

    fn settle(&mut self, result: std::io::Result<()>) -> std::io::Result<()> {
        match result {
            Err(_) if self.closed => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            other => other,
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.flush();
    }
}
