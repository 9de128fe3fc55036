//! "Did you mean": the nearest of the valid names.
//!
//! Must not: suggest something that has nothing to do with what was written.

/// The candidate nearest to `found`, if any is near: at most a third of the longer name may differ, or one is a prefix of
/// the other (three letters and more). Case and the difference of `-` and `_` cost nothing.
pub(super) fn nearest<'a>(found: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = folded(found);
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let name = folded(candidate);
            let distance = distance(&wanted, &name);
            let longer = wanted.len().max(name.len());
            let shorter = wanted.len().min(name.len());
            let prefix = shorter >= 3 && (wanted.starts_with(&name) || name.starts_with(&wanted));
            (distance * 3 <= longer || prefix).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn folded(name: &str) -> Vec<char> {
    name.chars().flat_map(char::to_lowercase).map(|c| if c == '-' { '_' } else { c }).take(80).collect()
}

/// Edit distance with transposition of neighbours as one step (optimal string alignment; Damerau 1964).
fn distance(a: &[char], b: &[char]) -> usize {
    let width = b.len() + 1;
    let mut rows: Vec<Vec<usize>> = vec![(0..width).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i; width];
        for j in 1..width {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row[j] = best;
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_slips_find_the_name_that_was_meant() {
        let keys = ["name", "protocol", "link", "zone", "fields", "max_length"];
        assert_eq!(nearest("protcol", keys), Some("protocol"));
        assert_eq!(nearest("protoocl", keys), Some("protocol"));
        assert_eq!(nearest("Max-Length", keys), Some("max_length"));
        assert_eq!(nearest("field", keys), Some("fields"));
    }

    #[test]
    fn something_else_altogether_finds_nothing() {
        assert_eq!(nearest("colour", ["name", "protocol", "link"]), None);
    }
}
