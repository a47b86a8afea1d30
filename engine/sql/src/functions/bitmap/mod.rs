//! Bitmaps as values of SQL: sets of numbers up to 2^64 - 1, among them the numbers of users, and sums and comparisons of numbers
//! that are kept in bit slices.
//!
//! A bitmap is a `Binary` that is marked as [`types::BITMAP`]; its bytes are those of [`engine::bitmap::wide`], numbers in bit slices are
//! [`types::SLICED`] with those of [`engine::bitmap::sliced`]. Each function is an entry of a table with all its names, the first of
//! which is ours; `docs/bitmaps.md` tells them by engine. What text names is a user: its number is shard × 2^32 + slot, as in
//! bitmaps that are exported.
//!
//! * [`types`]: Arrow types, and what a function takes. * [`people`]: users by number.
//! * [`scalar`]: how a function of rows is called; [`call`]: its arguments; [`answer`]: what it gives.
//! * [`build`], [`convert`], [`algebra`], [`members`], [`parts`], [`sliced`]: the functions. [`hash`]: a hash that others know.
//! * [`aggregate`]: functions of groups of rows.

mod aggregate;
mod algebra;
mod answer;
mod build;
mod call;
mod convert;
mod hash;
mod members;
mod parts;
mod people;
mod scalar;
mod sliced;
pub(crate) mod types;

use arrow::datatypes::DataType;
use datafusion::execution::SessionStateBuilder;
use engine::audience::ops::QueryContext;
use engine::store::Snapshot;
use people::People;
use scalar::Function;
use std::sync::{Arc, LazyLock};

/// All of them.
static FUNCTIONS: LazyLock<Vec<Function>> = LazyLock::new(|| {
    let themes =
        [build::functions(), convert::functions(), algebra::functions(), members::functions(), parts::functions()];
    themes.into_iter().flatten().chain(sliced::functions()).collect()
});

/// Adds them to a session over this snapshot; `context` ends what they do.
pub(crate) fn register(builder: &mut SessionStateBuilder, snapshot: &Snapshot, context: &QueryContext) {
    let people = Arc::new(People::new(snapshot.clone(), context.clone()));
    let functions = builder.scalar_functions().get_or_insert_default();
    functions.extend(FUNCTIONS.iter().map(|function| Arc::new(scalar::udf(function, &people))));
    let aggregates = builder.aggregate_functions().get_or_insert_default();
    aggregates.extend(aggregate::all().iter().map(|function| Arc::new(aggregate::udf(function, &people))));
}

/// What a function of rows gives, by its own name, if it is one of them.
pub(crate) fn gives(name: &str) -> Option<DataType> {
    FUNCTIONS.iter().find(|function| function.name() == name).map(Function::gives)
}

/// Names as the trait of functions wants them: the first is the function's own, the others its aliases.
fn aliases(names: &[&str]) -> Vec<String> {
    names.iter().skip(1).map(|name| (*name).to_owned()).collect()
}
