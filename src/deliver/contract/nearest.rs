//! Names that may have been meant.
//!
//! Must not: name more than a person reads.

/// How many are named.
const MOST: usize = 3;

/// Longest name that is compared, characters.
const LONGEST: usize = 120;

/// The nearest candidates, best first: those of which at least half is the same.
pub(super) fn of<'c>(found: &str, candidates: impl IntoIterator<Item = &'c str>) -> Vec<&'c str> {
    let fold = |name: &str| name.chars().flat_map(char::to_lowercase).take(LONGEST).collect::<Vec<char>>();
    let wanted = fold(found);
    let mut near: Vec<(usize, &str)> = candidates
        .into_iter()
        .filter_map(|candidate| {
            let name = fold(candidate);
            let distance = distance(&wanted, &name);
            (distance * 2 <= wanted.len().max(name.len())).then_some((distance, candidate))
        })
        .collect();
    near.sort();
    near.dedup();
    near.into_iter().take(MOST).map(|(_, candidate)| candidate).collect()
}

/// Levenshtein's.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (before + usize::from(x != y)).min(above + 1).min(row[j] + 1);
            before = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn slips_are_near_and_strangers_are_not() {
        assert_eq!(of("/v1/clocking", ["/v1/clockings", "/v2/people", "/x"]), ["/v1/clockings"]);
        assert!(of("colour", ["/v1/clockings"]).is_empty());
    }
}
