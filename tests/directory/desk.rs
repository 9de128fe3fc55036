//! A directory that refreshes itself without a gateway around it.

use portero::clock::{Clock, SyncSource};
use portero::deliver::directory::{Config, Directory, Fetcher, refresh};
use portero::journal::{self, Journal};
use portero::manage::config::{Options, Secrets, load_text};
use tokio_util::sync::CancellationToken;

use crate::support::{DEADLINE, eventually_async, tempdir};

/// `[directory]` as `portero.toml` says it.
pub(crate) fn configured(text: &str) -> Config {
    let refresh = if text.contains("refresh_seconds") { "" } else { "refresh_seconds = 1\n" };
    let text = format!(
        "[gateway]\nid = \"g\"\nsite = \"s\"\nzone = \"UTC\"\n[[sink]]\nname = \"far\"\ntype = \"api\"\n\
         url = \"http://127.0.0.1:1/\"\n[directory]\n{refresh}{text}"
    );
    let options = Options { secrets: Secrets::Ignore, environment: Vec::new(), credentials: None, units: Vec::new() };
    match load_text(std::path::Path::new("portero.toml"), &text, &options) {
        Ok(loaded) => loaded.config.directory.unwrap(),
        Err(problems) => panic!("{problems}\n{text}"),
    }
}

pub(crate) struct Desk {
    pub(crate) directory: Directory,
    pub(crate) journal: Journal,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Desk {
    pub(crate) async fn open(text: &str) -> Self {
        let (dir, clock) = (tempdir(), Clock::new(SyncSource::Trusted));
        let config = journal::Config { path: dir.path().join("journal.db"), ..journal::Config::default() };
        let journal = Journal::open(&config, clock.clone()).unwrap();
        let (directory, stop) = (Directory::default(), CancellationToken::new());
        let context = refresh::Context {
            journal: journal.clone(),
            clock: clock.clone(),
            directory: directory.clone(),
            sinks: Vec::new(),
        };
        let config = configured(text);
        let source = Fetcher::new(&config, clock).unwrap();
        let task = tokio::spawn(refresh::run(config, source, context, stop.clone()));
        Self { directory, journal, stop, task, _dir: dir }
    }

    /// Waits until so many are known and nothing is wrong.
    pub(crate) async fn knows(&self, count: usize) {
        let what = format!("{count} are known");
        eventually_async(&what, DEADLINE, || async {
            let health = self.directory.health();
            health.count == count && health.error.is_none() && health.refreshed.is_some()
        })
        .await;
    }

    /// Waits for a complaint of these words.
    pub(crate) async fn complains(&self, words: &str) -> String {
        eventually_async(words, DEADLINE, || async { self.error().contains(words) }).await;
        self.error()
    }

    fn error(&self) -> String {
        self.directory.health().error.unwrap_or_default()
    }

    /// Number or card and id of everybody on disk, sorted.
    pub(crate) async fn kept(&self) -> Vec<(String, String)> {
        let mut kept: Vec<_> =
            self.journal.people().await.unwrap().into_iter().map(|p| (p.key, p.external_id)).collect();
        kept.sort();
        kept
    }

    pub(crate) async fn close(self) {
        self.stop.cancel();
        self.task.await.unwrap();
        self.journal.close().await.unwrap();
    }
}
