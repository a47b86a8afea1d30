//! Events of a fact as an argument: `purchase` or `purchase where amount >= 20`.

use crate::rest::v1::steps::Step;

/// Reads it.
pub(super) fn step(text: &str) -> Step {
    let words = || text.split_inclusive(char::is_whitespace);
    let condition_at = words().position(|word| word.trim_end().eq_ignore_ascii_case("where"));
    let (fact, condition) = match condition_at {
        Some(at) => (words().take(at).collect::<String>(), Some(words().skip(at + 1).collect::<String>())),
        None => (text.to_owned(), None),
    };
    Step { fact: fact.trim().to_owned(), r#where: condition.map(|text| text.trim().to_owned()), name: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_and_a_condition() {
        let read = |text: &str| {
            let step = step(text);
            (step.fact, step.r#where)
        };
        assert_eq!(read("visit"), ("visit".to_owned(), None));
        let expected = ("purchase".to_owned(), Some("note = 'where it was'".to_owned()));
        assert_eq!(read("purchase where note = 'where it was'"), expected);
        assert_eq!(read(" purchase WHERE\nnote = 'where it was' "), expected);
    }
}
