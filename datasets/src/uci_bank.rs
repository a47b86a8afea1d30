//! "Bank Marketing": 41,188 contacts of a Portuguese bank's telephone campaigns (Moro, Cortez and Rita, 2014, UCI
//! Machine Learning Repository, CC BY 4.0).
//!
//! Get `bank+marketing.zip` from <https://archive.ics.uci.edu/dataset/222/bank+marketing>; that zip, the
//! `bank-additional.zip` inside it, or the file `bank-additional-full.csv` (plain or gzipped) are taken.
//!
//! The contacts have no ids; they are numbered from 1 in the order of the file. `unknown` is NULL, and so is 999 days
//! since the last contact, which the publisher writes for "never".

use crate::source;
use crate::user::{User, Value};
use crate::{DataSet, LoadError, Loaded};
use engine::catalog::{TagType, Unit};
use std::path::Path;

const NUMBER: TagType = TagType::Number(Unit::Integer);
const fn decimal(scale: u8) -> TagType {
    TagType::Number(Unit::Decimal { scale })
}

pub(crate) const TAGS: [(&str, TagType); 21] = [
    ("age", NUMBER),
    ("job", TagType::Enum),
    ("marital", TagType::Enum),
    ("education", TagType::Enum),
    ("credit_default", TagType::Enum),
    ("housing_loan", TagType::Enum),
    ("personal_loan", TagType::Enum),
    ("contact", TagType::Enum),
    ("month", TagType::Enum),
    ("day_of_week", TagType::Enum),
    ("call_seconds", NUMBER),
    ("campaign_contacts", NUMBER),
    ("days_since_contact", NUMBER),
    ("previous_contacts", NUMBER),
    ("previous_outcome", TagType::Enum),
    ("employment_variation", decimal(1)),
    ("consumer_price_index", decimal(3)),
    ("consumer_confidence", decimal(1)),
    ("euribor_3_months", decimal(3)),
    ("employees", decimal(1)),
    ("subscribed", TagType::Flag),
];

/// The publisher's names, in the order of [`TAGS`].
const COLUMNS: [&str; 21] = [
    "age",
    "job",
    "marital",
    "education",
    "default",
    "housing",
    "loan",
    "contact",
    "month",
    "day_of_week",
    "duration",
    "campaign",
    "pdays",
    "previous",
    "poutcome",
    "emp.var.rate",
    "cons.price.idx",
    "cons.conf.idx",
    "euribor3m",
    "nr.employed",
    "y",
];

const PUBLISHER: &str = "https://archive.ics.uci.edu/dataset/222/bank+marketing";

pub(crate) fn load(path: &Path) -> Result<Loaded, LoadError> {
    let found = source::open(path, &["bank-additional-full.csv"], PUBLISHER)?;
    let path = found.path.clone();
    let fail = |what: String| LoadError { path: path.clone(), what };
    let mut reader = csv::ReaderBuilder::new().delimiter(b';').from_reader(found.text()?);
    let header = reader.headers().map_err(|error| fail(error.to_string()))?;
    if header.iter().ne(COLUMNS) {
        return Err(fail(format!("the first line is not the published one; get the file from {PUBLISHER}")));
    }
    let mut users = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| fail(error.to_string()))?;
        let values = record.iter().zip(&TAGS).map(|(cell, (name, tag_type))| value(cell, name, *tag_type));
        let values =
            values.collect::<Result<_, _>>().map_err(|what| fail(format!("line {}: {what}", users.len() + 2)))?;
        users.push(User { id: (users.len() + 1).to_string(), values });
    }
    Ok(Loaded { data_set: DataSet::UciBank, users, events: Vec::new(), skipped: Vec::new() })
}

fn value(cell: &str, name: &str, tag_type: TagType) -> Result<Option<Value>, String> {
    let wrong = || format!("{name} `{cell}` is not a value");
    Ok(match (cell, tag_type) {
        ("unknown", _) => None,
        ("999", _) if name == "days_since_contact" => None,
        (text, TagType::Enum) => Some(Value::Text(text.to_owned())),
        ("yes", TagType::Flag) => Some(Value::Flag(true)),
        ("no", TagType::Flag) => Some(Value::Flag(false)),
        (text, TagType::Number(Unit::Decimal { scale })) => {
            Some(Value::Number(parse_scaled(text, scale).ok_or_else(wrong)?))
        }
        (text, TagType::Number(_)) => Some(Value::Number(text.parse().map_err(|_| wrong())?)),
        _ => return Err(wrong()),
    })
}

/// `text` times `10^scale`, if it has no more digits than that behind the point.
fn parse_scaled(text: &str, scale: u8) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let scale = usize::from(scale);
    if part.len() > scale {
        return None;
    }
    format!("{whole}{part:0<scale$}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_by_type() {
        assert_eq!(value("unknown", "job", TagType::Enum), Ok(None));
        assert_eq!(value("999", "days_since_contact", NUMBER), Ok(None));
        assert_eq!(value("999", "call_seconds", NUMBER), Ok(Some(Value::Number(999))));
        assert_eq!(value("-1.1", "x", decimal(1)), Ok(Some(Value::Number(-11))));
        assert_eq!(value("5191", "x", decimal(1)), Ok(Some(Value::Number(51_910))));
        assert_eq!(value("94.767", "x", decimal(3)), Ok(Some(Value::Number(94_767))));
        assert!(value("1.25", "x", decimal(1)).is_err());
        assert!(value("maybe", "subscribed", TagType::Flag).is_err());
    }
}
