//! "Anonymous Microsoft Web Data": which areas of a web site 37,711 users visited in a week of February 1998 (Breese,
//! Heckerman and Kadie, 1998, UCI Machine Learning Repository, CC BY 4.0).
//!
//! Get `anonymous+microsoft+web+data.zip` from
//! <https://archive.ics.uci.edu/dataset/4/anonymous+microsoft+web+data>; the zip or its files
//! `anonymous-msweb.data` and `anonymous-msweb.test` (plain or gzipped) in one folder are taken, or one file alone.

use crate::source;
use crate::user::{User, Value};
use crate::{DataSet, LoadError, Loaded};
use engine::catalog::{TagType, Unit};
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) const TAGS: [(&str, TagType); 2] = [("area", TagType::Set), ("visits", TagType::Number(Unit::Integer))];

const PUBLISHER: &str = "https://archive.ics.uci.edu/dataset/4/anonymous+microsoft+web+data";

pub(crate) fn load(path: &Path) -> Result<Loaded, LoadError> {
    let mut users = Vec::new();
    let mut unknown_areas = 0;
    read(source::open(path, &["anonymous-msweb.data"], PUBLISHER)?, "", &mut users, &mut unknown_areas)?;
    let is_one_file = !path.is_dir() && path.extension().is_none_or(|extension| extension != "zip");
    if !is_one_file {
        // Both files number their users from 10001, and they are different people.
        let found = source::open(path, &["anonymous-msweb.test"], PUBLISHER)?;
        read(found, "test-", &mut users, &mut unknown_areas)?;
    }
    Ok(Loaded {
        data_set: DataSet::Msweb,
        users,
        events: Vec::new(),
        skipped: vec![("visits of areas without a title", unknown_areas)],
    })
}

/// `A` lines name areas; a `C` line begins a user, the `V` lines behind it are the areas it visited.
fn read(
    found: source::Found,
    id_prefix: &str,
    users: &mut Vec<User>,
    unknown_areas: &mut u64,
) -> Result<(), LoadError> {
    let path = found.path.clone();
    let fail = |what: String| LoadError { path: path.clone(), what };
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(found.text()?);
    let mut titles: BTreeMap<String, String> = BTreeMap::new();
    let first = users.len();
    for record in reader.byte_records() {
        let record = record.map_err(|error| fail(error.to_string()))?;
        let cell = |at: usize| String::from_utf8_lossy(record.get(at).unwrap_or_default()).into_owned();
        match record.get(0) {
            Some(b"A") => drop(titles.insert(cell(1), cell(3).trim().to_owned())),
            Some(b"C") => users.push(User {
                id: format!("{id_prefix}{}", cell(1)),
                values: vec![Some(Value::Set(Vec::new())), Some(Value::Number(0))],
            }),
            Some(b"V") => {
                let user = users[first..].last_mut().ok_or_else(|| fail("a visit before any user".to_owned()))?;
                match titles.get(&cell(1)) {
                    Some(title) => visit(user, title),
                    None => *unknown_areas += 1,
                }
            }
            _ => {}
        }
    }
    if users.len() == first {
        return Err(fail(format!("no users in it; get the file from {PUBLISHER}")));
    }
    Ok(())
}

fn visit(user: &mut User, title: &str) {
    if let [Some(Value::Set(areas)), Some(Value::Number(visits))] = &mut user.values[..] {
        *visits += 1;
        if !areas.iter().any(|area| area == title) {
            areas.push(title.to_owned());
        }
    }
}
