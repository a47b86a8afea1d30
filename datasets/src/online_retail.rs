//! "Online Retail": all transactions of a UK retailer of gifts, December 2010 to December 2011 (Daqing Chen, 2015, UCI
//! Machine Learning Repository, CC BY 4.0), as tags of its customers and as events.
//!
//! Get it from <https://archive.ics.uci.edu/dataset/352/online+retail>: the zip, the `Online Retail.xlsx` inside it, or
//! any CSV export with its header line are all taken.
//!
//! Lines without a customer cannot be anybody's and are skipped and counted. A cancellation (an invoice number that
//! begins with `C`) subtracts from spend and items and adds no words. Times have no zone in the file and are read as
//! UTC. A customer who moved has the country of the last line.
//!
//! Each line is an event too. A cancellation takes back the last purchase of the same customer, product and quantity that is
//! still there; one without such a purchase (made before the data begins, or cancelled in part) is an event of its own
//! with a negative quantity.

use crate::source::{self, Content};
use crate::user::{User, Value, push_decimal, push_json_text};
use crate::{DataSet, LoadError, Loaded};
use calamine::{Data, Reader, Xlsx};
use engine::catalog::{Activity, Column, ColumnType, Fact, TagType, Unit, Zone};
use engine::ids::TagId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, Cursor};
use std::path::Path;

pub(crate) const TAGS: [(&str, TagType); 10] = [
    ("country", TagType::Enum),
    ("first_purchase_at", TagType::Number(Unit::Timestamp)),
    ("last_purchase_at", TagType::Number(Unit::Timestamp)),
    ("recency_days", TagType::Number(Unit::Integer)),
    ("orders", TagType::Number(Unit::Integer)),
    ("cancellations", TagType::Number(Unit::Integer)),
    ("items", TagType::Number(Unit::Integer)),
    ("spend", TagType::Number(Unit::Decimal { scale: 2 })),
    ("word", TagType::Set),
    ("product", TagType::Set),
];

const NAMES: [&str; 5] =
    ["online-retail.csv", "Online Retail.xlsx", "Online Retail.csv", "OnlineRetail.csv", "data.csv"];
const PUBLISHER: &str = "https://archive.ics.uci.edu/dataset/352/online+retail";

/// The columns as published.
const COLUMNS: [&str; 8] =
    ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"];
const DAY_MICROS: i64 = 86_400_000_000;
/// Words shorter than this are left out of the baskets.
const WORD_LETTERS_MIN: usize = 3;

/// A line, its cells in the order of [`COLUMNS`].
type Line = [String; 8];

#[derive(Default)]
struct Customer {
    country: String,
    first_at: i64,
    last_at: i64,
    orders: BTreeSet<String>,
    cancellations: BTreeSet<String>,
    items: i64,
    /// Prices have up to three digits behind the point.
    spend_thousandths: i64,
    words: BTreeSet<String>,
    products: BTreeSet<String>,
}

pub(crate) fn load(path: &Path) -> Result<Loaded, LoadError> {
    let found = source::open(path, &NAMES, PUBLISHER)?;
    let mut customers = Customers::default();
    let read = match found.content {
        Content::Text(text) => read_csv(text, &mut customers),
        Content::Workbook(bytes) => read_workbook(bytes, &mut customers),
    };
    read.map_err(|what| LoadError { path: found.path, what })?;
    Ok(customers.finish())
}

fn read_csv(text: Box<dyn BufRead>, customers: &mut Customers) -> Result<(), String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
    let mut record = csv::ByteRecord::new();
    let mut places = None;
    while reader.read_byte_record(&mut record).map_err(|error| format!("line {}: {error}", customers.line + 1))? {
        let cells: Vec<String> = record.iter().map(decoded).collect();
        customers.take_row(&cells, &mut places)?;
    }
    Ok(())
}

/// Cells as text; the exports in circulation are UTF-8 or Latin-1.
fn decoded(cell: &[u8]) -> String {
    match std::str::from_utf8(cell) {
        Ok(text) => text.to_owned(),
        Err(_) => cell.iter().map(|byte| char::from(*byte)).collect(),
    }
}

