//! Vectors made from a fact: what is asked for, and the rows of the fact as the events that vectors are made of, by way of SQL.

use crate::sources::Place;
use crate::state::{Readers, lock};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use engine::audience::bind::instants_within;
use engine::audience::ops::QueryContext;
use engine::audience::suggest::closest;
use engine::bitmap::bsi::NumberRange;
use engine::catalog::{Catalog, ColumnType, Fact};
use engine::clock::Clock;
use engine::store::Snapshot;
use engine_sql::session::{Answer, Question, SqlError, SqlErrorKind};
use ingest::backfill::factors::{EventOf, EventOrder, EventReader, EventRows, EventsError, FactorJob};
use ingest::clock::SystemClock;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Which events vectors are made of, and what of them counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"fact": "purchase", "item": "category", "weight": "amount", "within": "365 days"}))]
pub struct FromFactDefinition {
    /// The fact.
    pub fact: String,
    /// The column that says with what users dealt; of several columns each combination of values is an item. A row with none of them has
    /// no item.
    pub item: ItemColumns,
    /// The column that says how much: a number, added up by user and item. Left out, events are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
    /// Events of so long up to now, by the clocks of the fact's zone: `30 days`, `24 hours`, `1 year`; left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// Of these only rows of which this SQL condition is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#where: Option<String>,
}

/// One column or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "the name of a column, or a list of names")]
pub enum ItemColumns {
    /// Its values are items.
    One(String),
    /// Combinations of their values are.
    Several(Vec<String>),
}

impl Default for ItemColumns {
    fn default() -> Self {
        ItemColumns::Several(Vec::new())
    }
}

impl ItemColumns {
    fn names(&self) -> &[String] {
        match self {
            ItemColumns::One(name) => std::slice::from_ref(name),
            ItemColumns::Several(names) => names,
        }
    }
}

impl FromFactDefinition {
    /// What is to run.
    pub fn job(&self, name: String, space: &str, readers: Readers) -> FactorJob {
        let events = Arc::new(FactEvents { readers, definition: self.clone(), window: Mutex::default() });
        FactorJob { name, space: space.to_owned(), fact: self.fact.clone(), events }
    }

    /// The instants that `within` means now, if there is one.
    fn window(&self, fact: &Fact, now: i64) -> Result<Option<NumberRange>, Place> {
        let settled = self.within.as_ref().map(|within| instants_within(within, fact, now));
        settled.transpose().map_err(|error| {
            let advice = error.suggestion.unwrap_or_default().replace("write within => ", "write ");
            Place::new("/within", format!("{}; {advice}", error.message))
        })
    }

    /// Whether it can be read with a catalog and facts as they are.
    ///
    /// # Errors
    /// The first field that cannot be as it is.
    pub fn check(&self, snapshot: &Snapshot, readers: &Readers, now: i64) -> Result<(), Place> {
        let fact = self.declared(snapshot.catalog())?;
        let known = |name: &String| fact.columns.iter().find(|column| column.name == *name);
        if self.item.names().is_empty() {
            return Err(Place::new("/item", "name the column that says with what users dealt, such as `category`"));
        }
        for (at, name) in self.item.names().iter().enumerate() {
            let pointer = match self.item {
                ItemColumns::One(_) => "/item".to_owned(),
                ItemColumns::Several(_) => format!("/item/{at}"),
            };
            if known(name).is_none() {
                return Err(Place::new(pointer, self.no_column(fact, name)));
            }
            if self.item.names()[..at].contains(name) {
                return Err(Place::new(pointer, format!("`{name}` is named twice")));
            }
        }
        if let Some(weight) = &self.weight {
            let Some(column) = known(weight) else { return Err(Place::new("/weight", self.no_column(fact, weight))) };
            if !matches!(column.column_type, ColumnType::Integer | ColumnType::Decimal { .. } | ColumnType::Float) {
                let why = format!("`{weight}` is no number; leave `weight` out to count events");
                return Err(Place::new("/weight", why));
            }
        }
        let window = self.window(fact, now)?;
        self.check_condition(window, snapshot, readers)
    }

