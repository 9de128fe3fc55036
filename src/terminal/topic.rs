//! Topic names and topic filters of MQTT 3.1.1 (OASIS standard, §4.7), and the wildcard text that names a device.
//!
//! Must not: know a broker or a terminal.

/// Longest topic or filter that we accept, bytes. The protocol allows 65,535; no terminal comes near.
pub(crate) const MAX_TOPIC_BYTES: usize = 1024;

/// A topic filter, cut into levels once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    text: String,
    levels: Vec<Level>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Name(String),
    One,
    Rest,
}

impl Filter {
    /// Reads a filter; `None` if the standard forbids it (§4.7.1) or it is longer than [`MAX_TOPIC_BYTES`].
    pub(crate) fn new(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > MAX_TOPIC_BYTES || text.contains('\0') {
            return None;
        }
        let mut levels = Vec::new();
        let mut rest_seen = false;
        for level in text.split('/') {
            if rest_seen {
                return None;
            }
            levels.push(match level {
                "+" => Level::One,
                "#" => {
                    rest_seen = true;
                    Level::Rest
                }
                name if name.contains(['+', '#']) => return None,
                name => Level::Name(name.to_owned()),
            });
        }
        Some(Self { text: text.to_owned(), levels })
    }

    /// The filter as it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `topic` matches. Wildcards at the start don't match topics that begin with `$` (§4.7.2).
    pub(crate) fn matches(&self, topic: &str) -> bool {
        self.walk(topic, |_| {})
    }

    /// If `topic` matches: the text that the wildcards stood for, joined by `/`; `None` inside if that is empty.
    pub(crate) fn capture(&self, topic: &str) -> Option<Option<String>> {
        let mut text = String::new();
        let matched = self.walk(topic, |part| {
            if !part.is_empty() {
                if !text.is_empty() {
                    text.push('/');
                }
                text.push_str(part);
            }
        });
        matched.then(|| Some(text).filter(|t| !t.is_empty()))
    }

    fn walk<'t>(&self, topic: &'t str, mut wildcard: impl FnMut(&'t str)) -> bool {
        if topic.starts_with('$') && matches!(self.levels.first(), Some(Level::One | Level::Rest)) {
            return false;
        }
        let mut rest = Some(topic);
        for level in &self.levels {
            if *level == Level::Rest {
                // `a/#` matches `a` itself too.
                if let Some(rest) = rest {
                    wildcard(rest);
                }
                return true;
            }
            let Some(here) = rest else { return false };
            let (part, after) = match here.split_once('/') {
                Some((part, after)) => (part, Some(after)),
                None => (here, None),
            };
            match level {
                Level::One => wildcard(part),
                Level::Name(name) if name == part => {}
                Level::Name(_) | Level::Rest => return false,
            }
            rest = after;
        }
        rest.is_none()
    }
}

/// Whether a name may be published to (§3.3.2.1): not empty, no wildcards, no NUL, not over our own bound.
pub(crate) fn is_valid_name(topic: &str) -> bool {
    !topic.is_empty() && topic.len() <= MAX_TOPIC_BYTES && !topic.bytes().any(|b| matches!(b, b'+' | b'#' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(filter: &str, topic: &str) -> Option<Option<String>> {
        Filter::new(filter).expect("a test writes good filters").capture(topic)
    }

    #[test]
    fn wildcards_match_as_the_standard_says() {
        let yes = [("a/b", "a/b"), ("a/+", "a/b"), ("a/+", "a/"), ("+/+", "/x"), ("a/#", "a"), ("a/#", "a/b/c")];
        for (filter, topic) in yes.into_iter().chain([("#", "a/b"), ("+", "a"), ("$SYS/#", "$SYS/x"), ("/+", "/a")]) {
            assert!(Filter::new(filter).is_some_and(|f| f.matches(topic)), "{filter} {topic}");
        }
        let no = [("a/b", "a"), ("a/b", "a/b/c"), ("a/+", "a"), ("a/+", "a/b/c"), ("+", "/a"), ("#", "$SYS/x")];
        for (filter, topic) in no.into_iter().chain([("+/x", "$SYS/x"), ("a", "A"), ("a/#", "ab")]) {
            assert!(!Filter::new(filter).is_some_and(|f| f.matches(topic)), "{filter} {topic}");
        }
    }

    #[test]
    fn bad_filters_are_refused() {
        for filter in ["", "a+", "a/#/b", "#/", "a#", "+a/b", "a\0"] {
            assert_eq!(Filter::new(filter), None, "{filter}");
        }
        assert_eq!(Filter::new(&"x".repeat(MAX_TOPIC_BYTES + 1)), None);
    }

    #[test]
    fn the_wildcard_text_names_the_device() {
        assert_eq!(capture("site/yard/+/events", "site/yard/CJ9D/events"), Some(Some("CJ9D".to_owned())));
        assert_eq!(capture("+/x/+", "a/x/b"), Some(Some("a/b".to_owned())));
        assert_eq!(capture("site/#", "site/a/b"), Some(Some("a/b".to_owned())));
        assert_eq!(capture("site/#", "site"), Some(None));
        assert_eq!(capture("site/+", "site/"), Some(None));
        assert_eq!(capture("site/x", "site/x"), Some(None));
        assert_eq!(capture("site/x", "site/y"), None);
    }

    #[test]
    fn names_with_wildcards_or_over_the_bound_are_not_topics() {
        assert!(is_valid_name("ñandú/1"));
        assert!(!is_valid_name("") && !is_valid_name("a/+") && !is_valid_name("a\0"));
    }
}