fn read_workbook(bytes: Vec<u8>, customers: &mut Customers) -> Result<(), String> {
    let broken = |error: calamine::XlsxError| format!("not a whole workbook: {error}");
    let mut workbook = Xlsx::new(Cursor::new(bytes)).map_err(broken)?;
    let sheet = workbook.worksheet_range_at(0).ok_or("the workbook has no sheet")?.map_err(broken)?;
    let mut places = None;
    for row in sheet.rows() {
        let cells: Vec<String> = row.iter().map(cell_text).collect();
        customers.take_row(&cells, &mut places)?;
    }
    Ok(())
}

fn cell_text(cell: &Data) -> String {
    match cell {
        Data::DateTime(time) => excel_time(time.as_f64()),
        Data::Empty => String::new(),
        // Numbers come as floats; prices have at most three digits behind the point.
        Data::Float(number) => format!("{}", (number * 1e6).round() / 1e6),
        other => other.to_string(),
    }
}

/// Days since 1899-12-30, to the second.
fn excel_time(days: f64) -> String {
    const EXCEL_DAY_OF_1970: f64 = 25_569.0;
    let seconds = ((days - EXCEL_DAY_OF_1970) * 86_400.0).round() as i64;
    jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
}

/// The fact of these events.
pub(crate) fn fact() -> Fact {
    let column = |name: &str, column_type| Column { name: name.to_owned(), column_type };
    Fact {
        id: TagId::FIRST_DECLARED,
        columns: vec![
            column("product", ColumnType::String),
            column("country", ColumnType::String),
            column("quantity", ColumnType::Integer),
            column("amount", ColumnType::Decimal { precision: 12, scale: 3 }),
        ],
        activity: Activity { dimensions: vec![0, 1], measures: vec![2, 3] },
        retention_days: None,
        deduplicate_days: Some(30),
        zone: Zone::default(),
    }
}

/// Events as they are read.
#[derive(Default)]
struct Events {
    /// With their times, in microseconds since 1970.
    lines: Vec<(i64, String)>,
    /// Per customer, product and quantity the ids of purchases that were not taken back.
    open: HashMap<(String, String, i64), Vec<String>>,
}

impl Events {
    /// Takes a line of a customer; `amount` is in thousandths.
    fn push(&mut self, customer: &str, line: &Line, at: i64, quantity: i64, amount: i64, number: u64) {
        let [invoice, product, .., country] = line;
        let product = product.to_uppercase();
        let is_cancellation = invoice.starts_with(['C', 'c']);
        let mut text = String::from("{\"user_id\":");
        push_json_text(customer, &mut text);
        text += &format!(",\"ts\":{}", at / 1_000);
        let taken_back = match is_cancellation {
            true => {
                self.open.get_mut(&(customer.to_owned(), product.clone(), quantity.wrapping_neg())).and_then(Vec::pop)
            }
            false => None,
        };
        if let Some(id) = taken_back {
            text += ",\"event_id\":";
            push_json_text(&id, &mut text);
            text += ",\"retract\":true}\n";
        } else {
            // An invoice may have the same product on several lines.
            let id = format!("{invoice}-{number}");
            text += ",\"event_id\":";
            push_json_text(&id, &mut text);
            for (name, value) in [("product", &product), ("country", country)] {
                text += &format!(",\"{name}\":");
                push_json_text(value, &mut text);
            }
            text += &format!(",\"quantity\":{quantity},\"amount\":");
            push_decimal(amount, 3, &mut text);
            text += "}\n";
            if !is_cancellation {
                self.open.entry((customer.to_owned(), product, quantity)).or_default().push(id);
            }
        }
        self.lines.push((at, text));
    }

    /// The lines in order of time; those of one time as they were read.
    fn finish(mut self) -> Vec<String> {
        self.lines.sort_by_key(|(at, _)| *at);
        self.lines.into_iter().map(|(_, line)| line).collect()
    }
}

#[derive(Default)]
struct Customers {
    by_id: BTreeMap<String, Customer>,
    events: Events,
    line: u64,
    anonymous: u64,
    last_at: i64,
}

impl Customers {
    /// Takes the header (when `places` is not set) or a line.
    fn take_row(&mut self, cells: &[String], places: &mut Option<[usize; 8]>) -> Result<(), String> {
        self.line += 1;
        let Some(places) = places else {
            *places = Some(find_columns(cells)?);
            return Ok(());
        };
        let line = places.map(|place| cells.get(place).map(|cell| cell.trim().to_owned()).unwrap_or_default());
        if line.iter().all(String::is_empty) {
            return Ok(());
        }
        self.take(line).map_err(|what| format!("line {}: {what}", self.line))
    }

