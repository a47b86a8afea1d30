//! "The Complete Journey": households of a grocer through 2017 (84.51°, in the R package `completejourney`, CC0), as tags
//! of the households.
//!
//! Get it in R: `install.packages("completejourney")`, then for each of `demographics`, `campaigns`,
//! `coupon_redemptions`, `transactions_sample`, `products`: `write.csv(completejourney::demographics,
//! "demographics.csv", row.names = FALSE)`. A folder with these files (plain or gzipped) is taken.
//!
//! Every household that any of the files names is a user; what is not known of it is NULL (demographics are known for
//! 801 of them). Spend is the sum of the sample's `sales_value`.

use crate::source;
use crate::user::{User, Value};
use crate::{DataSet, LoadError, Loaded};
use engine::catalog::{TagType, Unit};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

const NUMBER: TagType = TagType::Number(Unit::Integer);

pub(crate) const TAGS: [(&str, TagType); 13] = [
    ("age", TagType::Enum),
    ("income", TagType::Enum),
    ("home_ownership", TagType::Enum),
    ("marital_status", TagType::Enum),
    ("household_size", TagType::Enum),
    ("household_comp", TagType::Enum),
    ("kids_count", TagType::Enum),
    ("campaign", TagType::Set),
    ("redeemed_campaign", TagType::Set),
    ("department", TagType::Set),
    ("baskets", NUMBER),
    ("spend", TagType::Number(Unit::Decimal { scale: 2 })),
    ("last_purchase_at", TagType::Number(Unit::Timestamp)),
];

const DEMOGRAPHICS: usize = 7;
const PUBLISHER: &str = "the R package completejourney (https://cran.r-project.org/package=completejourney)";

#[derive(Default)]
struct Household {
    demographics: [Option<String>; DEMOGRAPHICS],
    campaigns: BTreeSet<String>,
    redeemed: BTreeSet<String>,
    departments: BTreeSet<String>,
    baskets: BTreeSet<String>,
    spend_cents: Option<i64>,
    last_at: Option<i64>,
}

type Households = BTreeMap<u64, Household>;

pub(crate) fn load(path: &Path) -> Result<Loaded, LoadError> {
    let mut households = Households::new();
    let demographic_columns = TAGS.map(|tag| tag.0);
    let mut columns = vec!["household_id"];
    columns.extend(&demographic_columns[..DEMOGRAPHICS]);
    each_record(path, "demographics.csv", &columns, |cells| {
        let known = household(&mut households, cells[0])?;
        for (value, cell) in known.demographics.iter_mut().zip(&cells[1..]) {
            *value = (!cell.is_empty() && *cell != "NA").then(|| (*cell).to_owned());
        }
        Ok(())
    })?;
    each_record(path, "campaigns.csv", &["household_id", "campaign_id"], |cells| {
        household(&mut households, cells[0])?.campaigns.insert(cells[1].to_owned());
        Ok(())
    })?;
    each_record(path, "coupon_redemptions.csv", &["household_id", "campaign_id"], |cells| {
        household(&mut households, cells[0])?.redeemed.insert(cells[1].to_owned());
        Ok(())
    })?;
    add_purchases(path, &mut households)?;
    let users = households.into_iter().map(|(id, household)| household.into_user(id)).collect();
    Ok(Loaded { data_set: DataSet::CompleteJourney, users, events: Vec::new(), skipped: Vec::new() })
}

fn add_purchases(path: &Path, households: &mut Households) -> Result<(), LoadError> {
    let mut departments: HashMap<String, String> = HashMap::new();
    each_record(path, "products.csv", &["product_id", "department"], |cells| {
        departments.insert(cells[0].to_owned(), cells[1].to_owned());
        Ok(())
    })?;
    let columns = ["household_id", "basket_id", "product_id", "sales_value", "transaction_timestamp"];
    each_record(path, "transactions_sample.csv", &columns, |cells| {
        let household = household(households, cells[0])?;
        household.baskets.insert(cells[1].to_owned());
        household.departments.extend(departments.get(cells[2]).filter(|name| !name.is_empty()).cloned());
        let cents = parse_cents(cells[3]).ok_or_else(|| format!("sales_value `{}` is not an amount", cells[3]))?;
        household.spend_cents = Some(household.spend_cents.unwrap_or(0) + cents);
        let at = parse_time(cells[4]).ok_or_else(|| format!("transaction_timestamp `{}` is not a time", cells[4]))?;
        household.last_at = household.last_at.max(Some(at));
        Ok(())
    })
}

