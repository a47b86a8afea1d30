//! "Adult": 48,842 people of the 1994 US census (Barry Becker and Ronny Kohavi, 1996, UCI Machine Learning Repository,
//! CC BY 4.0).
//!
//! Get `adult.zip` from <https://archive.ics.uci.edu/dataset/2/adult>; the zip or its files `adult.data` and
//! `adult.test` (plain or gzipped) in one folder are taken, or one file alone.
//!
//! The people have no ids; they are numbered from 1 in the order of the files, `adult.data` first. `?` is NULL.

use crate::source;
use crate::user::{User, Value};
use crate::{DataSet, LoadError, Loaded};
use engine::catalog::{TagType, Unit};
use std::io::BufRead;
use std::path::Path;

const NUMBER: TagType = TagType::Number(Unit::Integer);

pub(crate) const TAGS: [(&str, TagType); 15] = [
    ("age", NUMBER),
    ("workclass", TagType::Enum),
    ("census_weight", NUMBER),
    ("education", TagType::Enum),
    ("education_years", NUMBER),
    ("marital_status", TagType::Enum),
    ("occupation", TagType::Enum),
    ("relationship", TagType::Enum),
    ("race", TagType::Enum),
    ("sex", TagType::Enum),
    ("capital_gain", NUMBER),
    ("capital_loss", NUMBER),
    ("hours_per_week", NUMBER),
    ("native_country", TagType::Enum),
    ("high_income", TagType::Flag),
];

const PUBLISHER: &str = "https://archive.ics.uci.edu/dataset/2/adult";

pub(crate) fn load(path: &Path) -> Result<Loaded, LoadError> {
    let mut users = Vec::new();
    let training = source::open(path, &["adult.data"], PUBLISHER)?;
    let is_one_file = !path.is_dir() && path.extension().is_none_or(|extension| extension != "zip");
    read(training, &mut users)?;
    if !is_one_file {
        read(source::open(path, &["adult.test"], PUBLISHER)?, &mut users)?;
    }
    Ok(Loaded { data_set: DataSet::UciAdult, users, events: Vec::new(), skipped: Vec::new() })
}

fn read(found: source::Found, users: &mut Vec<User>) -> Result<(), LoadError> {
    let path = found.path.clone();
    let fail =
        |number: usize, what: String| LoadError { path: path.clone(), what: format!("line {}: {what}", number + 1) };
    for (number, line) in found.text()?.lines().enumerate() {
        let line = line.map_err(|error| fail(number, error.to_string()))?;
        // The test file begins with a remark.
        if line.trim().is_empty() || line.starts_with('|') {
            continue;
        }
        let values = person(&line).map_err(|what| fail(number, what))?;
        users.push(User { id: (users.len() + 1).to_string(), values });
    }
    Ok(())
}

fn person(line: &str) -> Result<Vec<Option<Value>>, String> {
    let cells: Vec<&str> = line.split(',').map(str::trim).collect();
    if cells.len() != TAGS.len() {
        return Err(format!("{} cells instead of {}", cells.len(), TAGS.len()));
    }
    let value = |(cell, (name, tag_type)): (&&str, &(&str, TagType))| {
        Ok(match (*cell, tag_type) {
            ("?", _) => None,
            (text, TagType::Enum) => Some(Value::Text(text.to_owned())),
            // The test file writes a full stop behind the class.
            (text, TagType::Flag) => match text.trim_end_matches('.') {
                ">50K" => Some(Value::Flag(true)),
                "<=50K" => Some(Value::Flag(false)),
                _ => return Err(format!("class `{text}` is neither >50K nor <=50K")),
            },
            (text, _) => Some(Value::Number(text.parse().map_err(|_| format!("{name} `{text}` is not a number"))?)),
        })
    };
    cells.iter().zip(&TAGS).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_null() {
        let person =
            person("39, ?, 77516, Bachelors, 13, Never-married, ?, Not-in-family, White, Male, 0, 0, 40, Cuba, >50K.")
                .expect("a person");
        assert_eq!((person[0].clone(), person[1].clone()), (Some(Value::Number(39)), None));
        assert_eq!(
            (person[13].clone(), person[14].clone()),
            (Some(Value::Text("Cuba".to_owned())), Some(Value::Flag(true)))
        );
    }

    #[test]
    fn other_lines_are_refused() {
        assert_eq!(person("39, Private"), Err("2 cells instead of 15".to_owned()));
    }
}