    fn take(&mut self, line: Line) -> Result<(), String> {
        let [invoice, product, description, quantity, date, price, customer, country] = &line;
        let at = parse_date(date)?;
        self.last_at = self.last_at.max(at);
        // Some exports write the number with a fraction.
        let id = customer.strip_suffix(".0").unwrap_or(customer);
        if id.is_empty() || id == "nan" {
            self.anonymous += 1;
            return Ok(());
        }
        let quantity: i64 = quantity.parse().map_err(|_| format!("Quantity `{quantity}` is not a whole number"))?;
        let price = parse_thousandths(price).ok_or_else(|| format!("UnitPrice `{price}` is not a price"))?;
        let amount = quantity.checked_mul(price).ok_or_else(|| format!("Quantity `{quantity}` is too large"))?;
        self.events.push(id, &line, at, quantity, amount, self.line);
        let customer = self.by_id.entry(id.to_owned()).or_default();
        customer.spend_thousandths = customer.spend_thousandths.saturating_add(amount);
        customer.items = customer.items.saturating_add(quantity);
        if customer.country.is_empty() || at >= customer.last_at {
            customer.country.clone_from(country);
        }
        if customer.last_at == 0 || at < customer.first_at {
            customer.first_at = at;
        }
        customer.last_at = customer.last_at.max(at);
        if invoice.starts_with(['C', 'c']) {
            customer.cancellations.insert(invoice.clone());
        } else {
            customer.orders.insert(invoice.clone());
            customer.words.extend(words(description));
            customer.products.insert(product.to_uppercase());
        }
        Ok(())
    }

    fn finish(self) -> Loaded {
        let end_of_data = (self.last_at / DAY_MICROS + 1) * DAY_MICROS;
        let users = self.by_id.into_iter().map(|(id, customer)| customer.into_user(id, end_of_data)).collect();
        let skipped = vec![("lines without a customer", self.anonymous)];
        Loaded { data_set: DataSet::OnlineRetail, users, events: self.events.finish(), skipped }
    }
}

impl Customer {
    fn into_user(self, id: String, end_of_data: i64) -> User {
        let number = |number: i64| Some(Value::Number(number));
        let set = |set: BTreeSet<String>| Some(Value::Set(set.into_iter().collect()));
        User {
            id,
            values: vec![
                Some(Value::Text(self.country)),
                number(self.first_at),
                number(self.last_at),
                number((end_of_data - self.last_at) / DAY_MICROS),
                number(self.orders.len() as i64),
                number(self.cancellations.len() as i64),
                number(self.items),
                number(round_to_hundredths(self.spend_thousandths)),
                set(self.words),
                set(self.products),
            ],
        }
    }
}

fn find_columns(header: &[String]) -> Result<[usize; 8], String> {
    let folded = |name: &str| name.trim_start_matches('\u{feff}').replace([' ', '_'], "").to_lowercase();
    let mut places = [0; 8];
    for (place, column) in places.iter_mut().zip(COLUMNS) {
        // The second edition of the data renamed some columns.
        let others: &[&str] = match column {
            "InvoiceNo" => &["invoice"],
            "UnitPrice" => &["price"],
            _ => &[],
        };
        let is_it = |name: &String| folded(name) == column.to_lowercase() || others.contains(&folded(name).as_str());
        *place = header.iter().position(is_it).ok_or_else(|| format!("the first line names no column {column}"))?;
    }
    Ok(places)
}

/// Words in lower case, letters only.
fn words(description: &str) -> impl Iterator<Item = String> {
    description
        .split(|letter: char| !letter.is_alphabetic())
        .filter(|word| word.chars().count() >= WORD_LETTERS_MIN)
        .map(str::to_lowercase)
}

