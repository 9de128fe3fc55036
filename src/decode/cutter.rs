//! Cuts a stream into lines; `serial-lines` and `portero decode` share it.
//!
//! Must not: keep more of a line than its bound, or lose the delimiter that ends an over-long one.

/// How much of an over-long line is kept for its digest and excerpt, bytes.
const KEPT: usize = 256;

/// A line, or what was kept of one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Its bytes without delimiter; the first few of them if it was too long.
    pub text: Vec<u8>,
    /// Its true length without delimiter.
    pub length: u64,
    /// Where it starts in the stream.
    pub offset: u64,
}

impl Cut {
    /// Whether only a part of it was kept.
    pub(crate) fn too_long(&self) -> bool {
        self.text.len() as u64 != self.length
    }
}

/// Cuts at a delimiter, whatever the chunks.
#[derive(Debug)]
pub(crate) struct Cutter {
    delimiter: Vec<u8>,
    /// A CR before the delimiter isn't part of the line.
    trim_cr: bool,
    max_length: usize,
    /// What was read of the line; only its head and its tail once it is too long.
    line: Vec<u8>,
    /// The last bytes of an over-long line, in which its delimiter will appear.
    tail: Vec<u8>,
    length: u64,
    offset: u64,
}

impl Cutter {
    /// Lines end with `delimiter`; CR LF, LF and nothing all mean LF with or without CR.
    pub(crate) fn new(delimiter: &[u8], max_length: usize) -> Self {
        let trim_cr = matches!(delimiter, b"" | b"\n" | b"\r\n");
        let delimiter = if trim_cr { b"\n".to_vec() } else { delimiter.to_vec() };
        Self { delimiter, trim_cr, max_length, line: Vec::new(), tail: Vec::new(), length: 0, offset: 0 }
    }

    /// Takes bytes up to the end of the next line; `None` once there are no more.
    pub(crate) fn next(&mut self, bytes: &mut &[u8]) -> Option<Cut> {
        while let Some((&byte, rest)) = bytes.split_first() {
            *bytes = rest;
            self.length += 1;
            let end = &mut if self.is_over() { &mut self.tail } else { &mut self.line };
            end.push(byte);
            if end.ends_with(&self.delimiter) {
                return Some(self.take(self.delimiter.len()));
            }
            if self.is_over() {
                // A CR may stand before the delimiter.
                let keep = self.delimiter.len() + 1;
                let surplus = self.tail.len().saturating_sub(keep);
                self.tail.drain(..surplus);
            } else if self.line.len() > self.bound() {
                let keep = self.line.len() - self.delimiter.len() - 1;
                self.tail = self.line.split_off(keep);
                self.line.truncate(KEPT.min(self.max_length));
                self.line.shrink_to_fit();
            }
        }
        None
    }

    /// The unfinished line.
    pub(crate) fn rest(&mut self) -> Option<Cut> {
        (self.length > 0).then(|| self.take(0))
    }

    fn is_over(&self) -> bool {
        !self.tail.is_empty()
    }

    /// Most bytes that can belong to a line that isn't too long: the line, a CR and the delimiter.
    fn bound(&self) -> usize {
        self.max_length.saturating_add(self.delimiter.len()).saturating_add(usize::from(self.trim_cr))
    }

    fn take(&mut self, delimiter: usize) -> Cut {
        let over = self.is_over();
        let end = if over { &self.tail } else { &self.line };
        let mut drop = delimiter;
        if self.trim_cr && delimiter > 0 && end[..end.len() - delimiter].ends_with(b"\r") {
            drop += 1;
        }
        let length = self.length - drop as u64;
        let mut text = std::mem::take(&mut self.line);
        if !over {
            text.truncate(text.len() - drop);
            if text.len() > self.max_length {
                text.truncate(KEPT.min(self.max_length));
            }
        }
        let cut = Cut { text, length, offset: self.offset };
        self.tail.clear();
        self.offset += self.length;
        self.length = 0;
        cut
    }
}
