//! Statements that drivers send beside questions: transactions, settings, and letting go of what they prepared.
//!
//! There are no transactions, since nothing is changed: the words are answered, and the connection remembers that one is open, because
//! drivers do. Each statement reads the newest view of the data.

use super::errors::Told;

/// A statement that is no question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Begin,
    Commit,
    Rollback,
    /// `SAVEPOINT` and `RELEASE`; nothing is changed, so there is nothing to go back to.
    Savepoint(&'static str),
    RollbackTo,
    /// `SET name = value`.
    Set(String, String),
    /// `SET LOCAL name = value`: until the transaction ends.
    SetLocal(String, String),
    /// What is set for transactions.
    SetTransaction,
    Reset(Option<String>),
    Show(Option<String>),
    /// Lets go of a prepared statement, or of all.
    Deallocate(Option<String>),
    DiscardAll,
    /// `CLOSE ALL`, `UNLISTEN *`: there is nothing of the kind.
    Nothing(&'static str),
}

/// Reads a statement; `None` if it is a question, or nothing that is known here.
///
/// # Errors
/// Words that are understood and cannot be.
pub(super) fn read(statement: &str) -> Result<Option<Word>, Told> {
    // Such statements are short, and so is looking at others.
    if statement.len() > 4_096 {
        return Ok(None);
    }
    let mut words = Words::of(statement);
    let rest = |words: &Words<'_>| words.upper();
    Ok(Some(match words.next_upper().as_str() {
        "BEGIN" => Word::Begin,
        "START" if words.next_upper() == "TRANSACTION" => Word::Begin,
        "COMMIT" | "END" if rest(&words).first().is_none_or(|word| word != "PREPARED") => Word::Commit,
        "ROLLBACK" | "ABORT" => match rest(&words).iter().any(|word| word == "TO") {
            true => Word::RollbackTo,
            false => Word::Rollback,
        },
        "SAVEPOINT" => Word::Savepoint("SAVEPOINT"),
        "RELEASE" => Word::Savepoint("RELEASE"),
        "SET" => return set(&mut words).map(Some),
        "RESET" => match words.next_name() {
            name if name.eq_ignore_ascii_case("all") => Word::Reset(None),
            name => Word::Reset(Some(name)),
        },
        "SHOW" => {
            let upper = rest(&words);
            let upper: Vec<&str> = upper.iter().map(String::as_str).collect();
            match upper[..] {
                // They are answered as questions.
                [
                    "TABLES" | "COLUMNS" | "FUNCTIONS" | "VIEWS" | "SCHEMAS" | "DATABASES" | "CATALOGS" | "FULL"
                    | "EXTENDED",
                    ..,
                ] => {
                    return Ok(None);
                }
                ["ALL"] => Word::Show(None),
                ["TIME", "ZONE"] => Word::Show(Some("TimeZone".to_owned())),
                ["TRANSACTION", "ISOLATION", "LEVEL"] => Word::Show(Some("transaction_isolation".to_owned())),
                ["SESSION", "AUTHORIZATION"] => Word::Show(Some("session_authorization".to_owned())),
                [_] => Word::Show(Some(words.next_name())),
                _ => return Ok(None),
            }
        }
        "DEALLOCATE" => {
            let mut name = words.next_name();
            if name.eq_ignore_ascii_case("prepare") {
                name = words.next_name();
            }
            Word::Deallocate(Some(name).filter(|name| !name.eq_ignore_ascii_case("all")))
        }
        "DISCARD" => match words.next_upper().as_str() {
            "ALL" => Word::DiscardAll,
            "PLANS" => Word::Nothing("DISCARD PLANS"),
            "SEQUENCES" => Word::Nothing("DISCARD SEQUENCES"),
            "TEMP" | "TEMPORARY" => Word::Nothing("DISCARD TEMP"),
            _ => return Err(Told::new("42601", "ALL, PLANS, SEQUENCES or TEMP can be discarded")),
        },
        "CLOSE" => Word::Nothing("CLOSE CURSOR ALL"),
        "UNLISTEN" => Word::Nothing("UNLISTEN"),
        _ => return Ok(None),
    }))
}

fn set(words: &mut Words<'_>) -> Result<Word, Told> {
    let upper = words.upper();
    let upper: Vec<&str> = upper.iter().map(String::as_str).collect();
    match upper[..] {
        ["TRANSACTION", ..] | ["LOCAL", "TRANSACTION", ..] | ["SESSION", "CHARACTERISTICS", ..] => {
            return Ok(Word::SetTransaction);
        }
        ["SESSION" | "LOCAL", ..] => drop(words.next_name()),
        _ => {}
    }
    let word = match upper.first() {
        Some(&"LOCAL") => Word::SetLocal,
        _ => Word::Set,
    };
    let mut name = words.next_name();
    let upper = words.upper();
    if name.eq_ignore_ascii_case("time") && upper.first().is_some_and(|word| word == "ZONE") {
        words.next_name();
        return Ok(word("TimeZone".to_owned(), words.value()));
    }
    if name.eq_ignore_ascii_case("names") {
        return Ok(word("client_encoding".to_owned(), words.value()));
    }
    if let Some((before, value)) = name.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())) {
        // Written without spaces: `SET name=value`.
        name = before;
        let value = [value.as_str(), words.rest()].concat();
        return Ok(word(name, unquoted(value.trim())));
    }
    let between = words.next_name();
    match between.strip_prefix('=') {
        Some("") => Ok(word(name, words.value())),
        Some(begin) => Ok(word(name, unquoted([begin, words.rest()].concat().trim()))),
        None if between.eq_ignore_ascii_case("to") => Ok(word(name, words.value())),
        None => Err(Told::new("42601", "a setting is set as SET name = value")),
    }
}

