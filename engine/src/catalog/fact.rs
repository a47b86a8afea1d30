//! What a fact is declared as: an event type with a user, an event time and typed columns.

use super::zone::Zone;
use crate::behavior::slice::hour_of;
use crate::ids::TagId;

/// The most columns of a fact.
pub const COLUMNS_MAX: usize = 1_000;
/// The most dimensions, and the most measures, of a fact's activity index.
pub const ACTIVITY_COLUMNS_MAX: usize = 64;
/// The most digits of a decimal column: 10^18 still fits 64 bits.
pub const PRECISION_MAX: u8 = 18;

/// A declared fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Its number, from the same sequence as the tags': the key of its activity postings.
    pub id: TagId,
    /// Its columns besides the user and the event time; a change of the catalog only adds some at the end.
    pub columns: Vec<Column>,
    /// What is counted per user and time slice.
    pub activity: Activity,
    /// Days that rows and activity are kept; `None` for ever.
    pub retention_days: Option<u32>,
    /// Days of event time within which an event id counts once; `None` if events have no ids.
    pub deduplicate_days: Option<u32>,
    /// The time zone whose hours, days and months the slices are.
    pub zone: Zone,
}

/// A column of a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The type of its values; any may be NULL.
    pub column_type: ColumnType,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// Text.
    String,
    /// A signed 64-bit integer.
    Integer,
    /// A number of at most `precision` digits, `scale` of them behind the point; kept times `10^scale`.
    Decimal {
        /// Digits in all, at most [`PRECISION_MAX`].
        precision: u8,
        /// Digits behind the point, at most `precision`.
        scale: u8,
    },
    /// A 64-bit floating point number.
    Float,
    /// True or false.
    Boolean,
    /// Microseconds since 1970-01-01T00:00:00Z.
    Timestamp,
    /// Any JSON value, as its text.
    Json,
}

/// The activity index of a fact: columns by their place in [`Fact::columns`]. The fact as a whole is always counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Columns of type string, integer or boolean; each value is counted on its own.
    pub dimensions: Vec<u16>,
    /// Columns of type integer or decimal that are added up, for the whole and for each value of each dimension.
    pub measures: Vec<u16>,
}

/// The most days of retention, and of remembering event ids.
pub const DAYS_MAX: u32 = 100_000;

/// Tables of Beluga's own, beside which facts stand in SQL.
pub(super) const TABLES: [&str; 9] = [
    AUDIENCE_CHANGES,
    DEAD_LETTERS,
    "audiences",
    "facts",
    "information_schema",
    "system",
    "tag_values",
    "tags",
    "users",
];

/// The fact that keeps the records which sources brought and which could not be taken.
pub const DEAD_LETTERS: &str = "dead_letter";

/// Days that they are kept.
const DEAD_LETTER_DAYS: u32 = 30;

/// The fact that keeps who entered and who left a live audience, and when.
pub const AUDIENCE_CHANGES: &str = "audience_change";

/// Days that they are kept.
const AUDIENCE_CHANGE_DAYS: u32 = 400;

/// Its declaration. The user of such an event stands for the source, and is no user who can be counted.
pub(super) fn dead_letters() -> Fact {
    let column = |name: &str, column_type| Column { name: name.to_owned(), column_type };
    Fact {
        id: TagId::DEAD_LETTERS,
        columns: vec![
            column("source", ColumnType::String),
            column("partition", ColumnType::String),
            column("position", ColumnType::Integer),
            column("kind", ColumnType::String),
            column("reason", ColumnType::String),
            column("record", ColumnType::String),
            column("encoding", ColumnType::String),
            column("size_bytes", ColumnType::Integer),
        ],
        activity: Activity::default(),
        retention_days: Some(DEAD_LETTER_DAYS),
        deduplicate_days: None,
        zone: Zone::default(),
    }
}

/// Its declaration.
pub(super) fn audience_changes() -> Fact {
    let column = |name: &str| Column { name: name.to_owned(), column_type: ColumnType::String };
    Fact {
        id: TagId::AUDIENCE_CHANGES,
        columns: vec![column("audience"), column("change")],
        activity: Activity::default(),
        retention_days: Some(AUDIENCE_CHANGE_DAYS),
        deduplicate_days: None,
        zone: Zone::default(),
    }
}

/// Words that mean something else within `did(…)`, or name a column every fact has.
const RESERVED: [&str; 13] = [
    "_shard",
    "_slot",
    "count",
    "day",
    "event_id",
    "exact_window",
    "first",
    "last",
    "retract",
    "sum",
    "undeclared",
    "weight",
    "within",
];

impl Fact {
    /// The place of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The place of a column among the dimensions.
    pub fn dimension(&self, column: usize) -> Option<usize> {
        self.activity.dimensions.iter().position(|dimension| usize::from(*dimension) == column)
    }

    /// The day, since 1970, that the zone's clocks show at an instant (microseconds since 1970).
    pub fn day_of(&self, micros: i64) -> i32 {
        hour_of(self.zone.local(micros)).div_euclid(24)
    }

    /// The present hour by the zone's clocks (`now`: microseconds since 1970), and the first hour that is kept.
    pub fn hours_at(&self, now: i64) -> (i32, i32) {
        let now_hour = hour_of(self.zone.local(now));
        let kept_from = self.retention_days.map_or(i32::MIN, |days| {
            let days = i32::try_from(days).unwrap_or(i32::MAX);
            now_hour.div_euclid(24).saturating_sub(days).saturating_mul(24)
        });
        (now_hour, kept_from)
    }

