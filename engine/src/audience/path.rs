//! The names of values in JSON: `undeclared.coupon`, `details."Unit Price".0`.
//!
//! The first part is a column, the others are keys. A part that is no plain lower-case name stands in double quotes, and a
//! double quote in it is doubled, as in SQL; so the text of a name says the same in a tree and in the language.

/// A part of a name as it is written.
pub(super) fn quoted(part: &str) -> String {
    let mut bytes = part.bytes();
    let starts = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if starts && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
        return part.to_owned();
    }
    format!("\"{}\"", part.replace('"', "\"\""))
}

/// The name of these parts.
pub(super) fn join<'p>(parts: impl IntoIterator<Item = &'p str>) -> String {
    parts.into_iter().map(quoted).collect::<Vec<_>>().join(".")
}

/// The parts of a name; `None` if it is not one of several parts.
pub(super) fn split(name: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = name;
    loop {
        let part;
        if let Some(after) = rest.strip_prefix('"') {
            (part, rest) = quoted_part(after)?;
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            part = rest[..end].to_owned();
            rest = &rest[end..];
            if part.is_empty() || part.contains('"') {
                return None;
            }
        }
        parts.push(part);
        match rest.strip_prefix('.') {
            Some(more) => rest = more,
            None if rest.is_empty() => return (parts.len() > 1).then_some(parts),
            None => return None,
        }
    }
}

/// The part up to its closing quote, and what follows.
fn quoted_part(text: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        part.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                part.push('"');
                rest = more;
            }
            None => return Some((part, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for parts in [&["undeclared", "coupon"][..], &["a", "B c", "0", ""], &["a", "x.y", "q\"r"], &["a", "湖"]] {
            let name = join(parts.iter().copied());
            assert_eq!(split(&name).expect("a path"), parts, "{name}");
        }
        assert_eq!(join(["undeclared", "extra", "Coupon"]), "undeclared.extra.\"Coupon\"");
        for single in ["", "plain", "a.", ".a", "a..b", "\"a", "a\"b.c", "\"a\"b.c"] {
            assert_eq!(split(single), None, "{single}");
        }
    }
}