/// The words of a statement, apart by spaces; comments before it are left out.
struct Words<'t>(&'t str);

impl<'t> Words<'t> {
    fn of(statement: &'t str) -> Words<'t> {
        let mut rest = statement.trim();
        loop {
            let behind = match rest {
                _ if rest.starts_with("--") => rest.split_once('\n').map_or("", |(_, rest)| rest),
                _ if rest.starts_with("/*") => rest.split_once("*/").map_or("", |(_, rest)| rest),
                _ => break,
            };
            rest = behind.trim_start();
        }
        Words(rest.trim_end_matches(|end: char| end == ';' || end.is_whitespace()))
    }

    fn next(&mut self) -> &'t str {
        let text = self.0.trim_start();
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.0 = rest;
        word
    }

    fn next_upper(&mut self) -> String {
        self.next().to_ascii_uppercase()
    }

    fn next_name(&mut self) -> String {
        self.next().trim_matches('"').to_owned()
    }

    /// What is left, in capitals.
    fn upper(&self) -> Vec<String> {
        self.0.split_whitespace().map(str::to_ascii_uppercase).collect()
    }

    /// What is left, without its quotes.
    fn value(&mut self) -> String {
        unquoted(self.rest().trim())
    }

    /// What is left, with the spaces before it: a text may go on there.
    fn rest(&mut self) -> &'t str {
        std::mem::take(&mut self.0)
    }
}

fn unquoted(text: &str) -> String {
    match text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        Some(inner) => inner.replace("''", "'"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drivers_send_is_read() {
        let check = |text: &str, expected: Word| assert_eq!(read(text).expect(text), Some(expected), "{text}");
        let set = |name: &str, value: &str| Word::Set(name.to_owned(), value.to_owned());
        for text in ["BEGIN", "begin;", "BEGIN READ ONLY", "/* a */ -- b\n START TRANSACTION"] {
            check(text, Word::Begin);
        }
        check("END", Word::Commit);
        check("ROLLBACK", Word::Rollback);
        check("ROLLBACK TO SAVEPOINT a", Word::RollbackTo);
        check("SET extra_float_digits = 3", set("extra_float_digits", "3"));
        check("SET application_name='a b'", set("application_name", "a b"));
        check("set application_name ='a ''b'", set("application_name", "a 'b"));
        check("SET SESSION datestyle TO 'ISO'", set("datestyle", "ISO"));
        check("SET TIME ZONE 'Europe/Berlin'", set("TimeZone", "Europe/Berlin"));
        check("SET NAMES 'utf8'", set("client_encoding", "utf8"));
        check("SET search_path = a, b", set("search_path", "a, b"));
        check("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Word::SetTransaction);
        check("SHOW TRANSACTION ISOLATION LEVEL", Word::Show(Some("transaction_isolation".into())));
        check("SHOW server_version", Word::Show(Some("server_version".into())));
        check("DEALLOCATE PREPARE \"s1\"", Word::Deallocate(Some("s1".into())));
        check("DEALLOCATE ALL", Word::Deallocate(None));
        check("DISCARD ALL", Word::DiscardAll);
        check("discard plans;", Word::Nothing("DISCARD PLANS"));
        check("SET LOCAL statement_timeout = '5s'", Word::SetLocal("statement_timeout".into(), "5s".into()));
        for text in ["", "SELECT 1", "SHOW TABLES", "SHOW COLUMNS FROM users", "WITH a AS (SELECT 1) SELECT 2", "-- x"]
        {
            assert_eq!(read(text).expect(text), None, "{text}");
        }
        for text in ["SET x", "DISCARD", "DISCARD x"] {
            assert_eq!(read(text).expect_err("wrong").code, "42601", "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = read(&text);
            let _ = read(&format!("SET {text}"));
        }
    }
}
