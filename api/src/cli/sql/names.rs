//! What Tab completes: the words of SQL, and the names of tables, columns and functions.

use crate::cli::target::Asker;
use crate::rest::v1::sql::SqlRequest;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Words that statements are made of.
const WORDS: [&str; 36] = [
    "ALL", "AND", "AS", "ASC", "BETWEEN", "BY", "CASE", "CAST", "DESC", "DESCRIBE", "DISTINCT", "ELSE", "END",
    "EXISTS", "EXPLAIN", "FROM", "GROUP", "HAVING", "IN", "IS", "JOIN", "LEFT", "LIKE", "LIMIT", "NOT", "NULL", "ON",
    "OR", "ORDER", "OVER", "SELECT", "SHOW", "TABLES", "UNION", "WHERE", "WITH",
];
/// Where names come from.
const NAMES: [&str; 3] = [
    "SELECT DISTINCT CASE WHEN table_schema IN ('public', 'information_schema') THEN table_name \
     ELSE table_schema || '.' || table_name END FROM information_schema.tables",
    "SELECT DISTINCT column_name FROM information_schema.columns WHERE table_schema <> 'information_schema'",
    "SELECT DISTINCT routine_name FROM information_schema.routines",
];
/// How long the prompt waits for names of a kind.
const TIME_MS: u64 = 3_000;
/// The most names of a kind.
const NAMES_MAX: usize = 10_000;

/// See the module.
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// Those that `asker` has now, unless `stop` is set meanwhile. If it cannot be asked there are only words.
    pub(super) fn of(asker: &dyn Asker, stop: &Arc<AtomicBool>) -> Names {
        let mut names: BTreeSet<String> = WORDS.map(str::to_owned).into();
        for sql in NAMES {
            let request = SqlRequest { sql: sql.to_owned(), limit: Some(NAMES_MAX), timeout_ms: Some(TIME_MS) };
            let Ok(answer) = asker.sql(&request, stop) else { break };
            let first = |row: &serde_json::value::RawValue| {
                serde_json::from_str::<Vec<Option<String>>>(row.get()).ok()?.into_iter().next()?
            };
            names.extend(answer.rows.iter().filter_map(|row| first(row)));
        }
        Names(names)
    }

    /// Where the word before `at` begins, and what it may become.
    pub(super) fn complete(&self, line: &str, at: usize) -> (usize, Vec<String>) {
        let before = &line[..at];
        let is_of_word = |character: char| character.is_alphanumeric() || "_.\\".contains(character);
        let start = before
            .rfind(|character| !is_of_word(character))
            .map_or(0, |last| last + before[last..].chars().next().map_or(1, char::len_utf8));
        let begun = before[start..].to_lowercase();
        if begun.is_empty() {
            return (start, Vec::new());
        }
        // As it was begun: words small if they were begun small.
        let is_small = !before[start..].chars().any(char::is_uppercase);
        let fits = self.0.iter().filter(|name| name.to_lowercase().starts_with(&begun));
        let shown =
            |name: &String| if is_small && WORDS.contains(&name.as_str()) { name.to_lowercase() } else { name.clone() };
        (start, fits.map(shown).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_completed_where_it_begins() {
        let names = ["SELECT", "SHOW", "users", "user_id", "system.jobs", "größe"];
        let names = Names(names.map(str::to_owned).into());
        let check = |line: &str, start: usize, fits: &[&str]| {
            assert_eq!(
                names.complete(line, line.len()),
                (start, fits.iter().map(|fit| (*fit).to_owned()).collect()),
                "{line}"
            );
        };
        check("s", 0, &["select", "show", "system.jobs"]);
        check("SE", 0, &["SELECT"]);
        check("SELECT count(us", 13, &["user_id", "users"]);
        check("SELECT 'ä', gr", 13, &["größe"]);
        check("FROM system.", 5, &["system.jobs"]);
        check("SELECT ", 7, &[]);
        assert_eq!(names.complete("SELECT us FROM", 9).1.len(), 2);
    }
}
