//! The public data sets, as published, against figures counted on another path: straight from the raw lines.
//!
//! Needs the files (see [`datasets::public_data`]); without them each test says what it skipped.

use datasets::{DataSet, Loaded, ROARING_SETS, Value, load, load_roaring_sets, public_data};
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;

fn raw_text(path: &Path) -> String {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).expect("the file opens");
    flate2::read::MultiGzDecoder::new(file).read_to_end(&mut bytes).expect("the file is whole");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn count(loaded: &Loaded, tag: &str, wanted: impl Fn(&Value) -> bool) -> usize {
    let place = loaded.data_set.tags().iter().position(|(name, _)| *name == tag).expect("a tag of the data set");
    loaded.users.iter().filter(|user| user.values[place].as_ref().is_some_and(&wanted)).count()
}

fn text(wanted: &str) -> impl Fn(&Value) -> bool {
    move |value| matches!(value, Value::Text(text) if text == wanted)
}

fn contains(wanted: &str) -> impl Fn(&Value) -> bool {
    move |value| matches!(value, Value::Set(values) if values.iter().any(|value| value == wanted))
}

#[test]
fn online_retail() {
    let Some(folder) = public_data("online-retail") else { return };
    let loaded = load(DataSet::OnlineRetail, &folder).expect("loads");
    // The file has commas only inside quotes in Description, so the last two cells are behind the last two commas.
    let raw = raw_text(&folder.join("online-retail.csv.gz"));
    let (mut anonymous, mut customers, mut german, mut christmas) = (0, HashSet::new(), HashSet::new(), HashSet::new());
    for line in raw.lines().skip(1) {
        let mut cells = line.rsplitn(3, ',');
        let (country, customer) = (cells.next().expect("a country"), cells.next().expect("a customer"));
        if customer.is_empty() {
            anonymous += 1;
            continue;
        }
        customers.insert(customer);
        if country == "Germany" {
            german.insert(customer);
        }
        if line.contains("CHRISTMAS ") && !line.starts_with('C') {
            christmas.insert(customer);
        }
    }
    assert_eq!(loaded.skipped, [("lines without a customer", 135_080)]);
    assert_eq!((anonymous, customers.len()), (135_080, 4_372));
    assert_eq!(loaded.users.len(), customers.len());
    assert_eq!(count(&loaded, "country", text("Germany")), german.len());
    let christmas_words = count(&loaded, "word", contains("christmas"));
    assert!(
        christmas_words >= christmas.len() && !christmas.is_empty(),
        "{christmas_words} against {}",
        christmas.len()
    );
    assert_eq!(count(&loaded, "product", contains("85123A")), raw_buyers(&raw, "85123A"));
}

/// Customers with an invoice of this product that is no cancellation.
fn raw_buyers(raw: &str, product: &str) -> usize {
    let of_product = |line: &&str| line.split(',').nth(1).is_some_and(|code| code.eq_ignore_ascii_case(product));
    let customer = |line: &'_ str| line.rsplit(',').nth(1).unwrap_or_default().to_owned();
    let lines = raw.lines().filter(of_product).filter(|line| !line.starts_with('C'));
    lines.map(customer).filter(|customer| !customer.is_empty()).collect::<HashSet<_>>().len()
}

#[test]
fn uci_adult() {
    let Some(folder) = public_data("uci-adult") else { return };
    let loaded = load(DataSet::UciAdult, &folder).expect("loads");
    let raw = raw_text(&folder.join("adult.data.gz")) + &raw_text(&folder.join("adult.test.gz"));
    let people: Vec<&str> = raw.lines().filter(|line| line.contains(", ")).collect();
    let with = |part: &str| people.iter().filter(|line| line.contains(part)).count();
    assert_eq!((loaded.users.len(), people.len()), (48_842, 48_842));
    assert_eq!(count(&loaded, "education", text("Bachelors")), with(" Bachelors,"));
    assert_eq!(count(&loaded, "high_income", |value| *value == Value::Flag(true)), with(" >50K"));
    assert_eq!(count(&loaded, "sex", text("Female")), with(" Female,"));
    let unknown: usize =
        DataSet::UciAdult.tags().iter().map(|tag| people.len() - count(&loaded, tag.0, |_| true)).sum();
    assert_eq!(unknown, people.iter().map(|line| line.matches('?').count()).sum::<usize>());
    let alone = load(DataSet::UciAdult, &folder.join("adult.data.gz")).expect("one file alone loads");
    assert_eq!(alone.users[..], loaded.users[..alone.users.len()]);
    assert_eq!(alone.users.len(), 32_561);
}

