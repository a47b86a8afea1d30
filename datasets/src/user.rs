//! A user of any data set, as plain values.

use engine::catalog::Catalog;
use engine::update::UpdateBatch;

/// A value of one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of an `enum`.
    Text(String),
    /// Of a `number`, in the tag's unit.
    Number(i64),
    /// Of a `flag`.
    Flag(bool),
    /// All values of a `set`.
    Set(Vec<String>),
}

/// A user with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The id; never empty.
    pub id: String,
    /// One per tag of [`crate::DataSet::tags`], in that order; `None` is NULL.
    pub values: Vec<Option<Value>>,
}

/// Writes users of one data set into batches for one catalog.
#[derive(Clone, Debug)]
pub struct BatchFiller {}

impl BatchFiller {
    /// A filler for the tags of `data_set` as `catalog` numbers them; `None` if the catalog lacks one or has it with
    /// another type.
    pub fn new(data_set: crate::DataSet, catalog: &Catalog) -> Option<Self> {
        let _ = (data_set, catalog);
        todo!()
    }

    /// Appends a user.
    pub fn push(&self, user: &User, batch: &mut UpdateBatch) {
        let _ = (user, batch);
        todo!()
    }
}
