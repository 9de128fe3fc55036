//! What is wrong with a configuration, for people and for programs.
//!
//! Must not: repeat a secret, not even one that stands where it must not stand.

use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong, or (as a warning) doubtful.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Line, counted from 1; 0 where the value came from an environment variable or the file can't be read.
    pub line: usize,
    /// Column in characters, counted from 1; 0 like `line`.
    pub column: usize,
    /// How many characters are meant, for the caret line.
    pub width: usize,
    /// The environment variable that said it, if one did.
    pub variable: Option<String>,
    /// The key, for example `terminal[2].link.baud`; members of lists are counted from 1.
    pub key: String,
    /// What stands there.
    pub found: String,
    /// What is expected, with the remedy.
    pub expected: String,
    /// The nearest valid name.
    pub nearest: Option<String>,
    /// The line itself, unless it may hold a secret.
    pub excerpt: Option<String>,
}

impl Problem {
    /// The problem as one JSON object.
    pub fn to_json(&self) -> serde_json::Value {
        let mut object = serde_json::json!({
            "file": self.file.display().to_string(),
            "line": self.line,
            "column": self.column,
            "key": self.key,
            "found": self.found,
            "expected": self.expected,
        });
        if let Some(nearest) = &self.nearest {
            object["nearest"] = nearest.as_str().into();
        }
        if let Some(variable) = &self.variable {
            object["variable"] = variable.as_str().into();
        }
        object
    }

    /// The line of the file with carets under what is meant, for a terminal.
    pub fn caret(&self) -> Option<String> {
        let excerpt = self.excerpt.as_deref()?;
        // A tab stays a tab, so that the carets stand where the terminal puts the text.
        let lead: String =
            excerpt.chars().take(self.column.saturating_sub(1)).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let room = excerpt.chars().count().saturating_sub(self.column.saturating_sub(1)).max(1);
        Some(format!("    {excerpt}\n    {lead}{}", "^".repeat(self.width.clamp(1, room))))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.variable {
            Some(variable) => write!(f, "{variable}")?,
            None if self.line == 0 => write!(f, "{}", self.file.display())?,
            None => write!(f, "{}:{}", self.file.display(), self.line)?,
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": found {}, expected {}", self.found, self.expected)?;
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean {nearest}?")?;
        }
        Ok(())
    }
}

/// A configuration that can't be used: all of its problems, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    /// The file.
    pub file: PathBuf,
    /// What is wrong; at least one.
    pub errors: Vec<Problem>,
    /// What is doubtful.
    pub warnings: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.errors.len();
        write!(f, "{} has {count} problem{}", self.file.display(), if count == 1 { "" } else { "s" })?;
        self.errors.iter().try_for_each(|problem| write!(f, "\n{problem}"))
    }
}

/// Puts problems in the order of the file, those of the environment last.
pub(super) fn sort(problems: &mut [Problem]) {
    problems.sort_by(|a, b| {
        let place = |p: &Problem| (p.variable.clone(), p.line, p.column, p.key.clone());
        place(a).cmp(&place(b))
    });
}

/// A bundle that can't be used at all, as the problem that it is.
pub fn bundle(name: &str, reason: &str) -> Problems {
    let name = Path::new(name);
    Problems {
        file: name.to_owned(),
        errors: vec![whole(name, reason, "a bundle that can be used")],
        warnings: Vec::new(),
    }
}

/// A problem with the file as a whole.
pub(super) fn whole(file: &Path, found: impl Into<String>, expected: impl Into<String>) -> Problem {
    Problem {
        file: file.to_owned(),
        line: 0,
        column: 0,
        width: 0,
        variable: None,
        key: String::new(),
        found: found.into(),
        expected: expected.into(),
        nearest: None,
        excerpt: None,
    }
}

/// Whether a line of the file may hold a secret and must not be shown.
pub(super) fn may_hold_secret(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    // `@` with `://`: a URL with a user, and perhaps more, in it.
    ["pass", "token", "secret", "api_key", "apikey", "authorization", "bearer"].iter().any(|w| line.contains(w))
        || (line.contains("://") && line.contains('@'))
}
