//! What a client sets and shows: the settings that drivers ask for on connecting.
//!
//! Few of them change anything: the schema in which tables are looked for, and how long a statement may take. Others have the only value
//! that they can have here, and are refused with another.

use super::errors::Told;
use engine_sql::session::{PUBLIC, SCHEMAS};
use std::time::Duration;

/// The version that drivers choose their questions by; what answers stands behind it.
pub(super) const VERSION: &str = concat!("15.0 (Beluga ", env!("CARGO_PKG_VERSION"), ")");
/// The longest value that is kept.
pub(super) const VALUE_BYTES_MAX: usize = 1 << 10;

/// What may be done with a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// It is told when a connection begins, and kept.
    Told,
    /// It is kept, and changes nothing.
    Kept,
    /// It is taken, and stays as it is.
    Passed,
    /// It has this value, in any case and among others; another one is refused.
    Only(&'static str),
    /// It cannot be set.
    Fixed,
    /// The schemas in which tables are looked for.
    Schemas,
    /// How long a statement may take.
    Time,
}

/// Names as PostgreSQL has them, values when a connection begins, and what may be done.
const SETTINGS: &[(&str, &str, Rule)] = &[
    ("application_name", "", Rule::Told),
    ("bytea_output", "hex", Rule::Only("hex")),
    ("client_encoding", "UTF8", Rule::Only("UTF8")),
    ("client_min_messages", "notice", Rule::Kept),
    ("DateStyle", "ISO, MDY", Rule::Only("ISO")),
    ("default_transaction_isolation", "read committed", Rule::Kept),
    ("default_transaction_read_only", "on", Rule::Kept),
    ("extra_float_digits", "1", Rule::Kept),
    ("idle_in_transaction_session_timeout", "0", Rule::Kept),
    ("in_hot_standby", "off", Rule::Fixed),
    ("integer_datetimes", "on", Rule::Fixed),
    ("IntervalStyle", "postgres", Rule::Only("postgres")),
    ("is_superuser", "off", Rule::Fixed),
    ("lock_timeout", "0", Rule::Kept),
    ("max_identifier_length", "63", Rule::Fixed),
    ("search_path", PUBLIC, Rule::Schemas),
    ("server_encoding", "UTF8", Rule::Fixed),
    ("server_version", VERSION, Rule::Fixed),
    ("server_version_num", "150000", Rule::Fixed),
    ("session_authorization", "", Rule::Fixed),
    ("standard_conforming_strings", "on", Rule::Only("on")),
    ("statement_timeout", "0", Rule::Time),
    ("synchronous_commit", "on", Rule::Kept),
    ("TimeZone", "UTC", Rule::Passed),
    ("transaction_isolation", "read committed", Rule::Kept),
    ("transaction_read_only", "on", Rule::Kept),
];

/// Settings that are told when a connection begins.
const REPORTED: [&str; 12] = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "server_encoding",
    "server_version",
    "standard_conforming_strings",
    "TimeZone",
];

/// The settings of a connection.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// In the order of [`SETTINGS`].
    values: Vec<String>,
    /// Those that it began with, to be reset to.
    begun: Vec<String>,
    /// What was set before it was set for a transaction alone, by place.
    before: Vec<(usize, String)>,
}

impl Settings {
    /// Those of a user.
    pub(super) fn new(user: &str) -> Settings {
        let value = |(name, value, _): &(&str, &str, Rule)| match *name {
            "session_authorization" => user.to_owned(),
            _ => (*value).to_owned(),
        };
        let values: Vec<_> = SETTINGS.iter().map(value).collect();
        Settings { begun: values.clone(), values, before: Vec::new() }
    }

    fn index(name: &str) -> Option<usize> {
        SETTINGS.iter().position(|(known, _, _)| known.eq_ignore_ascii_case(name))
    }

