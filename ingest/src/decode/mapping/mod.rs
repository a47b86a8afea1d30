//! A record of any shape to a line as our own doors take it, by a mapping that is declared for a source.
//!
//! ```yaml
//! map:                                              # to an event of a fact
//!   user_id: customer.id
//!   ts: { path: created_at, unit: seconds }
//!   category: { path: item.kind, default: other }
//!   amount: { path: item.price, type: number }
//!   channel: { value: web }
//!   paid: { sql: "item.price * quantity" }            # an expression over the record, in the language given with it
//! where:
//!   - { path: status, in: [paid, shipped] }
//! ```
//!
//! [`Mapping::apply`] turns such a record into `{"user_id":…,"ts":…,"category":…}` (or, for tags, into `{"user_id":…,
//! "set":{…},"add":{…}}`), which the [`EventDecoder`](super::EventDecoder) or [`TagDecoder`](super::TagDecoder) then
//! reads: what a column or tag takes is said there alone.
//!
//! A path names a field: `a.b`, an item of a list: `a[0].b`, and a key with other characters: `a."b.c"`. What belongs to
//! the record but does not stand in it has names of its own:
//!
//! | path | what |
//! |---|---|
//! | `$key` | its key, as text |
//! | `$timestamp` | its time in the log, in milliseconds |
//! | `$topic`, `$partition`, `$offset` | where it stands in the log; of Kafka the partition is a number |
//! | `$record` | the whole record |
//!
//! A null counts as a missing field, except for the condition [`Test::Exists`]. A mapping that leaves `ts` out takes
//! `$timestamp`.
//!
//! The record is read once, in time linear in its length: a tree of the wanted paths is walked along with it, values
//! nobody wants are checked and passed over, those wanted are remembered by where they stand and copied as they are
//! written, so no digit is lost. Buffers are used again, so that a record costs no allocation.
//!
//! * `definition`: what the user wrote. `path`: the text of a path.
//! * `check`: a definition to a mapping, or why it cannot be; `error`.
//! * `find`: the walk over a record; `context`: what belongs to it besides.
//! * `key`: one value of a record, as text.
//! * `filter`: conditions; `number`: numbers as text. `computed`: expressions, many records at a time. `write`: the line.

mod check;
mod computed;
mod context;
mod definition;
mod error;
mod filter;
mod find;
mod key;
mod number;
mod path;
mod write;

#[cfg(test)]
mod computed_tests;
#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;

pub use computed::Expression;
pub use context::RecordContext;
pub use definition::{Cast, Comparison, Condition, FactMapping, FieldValue, MappedField, TagMapping, Test, TimeUnit};
pub use error::MappingError;
pub use key::KeyFinder;
pub(crate) use write::push_string as push_json_string;

use super::error::LineError;
use super::tags::utf8;
use computed::{Gathered, Programs};
use engine::catalog::{Catalog, Fact};
use filter::Filter;
use find::Finder;
use write::{Computed, Writer};

/// Turns records of one source into lines for one decoder.
#[derive(Clone, Debug)]
pub struct Mapping {
    finder: Finder,
    /// A record is taken if it passes all of them.
    filters: Vec<Filter>,
    /// And if their conditions are true of it.
    programs: Programs,
    writer: Writer,
    /// Reused for strings with escapes.
    text: String,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// It is a line, to be decoded.
    Line,
    /// A condition does not hold, so it is not wanted.
    FilteredOut,
}

impl Mapping {
    /// A mapping to events of a fact as it is declared now.
    ///
    /// # Errors
    /// [`MappingError`] naming the place in the definition.
    pub fn to_fact(definition: &FactMapping, fact: &Fact) -> Result<Mapping, MappingError> {
        check::fact(definition, fact)
    }

    /// A mapping to changes of the tags of `catalog` as it is now.
    ///
    /// # Errors
    /// [`MappingError`] naming the place in the definition.
    pub fn to_tags(definition: &TagMapping, catalog: &Catalog) -> Result<Mapping, MappingError> {
        check::tags(definition, catalog)
    }

    /// Whether [`Mapping::prepare`] makes it faster.
    pub fn computes(&self) -> bool {
        !self.programs.is_empty()
    }

    /// Computes the expressions for these records at once. They are to be given to [`Mapping::apply`] next, all of them and in
    /// this order.
    pub fn prepare<'r>(&mut self, records: impl IntoIterator<Item = (&'r [u8], RecordContext<'r>)>) {
        self.programs.clear();
        for (record, context) in records {
            self.gather(record, &context);
        }
        self.programs.run();
    }

    /// A record that is not wanted, or cannot be read, needs nothing computed; `apply` will say why.
    fn gather(&mut self, record: &[u8], context: &RecordContext<'_>) {
        let Ok(record) = utf8(record) else { return self.programs.skip() };
        let Ok(findings) = self.finder.find(record, context) else { return self.programs.skip() };
        let passes = self.filters.iter().all(|filter| matches!(filter.holds(&findings, &mut self.text), Ok(true)));
        match passes {
            true => self.programs.gather(&findings),
            false => self.programs.skip(),
        }
    }

    /// What was computed of the record, by `prepare` or now.
    fn computed(&mut self, record: &[u8], context: &RecordContext<'_>) -> Gathered {
        if self.programs.is_empty() {
            return Gathered::default();
        }
        if let Some(gathered) = self.programs.take_next() {
            return gathered;
        }
        self.prepare([(record, *context)]);
        let gathered = self.programs.take_next().unwrap_or_default();
        self.programs.forget();
        gathered
    }

    /// Makes `line` the line of a record. It is whole only if the answer is [`Mapped::Line`].
    ///
    /// # Errors
    /// [`LineError`] if the record is not JSON, gives a wanted field twice, has no user or time, or a value that cannot be
    /// cast; its column is one of the record. Of a record that is filtered out, only the first two are noticed.
    pub fn apply(
        &mut self,
        record: &[u8],
        context: &RecordContext<'_>,
        line: &mut String,
    ) -> Result<Mapped, LineError> {
        line.clear();
        let gathered = self.computed(record, context);
        let findings = self.finder.find(utf8(record)?, context)?;
        for filter in &self.filters {
            if !filter.holds(&findings, &mut self.text)? {
                return Ok(Mapped::FilteredOut);
            }
        }
        if !self.programs.hold(gathered)? {
            return Ok(Mapped::FilteredOut);
        }
        let computed = Computed { programs: &self.programs, gathered };
        self.writer.write(&findings, computed, &mut self.text, line)?;
        Ok(Mapped::Line)
    }

    /// An error about the last line, as one about the record it was made of: its column is where the value stands there,
    /// or none if it does not come from the record.
    pub fn in_record(&self, error: LineError) -> LineError {
        let index = error.column.and_then(|column| self.writer.record_index(column.checked_sub(1)?));
        LineError { column: index.map(|index| index + 1), ..error }
    }
}
