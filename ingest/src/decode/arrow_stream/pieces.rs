//! A record batch in pieces of bounded size.
//!
//! A message is bounded, what its rows mean is not: a dictionary or a view lets a million rows share one long text, and each of
//! them is an event with that text. So rows are weighed by what they stand for before they are decoded, a piece holds rows up to
//! a weight, and a row that alone is heavier than a line can be is refused unseen. Weights depend on the batch alone, so pieces
//! of a body sent again are the same.

use crate::decode::LINE_BYTES_MAX;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use std::ops::Range;

/// What a row weighs besides its values.
const ROW_BYTES: usize = 32;
/// What a number, a time or NULL weighs: about its text.
const VALUE_BYTES: usize = 12;

/// Cuts a batch.
#[derive(Debug)]
pub struct Pieces {
    rows: RecordBatch,
    weighers: Vec<Weigher>,
    /// Of each row, what does not differ.
    fixed: usize,
    next: usize,
}

/// Rows, or one that is too heavy.
#[derive(Debug)]
pub enum Piece {
    /// These rows; a slice of the batch.
    Rows {
        /// The number of the first of them in the batch, from 0.
        first: usize,
        /// The rows.
        rows: RecordBatch,
        /// What they weigh, in bytes.
        weight: usize,
    },
    /// A row with more than a line can hold.
    TooLong {
        /// Its number in the batch, from 0.
        row: usize,
        /// What it weighs, in bytes.
        weight: usize,
    },
}

impl Pieces {
    /// All rows of a batch.
    pub fn new(rows: RecordBatch) -> Pieces {
        let (mut weighers, mut fixed) = (Vec::new(), ROW_BYTES);
        for column in rows.columns() {
            match Weigher::of(column) {
                Weigher::Fixed(bytes) => fixed = fixed.saturating_add(bytes),
                weigher => weighers.push(weigher),
            }
        }
        Pieces { rows, weighers, fixed, next: 0 }
    }

    /// How many rows the batch has.
    pub fn row_count(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether all rows were given out.
    pub fn is_done(&self) -> bool {
        self.next == self.rows.num_rows()
    }

    /// The next rows: those before the one that would make them heavier than `most`, at least one.
    pub fn next(&mut self, most: usize) -> Option<Piece> {
        if self.is_done() {
            return None;
        }
        let (first, mut weight) = (self.next, 0usize);
        while !self.is_done() {
            let row = self.weight(self.next);
            if row > LINE_BYTES_MAX {
                if self.next > first {
                    break;
                }
                self.next += 1;
                return Some(Piece::TooLong { row: first, weight: row });
            }
            if self.next > first && weight + row > most {
                break;
            }
            weight += row;
            self.next += 1;
        }
        Some(Piece::Rows { first, rows: self.rows.slice(first, self.next - first), weight })
    }

    fn weight(&self, row: usize) -> usize {
        let weigh = |sum: usize, weigher: &Weigher| sum.saturating_add(weigher.weigh(row..row + 1));
        self.weighers.iter().fold(self.fixed, weigh)
    }
}

/// Weighs rows of an array.
#[derive(Debug)]
enum Weigher {
    /// Each value the same.
    Fixed(usize),
    /// Behind one another; NULLs may hide bytes, which then weigh too.
    Ends(ArrayRef),
    Views(ArrayRef),
    Dictionary {
        keys: Vec<usize>,
        values: Box<Weigher>,
    },
    List(ArrayRef, Box<Weigher>),
    FixedList(usize, Box<Weigher>),
    Struct(Vec<Weigher>),
}

impl Weigher {
    fn of(array: &ArrayRef) -> Weigher {
        use DataType as T;
        match array.data_type() {
            T::Utf8 | T::LargeUtf8 | T::Binary | T::LargeBinary => Weigher::Ends(array.clone()),
            T::Utf8View | T::BinaryView => Weigher::Views(array.clone()),
            T::FixedSizeBinary(size) => Weigher::Fixed(usize::try_from(*size).unwrap_or(0).saturating_mul(2)),
            T::Dictionary(..) => {
                let dictionary = array.as_any_dictionary();
                let values = Weigher::of(dictionary.values());
                match values {
                    Weigher::Fixed(bytes) => Weigher::Fixed(bytes),
                    _ if dictionary.values().is_empty() => Weigher::Fixed(VALUE_BYTES),
                    values => Weigher::Dictionary { keys: dictionary.normalized_keys(), values: Box::new(values) },
                }
            }
            T::List(_) => Weigher::List(array.clone(), Box::new(Weigher::of(array.as_list::<i32>().values()))),
            T::LargeList(_) => Weigher::List(array.clone(), Box::new(Weigher::of(array.as_list::<i64>().values()))),
            T::Map(..) => {
                let entries = array.as_map().entries();
                let weighers = entries.columns().iter().map(Weigher::of).collect();
                Weigher::List(array.clone(), Box::new(Weigher::Struct(weighers)))
            }
            T::FixedSizeList(_, size) => {
                let values = Weigher::of(array.as_fixed_size_list().values());
                Weigher::FixedList(usize::try_from(*size).unwrap_or(0), Box::new(values))
            }
            T::Struct(_) => Weigher::Struct(array.as_struct().columns().iter().map(Weigher::of).collect()),
            _ => Weigher::Fixed(VALUE_BYTES),
        }
    }

