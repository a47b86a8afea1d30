//! "Did you mean": the known name nearest to a misspelt one.

/// The candidate nearest to `name`, if it is near enough to be meant; of several, one with the same first letter.
pub fn closest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let limit = 1 + name.chars().count() / 4;
    let scored = candidates.into_iter().map(|candidate| (distance(name, candidate), candidate));
    let near = scored.filter(|(distance, _)| *distance <= limit);
    near.min_by_key(|(distance, candidate)| (*distance, !candidate.starts_with(|c| name.starts_with(c)), *candidate))
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours from one to the other (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    // Before anything is made of them: what somebody sent may be very long.
    if a.chars().count().abs_diff(b.chars().count()) > 8 {
        return usize::MAX;
    }
    let (a, b): (Vec<char>, Vec<char>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut next = vec![i + 1];
        for j in 0..b.len() {
            let replaced = row[j] + usize::from(a[i] != b[j]);
            let mut best = replaced.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn finds_what_was_meant() {
        let tags = ["gender", "age", "interest", "is_member"];
        assert_eq!(closest("gendr", tags), Some("gender"));
        assert_eq!(closest("gedner", tags), Some("gender"));
        assert_eq!(closest("Interests", tags), Some("interest"));
        assert_eq!(closest("colour", tags), None);
        assert_eq!(closest(&"x".repeat(1 << 20), tags), None);
        assert_eq!(closest("dsc", ["asc", "desc"]), Some("desc"));
    }
}