/// `2010-12-01 08:26:00`, `2010-12-01T08:26:00Z`, or the month-first form of spreadsheet exports, `12/1/2010 8:26`.
fn parse_date(text: &str) -> Result<i64, String> {
    let wrong = || format!("InvoiceDate `{text}` is not a time");
    let plain = text.strip_suffix('Z').unwrap_or(text).replace('T', " ");
    let (date, time) = plain.split_once(' ').unwrap_or((&plain, "0:00"));
    let numbers =
        |text: &str, separator| text.split(separator).map(|part| part.parse::<i16>().ok()).collect::<Option<Vec<_>>>();
    let (year, month, day) = match numbers(date, '/').as_deref() {
        Some([month, day, year]) => (*year, *month, *day),
        _ => match numbers(date, '-').as_deref() {
            Some([year, month, day]) => (*year, *month, *day),
            _ => return Err(wrong()),
        },
    };
    let (hour, minute, second) = match numbers(time, ':').as_deref() {
        Some([hour, minute]) => (*hour, *minute, 0),
        Some([hour, minute, second]) => (*hour, *minute, *second),
        _ => return Err(wrong()),
    };
    let small = |number: i16| i8::try_from(number).map_err(|_| wrong());
    jiff::civil::DateTime::new(year, small(month)?, small(day)?, small(hour)?, small(minute)?, small(second)?, 0)
        .and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::UTC))
        .map(|zoned| zoned.timestamp().as_microsecond())
        .map_err(|_| wrong())
}

fn parse_thousandths(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if digits.is_empty() || !is_number(whole) || !is_number(part) || part.trim_end_matches('0').len() > 3 {
        return None;
    }
    let thousandths: i64 = format!("{part:0<3}")[..3].parse().ok()?;
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    whole.checked_mul(1000)?.checked_add(thousandths).map(|value| sign * value)
}

