//! Lines for the system's journal with their fields as fields: `journalctl PORTERO_SINK=hr PRIORITY=3`.
//!
//! Speaks the journal's native protocol (systemd, "Native Journal Protocol": datagrams of `KEY=value` lines, values with line
//! breaks as little-endian length and bytes). `MESSAGE` still says everything, so that `journalctl` alone is enough.
//!
//! Must not: block or fail whoever logs, or grow with what is logged (a datagram has a bound).

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// Where the journal listens (systemd-journald(8)).
const SOCKET: &str = "/run/systemd/journal/socket";

/// Longest value, bytes: with all its fields a line stays far below the 208 KiB that a datagram may have on Linux by default.
const MOST: usize = 8 * 1024;

/// Sends every event to the system's journal.
pub(super) struct Journald {
    socket: UnixDatagram,
    /// Looked up for each line: the journal may be started again.
    path: PathBuf,
}

impl Journald {
    /// Connects, if standard error is the journal's: `$JOURNAL_STREAM` says which device and inode it gave us
    /// (systemd.exec(5)).
    pub(super) fn connect() -> Option<Self> {
        let stream = std::env::var("JOURNAL_STREAM").ok()?;
        let meta = std::fs::metadata("/proc/self/fd/2").ok()?;
        if stream != format!("{}:{}", meta.dev(), meta.ino()) {
            return None;
        }
        Self::to(Path::new(SOCKET))
    }

    fn to(path: &Path) -> Option<Self> {
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        path.exists().then(|| Self { socket, path: path.to_owned() })
    }
}

/// Name and value of each field, in order.
#[derive(Default)]
struct Fields(Vec<(&'static str, String)>);

impl Fields {
    fn add(&mut self, field: &Field, mut value: String) {
        value.truncate(value.floor_char_boundary(MOST));
        self.0.push((field.name(), value));
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}

/// Severities of syslog(3).
const fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// One field of the datagram.
fn put(datagram: &mut Vec<u8>, key: &str, value: &str) {
    datagram.extend(key.as_bytes());
    if value.contains('\n') {
        datagram.push(b'\n');
        datagram.extend((value.len() as u64).to_le_bytes());
    } else {
        datagram.push(b'=');
    }
    datagram.extend(value.as_bytes());
    datagram.push(b'\n');
}

fn datagram(metadata: &Metadata<'_>, spans: &[(&'static str, String)], fields: &Fields) -> (String, Vec<u8>) {
    let mut message = String::new();
    let said = fields.0.iter().filter(|(name, _)| *name == "message");
    said.for_each(|(_, text)| message.push_str(text));
    let mut datagram = Vec::with_capacity(512);
    // An event says it again where it is about something else than its span.
    let others = || spans.iter().chain(fields.0.iter().filter(|(name, _)| *name != "message"));
    for (at, (name, value)) in others().enumerate() {
        if others().take(at).all(|earlier| earlier != &(*name, value.clone())) {
            // A String takes everything.
            let _ = write!(message, " {name}={value}");
            put(&mut datagram, &format!("PORTERO_{}", name.to_ascii_uppercase().replace('.', "_")), value);
        }
    }
    message.truncate(message.floor_char_boundary(MOST));
    put(&mut datagram, "MESSAGE", &message);
    put(&mut datagram, "PRIORITY", &priority(*metadata.level()).to_string());
    put(&mut datagram, "SYSLOG_IDENTIFIER", "portero");
    put(&mut datagram, "PORTERO_TARGET", metadata.target());
    (message, datagram)
}

impl<S> Layer<S> for Journald
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut spans = Vec::new();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<Fields>() {
                spans.extend(fields.0.iter().cloned());
            }
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (message, datagram) = datagram(event.metadata(), &spans, &fields);
        if self.socket.send_to(&datagram, &self.path).is_err() {
            // Full or away: standard error leads there too, without fields (`<N>` is the severity, sd-daemon(3)). If that
            // fails the line is lost, the gateway is not.
            let _ = writeln!(std::io::stderr(), "<{}>{message}", priority(*event.metadata().level()));
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn a_line_says_everything_and_each_field_stands_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let layer = Journald::to(&path).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let _span = tracing::info_span!("relay", sink = "hr").entered();
            tracing::warn!(reason = "two\nlines", attempt = 3, "sink failed");
        });
        let mut datagram = [0; 4096];
        let length = journal.recv(&mut datagram).unwrap();
        let text = String::from_utf8_lossy(&datagram[..length]);
        assert!(text.contains("PORTERO_SINK=hr\n") && text.contains("PORTERO_ATTEMPT=3\n"), "{text}");
        assert!(text.contains("PRIORITY=4\n") && text.contains("SYSLOG_IDENTIFIER=portero\n"), "{text}");
        assert!(text.contains("PORTERO_REASON\n\u{9}\0\0\0\0\0\0\0two\nlines\n"), "{text}");
        assert!(text.contains("sink failed sink=hr reason=two\nlines attempt=3\n"), "{text}");
    }
}