fn household<'a>(households: &'a mut Households, id: &str) -> Result<&'a mut Household, String> {
    let id: u64 = id.parse().map_err(|_| format!("household_id `{id}` is not a number"))?;
    Ok(households.entry(id).or_default())
}

/// Calls `each` with the named cells of every record.
fn each_record(
    path: &Path,
    name: &str,
    columns: &[&str],
    mut each: impl FnMut(&[&str]) -> Result<(), String>,
) -> Result<(), LoadError> {
    let found = source::open(path, &[name], PUBLISHER)?;
    let path = found.path.clone();
    let fail = |what: String| LoadError { path: path.clone(), what };
    let mut reader = csv::Reader::from_reader(found.text()?);
    let header = reader.headers().map_err(|error| fail(error.to_string()))?.clone();
    let mut places = Vec::new();
    for column in columns {
        let place = header.iter().position(|name| name == *column);
        places.push(place.ok_or_else(|| fail(format!("the first line names no column {column}")))?);
    }
    for (number, record) in reader.records().enumerate() {
        let record = record.map_err(|error| fail(error.to_string()))?;
        let cells: Vec<&str> = places.iter().map(|place| record.get(*place).unwrap_or("")).collect();
        each(&cells).map_err(|what| fail(format!("record {}: {what}", number + 1)))?;
    }
    Ok(())
}

impl Household {
    fn into_user(self, id: u64) -> User {
        let set = |set: BTreeSet<String>| Some(Value::Set(set.into_iter().collect()));
        let mut values: Vec<Option<Value>> =
            self.demographics.into_iter().map(|value| value.map(Value::Text)).collect();
        values.extend([
            set(self.campaigns),
            set(self.redeemed),
            set(self.departments),
            Some(Value::Number(self.baskets.len() as i64)),
            self.spend_cents.map(Value::Number),
            self.last_at.map(Value::Number),
        ]);
        User { id: id.to_string(), values }
    }
}

/// The publisher computed amounts as floats, so that `3.9` or `4.440892e-16` stand for cents: the nearest ones.
fn parse_cents(text: &str) -> Option<i64> {
    const CENTS_MAX: f64 = 1e12;
    let amount: f64 = text.parse().ok()?;
    let cents = (amount * 100.0).round();
    (cents.abs() < CENTS_MAX).then_some(cents as i64)
}

/// Without a zone: read as UTC.
fn parse_time(text: &str) -> Option<i64> {
    let civil: jiff::civil::DateTime = text.trim_end_matches('Z').parse().ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_joined_by_household() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        write(
            "demographics.csv",
            "household_id,age,income,home_ownership,marital_status,household_size,household_comp,kids_count\n\
             7,65+,35-49K,,Married,2,2 Adults No Kids,0\n",
        );
        write("campaigns.csv", "campaign_id,household_id\n1,7\n2,7\n1,9\n");
        write("coupon_redemptions.csv", "household_id,coupon_upc,campaign_id,redemption_date\n7,5,2,2017-01-01\n");
        write("products.csv", "product_id,manufacturer_id,department\n11,1,GROCERY\n");
        write(
            "transactions_sample.csv",
            "household_id,basket_id,product_id,sales_value,transaction_timestamp\n\
             7,1,11,3.9,2017-01-28 19:06:53\n7,1,12,0.1,2017-01-28 19:06:53\n",
        );
        let loaded = load(folder.path()).expect("loads");
        assert_eq!(loaded.users.iter().map(|user| user.id.as_str()).collect::<Vec<_>>(), ["7", "9"]);
        let values = &loaded.users[0].values;
        assert_eq!((&values[0], &values[2]), (&Some(Value::Text("65+".to_owned())), &None));
        assert_eq!(values[7], Some(Value::Set(vec!["1".to_owned(), "2".to_owned()])));
        assert_eq!(values[9], Some(Value::Set(vec!["GROCERY".to_owned()])));
        assert_eq!(
            values[10..],
            [Some(Value::Number(1)), Some(Value::Number(400)), Some(Value::Number(1_485_630_413_000_000))]
        );
        assert_eq!(loaded.users[1].values[11], None);
    }
}