    /// The name as it is written, and the value.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn show(&self, name: &str) -> Result<(&'static str, &str), Told> {
        let index = Settings::index(name).ok_or_else(|| unknown(name))?;
        Ok((SETTINGS[index].0, &self.values[index]))
    }

    /// All of them by name.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        SETTINGS.iter().zip(&self.values).map(|((name, _, _), value)| (*name, value.as_str()))
    }

    /// Those that are told when a connection begins.
    pub(super) fn reported(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.all().filter(|(name, _)| REPORTED.contains(name))
    }

    /// Sets one; its name and value if clients are told.
    ///
    /// # Errors
    /// If there is none, or it cannot have the value.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<Option<(&'static str, &str)>, Told> {
        let index = self.put(name, value)?;
        // It lasts longer than the transaction.
        self.before.retain(|(before, _)| *before != index);
        let name = SETTINGS[index].0;
        let is_told = REPORTED.contains(&name) && SETTINGS[index].2 != Rule::Passed;
        Ok(is_told.then_some((name, self.values[index].as_str())))
    }

    /// Sets one until the transaction ends: [`Settings::end_transaction`].
    ///
    /// # Errors
    /// If there is none, or it cannot have the value.
    pub(super) fn set_local(&mut self, name: &str, value: &str) -> Result<(), Told> {
        let before = self.show(name)?.1.to_owned();
        let index = self.put(name, value)?;
        if self.before.iter().all(|(other, _)| *other != index) {
            self.before.push((index, before));
        }
        Ok(())
    }

    /// What was set for the transaction alone is as it was before.
    pub(super) fn end_transaction(&mut self) {
        for (index, value) in self.before.drain(..) {
            self.values[index] = value;
        }
    }

    /// Those of which clients are told that are not what they were.
    pub(super) fn changed(&self, before: &Settings) -> impl Iterator<Item = (&'static str, &str)> {
        let values = self.reported().zip(before.reported());
        values.filter(|(now, before)| now != before).map(|(now, _)| now)
    }

    fn put(&mut self, name: &str, value: &str) -> Result<usize, Told> {
        let index = Settings::index(name).ok_or_else(|| unknown(name))?;
        let (name, default, rule) = SETTINGS[index];
        let refuse = |why: String| Err(Told::new("22023", why));
        if value.len() > VALUE_BYTES_MAX {
            return refuse(format!("the value of `{name}` has more than {VALUE_BYTES_MAX} bytes"));
        }
        let value = if value.eq_ignore_ascii_case("default") { default } else { value };
        match rule {
            Rule::Told | Rule::Kept => {}
            // Drivers set it on connecting. Times are written with their offset from UTC whatever was set.
            Rule::Passed => return Ok(index),
            Rule::Only(only) => {
                let is_that = |part: &str| part.trim().replace('-', "").eq_ignore_ascii_case(only);
                // As drivers say "UNICODE" for UTF-8.
                let is_alias = only == "UTF8" && value.eq_ignore_ascii_case("unicode");
                if !is_alias && !value.split(',').any(is_that) {
                    return refuse(format!("`{name}` is always {only} here, not `{value}`"));
                }
                return Ok(index);
            }
            Rule::Fixed => return Err(Told::new("55P02", format!("`{name}` cannot be changed"))),
            Rule::Schemas => {
                schema(value)?;
            }
            Rule::Time => {
                millis(value).ok_or_else(|| {
                    Told::new(
                        "22023",
                        format!("`{name}` is milliseconds, or a number with ms, s or min, not `{value}`"),
                    )
                })?;
            }
        }
        value.clone_into(&mut self.values[index]);
        Ok(index)
    }

    /// Sets one, or all, to what they began with.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn reset(&mut self, name: Option<&str>) -> Result<(), Told> {
        match name {
            None => {
                self.values.clone_from(&self.begun);
                self.before.clear();
            }
            Some(name) => {
                let index = Settings::index(name).ok_or_else(|| unknown(name))?;
                self.before.retain(|(before, _)| *before != index);
                self.values[index].clone_from(&self.begun[index]);
            }
        }
        Ok(())
    }

    /// From now on these are what is reset to.
    pub(super) fn begin(&mut self) {
        self.begun.clone_from(&self.values);
    }

    /// Where tables are looked for.
    pub(super) fn schema(&self) -> Option<String> {
        let (_, path) = self.show("search_path").ok()?;
        schema(path).ok().map(str::to_owned)
    }

    /// How long a statement may take; `None` if nothing is set.
    pub(super) fn time(&self) -> Option<Duration> {
        let (_, time) = self.show("statement_timeout").ok()?;
        millis(time).filter(|millis| *millis > 0).map(Duration::from_millis)
    }
}

fn unknown(name: &str) -> Told {
    Told::new("42704", format!("there is no setting `{name}`")).hint("SHOW ALL lists them")
}

/// The first schema of a path that there is.
fn schema(path: &str) -> Result<&'static str, Told> {
    let mut names = path.split(',').map(|name| name.trim().trim_matches('"'));
    let found = names.find_map(|name| SCHEMAS.into_iter().find(|schema| *schema == name));
    let hint = format!("the schemas are {}", SCHEMAS.join(", "));
    found.ok_or_else(|| Told::new("3F000", format!("there is no schema of `{path}`")).hint(hint))
}

/// `500`, `500ms`, `5s` or `1min`.
fn millis(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let each = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_set_is_and_what_cannot_is_refused() {
        let mut settings = Settings::new("ann");
        assert_eq!(settings.set("Application_Name", "psql").expect("kept"), Some(("application_name", "psql")));
        for (name, value) in [("client_encoding", "utf-8"), ("client_encoding", "UNICODE"), ("datestyle", "ISO, DMY")] {
            settings.set(name, value).expect(value);
        }
        for (name, value, code) in [
            ("client_encoding", "LATIN1", "22023"),
            ("datestyle", "German", "22023"),
            ("server_version", "16", "55P02"),
            ("nothing", "1", "42704"),
            ("search_path", "elsewhere", "3F000"),
            ("statement_timeout", "soon", "22023"),
        ] {
            assert_eq!(settings.set(name, value).expect_err(name).code, code, "{name}");
        }
        settings.set("search_path", "\"$user\", system").expect("a schema");
        assert_eq!(settings.schema().as_deref(), Some("system"));
        settings.set("statement_timeout", "2s").expect("a time");
        assert_eq!(settings.time(), Some(Duration::from_secs(2)));
        for end in [false, true] {
            settings.set_local("statement_timeout", "3s").expect("a time");
            settings.set_local("statement_timeout", "4s").expect("a time");
            settings.set_local("application_name", "b").expect("a name");
            let before = settings.clone();
            if end {
                settings.set("application_name", "c").expect("a name");
            }
            settings.end_transaction();
            assert_eq!(settings.time(), Some(Duration::from_secs(2)), "as before the transaction");
            let expected = if end { "c" } else { "psql" };
            assert_eq!(settings.changed(&before).collect::<Vec<_>>(), [("application_name", expected)]);
        }
        settings.reset(None).expect("all");
        assert_eq!((settings.schema().as_deref(), settings.time()), (Some(PUBLIC), None));
        assert_eq!(settings.show("SESSION_authorization").expect("there").1, "ann");
        assert!(REPORTED.iter().all(|name| Settings::index(name).is_some()));
    }
}