/// Half a cent goes away from zero.
fn round_to_hundredths(thousandths: i64) -> i64 {
    (thousandths + 5 * thousandths.signum()) / 10
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::io::Write;

    const CSV: &str = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n\
        1,a1,RED Tea-POT,2,2010-12-01 08:26:00,2.55,17850,United Kingdom\n\
        2,B2,tea BAG,10,2010-12-03 09:00:00,0.105,17850.0,France\n\
        C3,B2,tea bag,-4,2010-12-02 09:00:00,0.105,17850,France\n\
        4,X,,1,12/4/2010 10:05,1.00,,France\n";

    fn load_bytes(name: &str, bytes: &[u8]) -> Result<Loaded, LoadError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        load(&path)
    }

    #[track_caller]
    fn check(loaded: &Loaded) {
        assert_eq!(loaded.skipped, [("lines without a customer", 1)]);
        let [user] = &loaded.users[..] else { panic!("one customer") };
        assert_eq!(user.id, "17850");
        let number = |number| Some(Value::Number(number));
        let set = |values: &[&str]| Some(Value::Set(values.iter().map(|value| (*value).to_owned()).collect()));
        assert_eq!(user.values[0], Some(Value::Text("France".to_owned())));
        assert_eq!(user.values[1], number(1_291_191_960_000_000));
        // 5.10 + 1.05 - 0.42
        assert_eq!(user.values[3..8], [number(1), number(2), number(1), number(8), number(573)]);
        assert_eq!(user.values[8], set(&["bag", "pot", "red", "tea"]));
        assert_eq!(user.values[9], set(&["A1", "B2"]));
        let events: Vec<serde_json::Value> =
            loaded.events.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        // The cancellation is of fewer than were bought, and before that.
        let said: Vec<_> =
            events.iter().map(|event| (&event["product"], &event["quantity"], &event["amount"])).collect();
        let [a, b] = [json!("A1"), json!("B2")];
        let expected = [(&a, &json!(2), &json!(5.1)), (&b, &json!(-4), &json!(-0.42)), (&b, &json!(10), &json!(1.05))];
        assert_eq!(said, expected);
    }

    #[test]
    fn lines_add_up() {
        check(&load_bytes("online-retail.csv", CSV.as_bytes()).expect("loads"));
    }

    #[test]
    fn a_cancellation_takes_back_the_last_purchase_like_it() {
        let header = CSV.lines().next().expect("a header");
        let line =
            |invoice: &str, quantity: i64| format!("{invoice},A,tea,{quantity},2010-12-01 08:26:00,1,7,France\n");
        let text = format!("{header}\n{}{}{}{}", line("1", 3), line("2", 3), line("C3", -3), line("C4", -5));
        let loaded = load_bytes("x.csv", text.as_bytes()).expect("loads");
        assert!(loaded.events[2].ends_with("\"event_id\":\"2-3\",\"retract\":true}\n"), "{}", loaded.events[2]);
        assert!(loaded.events[3].contains("\"quantity\":-5"), "{}", loaded.events[3]);
    }

    #[test]
    fn refusals_name_the_line() {
        let error = load_bytes("x.csv", CSV.replace("0.105,17850.0", "free,17850").as_bytes()).expect_err("bad price");
        assert!(error.to_string().contains("line 3: UnitPrice `free` is not a price"), "{error}");
        let error = load_bytes("x.csv", b"a,b\n1,2\n").expect_err("other columns");
        assert!(error.to_string().contains("names no column InvoiceNo"), "{error}");
    }

    /// The smallest workbook that spreadsheet programs would write for [`CSV`], as in the publisher's zip.
    #[test]
    fn reads_the_published_workbook() {
        let mut sheet = String::new();
        for (row, line) in CSV.lines().enumerate() {
            sheet += "<row>";
            for (column, cell) in line.split(',').enumerate() {
                sheet += &match (row, column) {
                    (_, _) if cell.is_empty() => String::new(),
                    (1.., 3 | 5 | 6) => {
                        format!("<c r=\"{}{}\"><v>{cell}</v></c>", char::from(b'A' + column as u8), row + 1)
                    }
                    (1.., 4) => {
                        let days = parse_date(cell).expect("a time") as f64 / DAY_MICROS as f64 + 25_569.0;
                        format!("<c r=\"E{}\" s=\"1\"><v>{days}</v></c>", row + 1)
                    }
                    _ => format!(
                        "<c r=\"{}{}\" t=\"inlineStr\"><is><t>{cell}</t></is></c>",
                        char::from(b'A' + column as u8),
                        row + 1
                    ),
                };
            }
            sheet += "</row>";
        }
        let main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
        let relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
        let package = "http://schemas.openxmlformats.org/package/2006";
        let members = [
            ("[Content_Types].xml", format!("<Types xmlns=\"{package}/content-types\"></Types>")),
            (
                "_rels/.rels",
                format!(
                    "<Relationships xmlns=\"{package}/relationships\"><Relationship Id=\"r1\" Type=\"{relations}/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>"
                ),
            ),
            (
                "xl/workbook.xml",
                format!(
                    "<workbook xmlns=\"{main}\" xmlns:r=\"{relations}\"><sheets><sheet name=\"Online Retail\" sheetId=\"1\" r:id=\"r1\"/></sheets></workbook>"
                ),
            ),
            (
                "xl/_rels/workbook.xml.rels",
                format!(
                    "<Relationships xmlns=\"{package}/relationships\"><Relationship Id=\"r1\" Type=\"{relations}/worksheet\" Target=\"worksheets/sheet1.xml\"/><Relationship Id=\"r2\" Type=\"{relations}/styles\" Target=\"styles.xml\"/></Relationships>"
                ),
            ),
            (
                "xl/styles.xml",
                format!(
                    "<styleSheet xmlns=\"{main}\"><cellXfs count=\"2\"><xf numFmtId=\"0\"/><xf numFmtId=\"22\"/></cellXfs></styleSheet>"
                ),
            ),
            (
                "xl/worksheets/sheet1.xml",
                format!("<worksheet xmlns=\"{main}\"><sheetData>{sheet}</sheetData></worksheet>"),
            ),
        ];
        let zip_of = |members: &[(&str, Vec<u8>)]| {
            let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
            for (name, bytes) in members {
                writer.start_file(*name, zip::write::SimpleFileOptions::default()).expect("started");
                writer.write_all(bytes).expect("written");
            }
            writer.finish().expect("finished").into_inner()
        };
        let members: Vec<(&str, Vec<u8>)> = members.into_iter().map(|(name, text)| (name, text.into_bytes())).collect();
        let workbook = zip_of(&members);
        check(&load_bytes("Online Retail.xlsx", &workbook).expect("loads"));
        let published = zip_of(&[("Online Retail.xlsx", workbook)]);
        check(&load_bytes("online+retail.zip", &published).expect("loads"));
    }

    #[test]
    fn prices_are_exact() {
        for (text, expected) in [
            ("2.55", Some(2550)),
            ("-11062.06", Some(-11_062_060)),
            (".5", Some(500)),
            ("1", Some(1000)),
            ("0.0005", None),
            ("", None),
            ("1e3", None),
        ] {
            assert_eq!(parse_thousandths(text), expected, "{text}");
        }
        assert_eq!([14, 15, -15].map(round_to_hundredths), [1, 2, -2]);
    }
}
