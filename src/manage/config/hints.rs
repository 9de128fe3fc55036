//! What can be known of a file that can't be used: enough to find what worked before.
//!
//! Must not: be taken for a configuration.

use std::path::PathBuf;

use super::environment;
use super::load::Options;
use super::reader::{Report, as_text};
use super::tree::{self, Node, Value};

/// What the file seems to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hints {
    /// `[journal] path`, or the default.
    pub journal: PathBuf,
    /// There is a `[manage.remote]`.
    pub remote: bool,
}

/// Reads what can be read of a text, and the environment over it.
pub fn hints(text: &str, options: &Options) -> Hints {
    let mut root = tree::parse_what_can_be(text);
    let path = PathBuf::from("portero.toml");
    environment::apply(&mut root, options.environment.iter().cloned(), &Report::new(&path, text));
    let key = |table: &str, key: &str| match root.get(table).map(|node| &node.value) {
        Some(Value::Table(table)) => table.get(key),
        _ => None,
    };
    let journal = key("journal", "path").and_then(as_text).map(PathBuf::from).filter(|path| path.is_absolute());
    Hints {
        journal: journal.unwrap_or_else(|| crate::journal::Config::default().path),
        remote: matches!(key("manage", "remote"), Some(Node { value: Value::Table(_), .. })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manage::config::Secrets;

    #[test]
    fn a_broken_file_still_says_where_its_journal_is() {
        let options =
            Options { secrets: Secrets::Ignore, environment: Vec::new(), credentials: None, units: Vec::new() };
        let found = hints("[gateway\nid = 5\n[journal]\npath = \"/data/j.db\"\n[manage.remote]\nurl = 5\n", &options);
        assert_eq!(found, Hints { journal: "/data/j.db".into(), remote: true });
        assert_eq!(hints("\u{0}", &options).journal, crate::journal::Config::default().path);
        let environment = vec![("PORTERO__JOURNAL__PATH".to_owned(), "/e/j.db".to_owned())];
        assert_eq!(hints("", &Options { environment, ..options }).journal, PathBuf::from("/e/j.db"));
    }
}