    /// The place of a column among the measures.
    pub fn measure(&self, column: usize) -> Option<usize> {
        self.activity.measures.iter().position(|measure| usize::from(*measure) == column)
    }
}

/// Says what cannot be in a declaration.
pub(super) fn check(fact: &Fact) -> Result<(), String> {
    if fact.columns.len() > COLUMNS_MAX {
        return Err(format!("a fact has at most {COLUMNS_MAX} columns"));
    }
    for (index, column) in fact.columns.iter().enumerate() {
        let name = &column.name;
        let refuse = |why: &str| Err(format!("column `{name}`: {why}"));
        match super::check_name(name) {
            Err(super::CatalogError::Name { why, .. }) => return refuse(&why),
            _ if RESERVED.contains(&name.as_str()) => return refuse("this name is taken; choose another"),
            _ => {}
        }
        if fact.columns[..index].iter().any(|other| other.name == *name) {
            return refuse("it is declared twice");
        }
        if let ColumnType::Decimal { precision, scale } = column.column_type
            && (precision == 0 || precision > PRECISION_MAX || scale > precision)
        {
            return refuse(&format!("a decimal has 1 to {PRECISION_MAX} digits, and at most as many behind the point"));
        }
    }
    let Activity { dimensions, measures } = &fact.activity;
    for (columns, what) in [(dimensions, "dimensions"), (measures, "measures")] {
        if columns.len() > ACTIVITY_COLUMNS_MAX {
            return Err(format!("activity has at most {ACTIVITY_COLUMNS_MAX} {what}"));
        }
        for (index, at) in columns.iter().enumerate() {
            let Some(column) = fact.columns.get(usize::from(*at)) else {
                return Err(format!("activity {what} name a column that is not declared"));
            };
            if columns[..index].contains(at) {
                return Err(format!("activity {what} name `{}` twice", column.name));
            }
        }
    }
    let typed = |at: &u16| &fact.columns[usize::from(*at)];
    if let Some(column) = dimensions.iter().map(typed).find(|column| !column.column_type.can_be_dimension()) {
        let Column { name, column_type } = column;
        return Err(format!("dimension `{name}` is a {column_type}; a dimension is a string, an integer or a boolean"));
    }
    if let Some(column) = measures.iter().map(typed).find(|column| !column.column_type.can_be_measure()) {
        let Column { name, column_type } = column;
        return Err(format!("measure `{name}` is a {column_type}; a measure is an integer or a decimal"));
    }
    let days = [fact.retention_days, fact.deduplicate_days];
    if days.into_iter().flatten().any(|days| days == 0 || days > DAYS_MAX) {
        return Err(format!("a number of days is from 1 to {DAYS_MAX}; leave `retention` out to keep events for ever"));
    }
    Ok(())
}

/// What `known` becomes; stored events keep their meaning.
pub(super) fn change(known: &Fact, wanted: Fact) -> Result<Fact, String> {
    let mut changed = Fact { id: known.id, columns: known.columns.clone(), ..wanted.clone() };
    let name_of = |fact: &Fact, at: &u16| fact.columns[usize::from(*at)].name.clone();
    for column in &known.columns {
        match wanted.column(&column.name).map(|at| wanted.columns[at].column_type) {
            None => {
                return Err(format!("column `{}` is missing; columns are only added, so keep it", column.name));
            }
            Some(column_type) if column_type != column.column_type => {
                let declared = column.column_type;
                return Err(format!("column `{}` is a {declared}; its type cannot become {column_type}", column.name));
            }
            Some(_) => {}
        }
    }
    for column in wanted.columns.iter().filter(|column| known.column(&column.name).is_none()) {
        changed.columns.push(column.clone());
    }
    for (before, after, what) in [
        (&known.activity.dimensions, &wanted.activity.dimensions, "dimensions"),
        (&known.activity.measures, &wanted.activity.measures, "measures"),
    ] {
        let names = |fact: &Fact, columns: &[u16]| columns.iter().map(|at| name_of(fact, at)).collect::<Vec<_>>();
        let (mut before, mut after) = (names(known, before), names(&wanted, after));
        before.sort_unstable();
        after.sort_unstable();
        if before != after {
            return Err(format!(
                "its activity {what} are {before:?} and cannot become {after:?}, since past events were not counted so; declare a new fact and backfill it"
            ));
        }
    }
    changed.activity = known.activity.clone();
    if known.zone.name != wanted.zone.name {
        return Err(format!("its time zone is {} and cannot become {}", known.zone.name, wanted.zone.name));
    }
    changed.zone = known.zone.clone();
    Ok(changed)
}

impl ColumnType {
    /// Digits behind the point of the numbers the type keeps as integers.
    pub fn scale(self) -> u8 {
        match self {
            ColumnType::Decimal { scale, .. } => scale,
            _ => 0,
        }
    }

    /// Whether its values can be a dimension of the activity index.
    pub fn can_be_dimension(self) -> bool {
        matches!(self, ColumnType::String | ColumnType::Integer | ColumnType::Boolean)
    }

    /// Whether its values can be added up by the activity index.
    pub fn can_be_measure(self) -> bool {
        matches!(self, ColumnType::Integer | ColumnType::Decimal { .. })
    }
}

impl std::fmt::Display for ColumnType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ColumnType::String => f.write_str("string"),
            ColumnType::Integer => f.write_str("integer"),
            ColumnType::Decimal { precision, scale } => write!(f, "decimal({precision}, {scale})"),
            ColumnType::Float => f.write_str("float"),
            ColumnType::Boolean => f.write_str("boolean"),
            ColumnType::Timestamp => f.write_str("timestamp"),
            ColumnType::Json => f.write_str("json"),
        }
    }
}
