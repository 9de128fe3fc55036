//! MQTT topic filters: which are valid, and which can match the same topic (MQTT 3.1.1 §4.7).
//!
//! Must not: match topics at run time; the links do that.

/// Whether `filter` is a valid topic filter.
pub(super) fn is_valid(filter: &str) -> bool {
    let levels: Vec<&str> = filter.split('/').collect();
    !filter.is_empty()
        && filter.len() <= 65_535
        && !filter.contains('\0')
        && levels.iter().enumerate().all(|(i, level)| match *level {
            "#" => i + 1 == levels.len(),
            "+" => true,
            level => !level.contains(['#', '+']),
        })
}

/// Whether some topic matches both filters.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            // `a/#` matches `a` as well.
            (Some(_), None) | (None, Some(_)) => return false,
            (Some(x), Some(y)) if x == "+" || y == "+" || x == y => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_judged_by_the_standard() {
        for good in ["a", "/", "site/yard/+/events", "#", "a/#", "+/+"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "a/#/b", "a#", "a/b+", "##"] {
            assert!(!is_valid(bad), "{bad}");
        }
    }

    #[test]
    fn overlaps_are_found_and_nothing_else() {
        for (a, b) in [("a/+/c", "a/b/+"), ("a/#", "a"), ("a/#", "a/b/c"), ("#", "x/y"), ("a/b", "a/b"), ("+/b", "a/+")]
        {
            assert!(overlap(a, b) && overlap(b, a), "{a} {b}");
        }
        for (a, b) in [("a/b", "a/c"), ("a/+", "a"), ("a/+/c", "a/b/d"), ("a/b/#", "a/c/#"), ("a", "a/b")] {
            assert!(!overlap(a, b) && !overlap(b, a), "{a} {b}");
        }
    }
}