    fn check_condition(
        &self,
        window: Option<NumberRange>,
        snapshot: &Snapshot,
        readers: &Readers,
    ) -> Result<(), Place> {
        if let Some(condition) = &self.r#where {
            readers.sql.check_condition(condition).map_err(|error| Place::new("/where", error.to_string()))?;
        }
        let question = Question { text: self.statement(EventOrder::Any, window), ..Question::default() };
        let described = readers.sql.describe(snapshot.clone(), &question, Vec::new(), &context_of(readers));
        // Whatever else stands in the statement was checked.
        let described = described.map_err(|error| Place::new("/where", error.to_string()))?;
        match described.parameters.fields().first() {
            None => Ok(()),
            Some(parameter) => {
                let why = format!(
                    "`{}` is a parameter, and a job is given no values for any; write the value itself",
                    parameter.name()
                );
                Err(Place::new("/where", why))
            }
        }
    }

    fn declared<'c>(&self, catalog: &'c Catalog) -> Result<&'c Fact, Place> {
        catalog.declared_fact(&self.fact).ok_or_else(|| {
            let advice = match closest(&self.fact, catalog.declared_facts().map(|(name, _)| name)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "name a fact of this catalog".to_owned(),
            };
            Place::new("/fact", format!("there is no fact `{}`; {advice}", self.fact))
        })
    }

    fn no_column(&self, fact: &Fact, name: &str) -> String {
        let columns = || fact.columns.iter().map(|column| column.name.as_str());
        let advice = match closest(name, columns()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its columns are {}", columns().collect::<Vec<_>>().join(", ")),
        };
        format!("the fact `{}` has no column `{name}`; {advice}", self.fact)
    }

    /// Rows of a user, a weight, and the parts of an item.
    fn statement(&self, order: EventOrder, window: Option<NumberRange>) -> String {
        let quoted = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
        let weight = match &self.weight {
            // What is taken back has the weight -1.
            Some(column) => format!("CAST({} AS DOUBLE) * weight", quoted(column)),
            None => "CAST(weight AS DOUBLE)".to_owned(),
        };
        let items: Vec<String> = self.item.names().iter().map(quoted).collect();
        let parts: Vec<String> =
            items.iter().enumerate().map(|(at, item)| format!("CAST({item} AS VARCHAR) AS item_{at}")).collect();
        let is_there: Vec<String> = items.iter().map(|item| format!("{item} IS NOT NULL")).collect();
        let mut text = format!(
            "SELECT user_id, {weight} AS deal, {} FROM {} WHERE ({})",
            parts.join(", "),
            quoted(&self.fact),
            is_there.join(" OR ")
        );
        if let Some(NumberRange { min, max }) = window {
            // The sign of the least number of all would be taken from a number that is none.
            let instant = |micros: i64| format!("to_timestamp_micros({})", micros.max(-i64::MAX));
            text += &format!(" AND ts >= {} AND ts <= {}", instant(min), instant(max));
        }
        if let Some(condition) = &self.r#where {
            // What ends with a comment ends with its line.
            text += &format!(" AND (\n{condition}\n)");
        }
        if order == EventOrder::ByUser {
            text += " ORDER BY user_id";
        }
        text
    }
}

/// The rows of a fact.
#[derive(Debug)]
struct FactEvents {
    readers: Readers,
    definition: FromFactDefinition,
    /// What `within` meant when the first reading began: the second one is of the same events.
    window: Mutex<Option<NumberRange>>,
}

impl FactEvents {
    fn window(&self, snapshot: &Snapshot, order: EventOrder) -> Result<Option<NumberRange>, Place> {
        let mut window = lock(&self.window);
        if order == EventOrder::Any {
            *window = self.definition.window(self.definition.declared(snapshot.catalog())?, SystemClock.now())?;
        }
        Ok(*window)
    }
}

impl EventReader for FactEvents {
    fn read(
        &self,
        snapshot: &Snapshot,
        order: EventOrder,
        cancel: &AtomicBool,
    ) -> Result<Box<dyn EventRows>, EventsError> {
        if cancel.load(Ordering::Relaxed) {
            return Err(EventsError::Cancelled);
        }
        let window = self.window(snapshot, order).map_err(|place| EventsError::Failed(place.why))?;
        let text = self.definition.statement(order, window);
        let answer = self.readers.sql.ask(snapshot.clone(), &text, Vec::new(), &context_of(&self.readers));
        let answer = answer.map_err(failed)?;
        Ok(Box::new(Rows { answer, item: Vec::new() }))
    }
}

/// What bounds a statement. Dropping its answer ends it, so that nobody has to set anything here.
fn context_of(readers: &Readers) -> QueryContext {
    QueryContext { scanner: Some(Arc::clone(&readers.scanner)), ..QueryContext::default() }
}

/// An answer that is being read.
struct Rows {
    answer: Answer,
    item: Vec<u8>,
}

impl EventRows for Rows {
    fn next(&mut self, cancel: &AtomicBool, take: &mut dyn FnMut(EventOf<'_>)) -> Result<Option<u64>, EventsError> {
        let Some(batch) = self.answer.next(cancel).map_err(failed)? else { return Ok(None) };
        let columns = Columns::of(&batch).ok_or_else(|| EventsError::Failed("other columns than asked for".into()))?;
        for row in 0..batch.num_rows() {
            // Neither a user nor a weight is nothing that counts.
            if columns.users.is_null(row) || columns.weights.is_null(row) {
                continue;
            }
            self.item.clear();
            for part in &columns.items {
                // Parts have their lengths before them, so that no two combinations are the same bytes.
                if part.is_null(row) {
                    self.item.push(0);
                    continue;
                }
                self.item.push(1);
                self.item.extend_from_slice(&(part.value(row).len() as u64).to_le_bytes());
                self.item.extend_from_slice(part.value(row).as_bytes());
            }
            let (user, weight) = (columns.users.value(row).as_bytes(), columns.weights.value(row));
            take(EventOf { user, item: &self.item, weight });
        }
        Ok(Some(batch.num_rows() as u64))
    }
}

/// The columns of a batch.
struct Columns<'b> {
    users: &'b StringArray,
    weights: &'b Float64Array,
    items: Vec<&'b StringArray>,
}

impl<'b> Columns<'b> {
    fn of(batch: &'b RecordBatch) -> Option<Columns<'b>> {
        let (users, rest) = batch.columns().split_first()?;
        let (weights, items) = rest.split_first()?;
        let text = |column: &'b ArrayRef| column.as_string_opt::<i32>();
        Some(Columns {
            users: text(users)?,
            weights: weights.as_primitive_opt()?,
            items: items.iter().map(text).collect::<Option<_>>()?,
        })
    }
}

fn failed(error: SqlError) -> EventsError {
    match error.kind {
        SqlErrorKind::Cancelled => EventsError::Cancelled,
        _ => EventsError::Failed(error.to_string()),
    }
}
