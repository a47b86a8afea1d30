//! Failures for people: what is wrong, a caret under the place in the expression, what to do.

use crate::error::Failure;
use std::io::IsTerminal;

/// Prints a failure to standard error.
pub(super) fn print(failure: &Failure, expression: Option<&str>) {
    let is_coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    eprint!("{}", render(failure, expression, is_coloured));
}

fn render(failure: &Failure, expression: Option<&str>, is_coloured: bool) -> String {
    let (red, bold, plain) = if is_coloured { ("\x1b[31;1m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
    let mut text = format!("{red}error{plain}{bold}: {}{plain}\n", failure.detail);
    if let (Some(expression), Some((start, end))) = (expression, failure.span)
        && let Some((line, before, width)) = locate(expression, start, end)
    {
        text.push_str(&format!("  {line}\n  {}{red}{}{plain}\n", " ".repeat(before), "^".repeat(width)));
    }
    for item in &failure.errors {
        text.push_str(&format!("  - {}\n", item.detail));
    }
    if let Some(suggestion) = &failure.suggestion {
        text.push_str(&format!("{bold}help{plain}: {suggestion}\n"));
    }
    text
}

/// The line that holds `start..end`, the characters before it in that line, and how many it covers there.
fn locate(expression: &str, start: usize, end: usize) -> Option<(String, usize, usize)> {
    let start = floor(expression, start.min(expression.len()));
    let end = floor(expression, end.min(expression.len()));
    let line_start = expression[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = expression[start..].find('\n').map_or(expression.len(), |at| start + at);
    let before = expression[line_start..start].chars().count();
    let covered = expression.get(start..end.min(line_end)).unwrap_or_default().chars().count();
    let line = expression[line_start..line_end].replace('\t', " ");
    Some((line, before, covered.max(1)))
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn check(expression: &str, span: (usize, usize), expected: &str) {
        let mut failure = Failure::new(Kind::UnknownTag, "no such tag").suggest("gender");
        failure.span = Some(span);
        let text = render(&failure, Some(expression), false);
        assert_eq!(text, format!("error: no such tag\n{expected}help: gender\n"));
    }

    #[test]
    fn a_caret_points_at_the_place() {
        check("gendr = 'f'", (0, 5), "  gendr = 'f'\n  ^^^^^\n");
        check("age > 3\n\tAND gendr", (13, 18), "   AND gendr\n       ^^^^^\n");
        check("städte = 1 AND x", (16, 17), "  städte = 1 AND x\n                 ^\n");
        check("age >", (5, 5), "  age >\n       ^\n");
        check("x", (70, 90), "  x\n   ^\n");
    }
}