    fn weigh(&self, rows: Range<usize>) -> usize {
        let count = rows.len();
        let own = count.saturating_mul(VALUE_BYTES);
        match self {
            Weigher::Fixed(bytes) => count.saturating_mul(*bytes),
            Weigher::Ends(array) => own.saturating_add(between(array, rows).len()),
            Weigher::Views(array) => {
                // A view begins with its length.
                let views = match array.as_string_view_opt() {
                    Some(array) => array.views(),
                    None => array.as_binary_view().views(),
                };
                views[rows].iter().fold(own, |sum, view| sum.saturating_add(*view as u32 as usize))
            }
            Weigher::Dictionary { keys, values } => {
                keys[rows].iter().fold(0, |sum: usize, key| sum.saturating_add(values.weigh(*key..*key + 1)))
            }
            Weigher::List(array, values) => own.saturating_add(values.weigh(between(array, rows))),
            Weigher::FixedList(size, values) => {
                own.saturating_add(values.weigh(rows.start.saturating_mul(*size)..rows.end.saturating_mul(*size)))
            }
            Weigher::Struct(fields) => {
                fields.iter().fold(own, |sum, field| sum.saturating_add(field.weigh(rows.clone())))
            }
        }
    }
}

/// What lies between the ends of rows, in an array that says where each ends.
fn between(array: &ArrayRef, rows: Range<usize>) -> Range<usize> {
    fn of(offsets: &[i32], rows: Range<usize>) -> Range<usize> {
        offsets[rows.start] as usize..offsets[rows.end] as usize
    }
    fn of_large(offsets: &[i64], rows: Range<usize>) -> Range<usize> {
        offsets[rows.start] as usize..offsets[rows.end] as usize
    }
    match array.data_type() {
        DataType::Utf8 => of(array.as_string::<i32>().value_offsets(), rows),
        DataType::Binary => of(array.as_binary::<i32>().value_offsets(), rows),
        DataType::List(_) => of(array.as_list::<i32>().value_offsets(), rows),
        DataType::Map(..) => of(array.as_map().value_offsets(), rows),
        DataType::LargeUtf8 => of_large(array.as_string::<i64>().value_offsets(), rows),
        DataType::LargeBinary => of_large(array.as_binary::<i64>().value_offsets(), rows),
        DataType::LargeList(_) => of_large(array.as_list::<i64>().value_offsets(), rows),
        _ => 0..0,
    }
}