#[test]
fn uci_bank() {
    let Some(folder) = public_data("uci-bank") else { return };
    let loaded = load(DataSet::UciBank, &folder).expect("loads");
    let raw = raw_text(&folder.join("bank-additional-full.csv.gz"));
    let with = |part: &str| raw.lines().skip(1).filter(|line| line.contains(part)).count();
    assert_eq!(loaded.users.len(), 41_188);
    assert_eq!(count(&loaded, "job", text("student")), with(";\"student\";"));
    assert_eq!(
        count(&loaded, "subscribed", |value| *value == Value::Flag(true)),
        with(";\"yes\"") - with(";\"yes\";") + both(&raw)
    );
    assert_eq!(count(&loaded, "days_since_contact", |_| true), 41_188 - with(";999;"));
    assert_eq!(
        41_188 - count(&loaded, "credit_default", |_| true),
        raw.lines().filter(|line| line.split(';').nth(4) == Some("\"unknown\"")).count()
    );
}

/// Lines that say yes at the end and also before it.
fn both(raw: &str) -> usize {
    raw.lines().filter(|line| line.ends_with(";\"yes\"") && line.contains(";\"yes\";")).count()
}

#[test]
fn complete_journey() {
    let Some(folder) = public_data("complete-journey") else { return };
    let loaded = load(DataSet::CompleteJourney, &folder).expect("loads");
    let demographics = raw_text(&folder.join("demographics.csv.gz"));
    assert_eq!(count(&loaded, "age", |_| true), demographics.lines().count() - 1);
    assert_eq!(count(&loaded, "home_ownership", text("Renter")), demographics.matches(",Renter,").count());
    let campaigns = raw_text(&folder.join("campaigns.csv.gz"));
    let reached: HashSet<&str> = campaigns.lines().filter(|line| line.starts_with("18,")).collect();
    assert_eq!(count(&loaded, "campaign", contains("18")), reached.len());
    let purchases = raw_text(&folder.join("transactions_sample.csv.gz"));
    let mut spend: HashMap<&str, f64> = HashMap::new();
    for line in purchases.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        *spend.entry(cells[0]).or_default() += cells[5].parse::<f64>().expect("an amount");
    }
    assert_eq!(count(&loaded, "spend", |_| true), spend.len());
    for user in &loaded.users {
        match (&user.values[11], spend.get(user.id.as_str())) {
            (Some(Value::Number(cents)), Some(sum)) => assert_eq!(*cents, (sum * 100.0).round() as i64, "{}", user.id),
            (None, None) => {}
            (value, sum) => panic!("{}: {value:?}, counted {sum:?}", user.id),
        }
    }
}

#[test]
fn msweb() {
    let Some(folder) = public_data("msweb") else { return };
    let loaded = load(DataSet::Msweb, &folder).expect("loads");
    let raw = raw_text(&folder.join("anonymous-msweb.data.gz")) + &raw_text(&folder.join("anonymous-msweb.test.gz"));
    let begins = |with: &str| raw.lines().filter(|line| line.starts_with(with)).count();
    assert_eq!(loaded.users.len(), begins("C,"));
    assert_eq!(loaded.skipped[0].1, 0);
    // Area 1008 is "Free Downloads"; nobody visits an area twice.
    assert_eq!(count(&loaded, "area", contains("Free Downloads")), begins("V,1008,"));
}

#[test]
fn roaring_sets() {
    let Some(folder) = public_data("roaring-realdata") else { return };
    for name in ROARING_SETS {
        let sets = load_roaring_sets(&folder.join(format!("{name}.zip"))).expect("loads");
        assert_eq!(sets.len(), 200, "{name}");
        assert!(sets.iter().all(|set| set.is_sorted()), "{name}");
    }
}

#[test]
fn damaged_files_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let junk = folder.path().join("junk.zip");
    std::fs::write(&junk, b"PK\x03\x04 no zip at all").expect("written");
    for set in DataSet::ALL {
        let error = load(set, &junk).expect_err("junk is no data set").to_string();
        assert!(error.contains("junk.zip"), "{error}");
        let error = load(set, &folder.path().join("absent")).expect_err("absent").to_string();
        assert!(error.contains("absent"), "{error}");
    }
    assert!(load_roaring_sets(&junk).is_err());
}
