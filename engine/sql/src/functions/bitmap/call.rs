//! The arguments of a call, row by row.

use super::people::{People, nobody};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type, UInt64Type};
use datafusion::common::exec_err;
use datafusion::error::Result;
use engine::bitmap::sliced::Sliced;
use engine::bitmap::wide::WideView;
use roaring::RoaringTreemap;
use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

/// One argument: a value a row, or one for all.
pub(super) struct Argument {
    pub(super) array: ArrayRef,
    pub(super) is_constant: bool,
    /// What a constant means, so that it is read once.
    set: OnceCell<RoaringTreemap>,
    sliced: OnceCell<Sliced>,
    /// What a row means whose bytes are those of the row before.
    repeated: RefCell<Option<(usize, Rc<RoaringTreemap>)>>,
}

/// What a function is called with.
pub(super) struct Call<'c> {
    pub(super) arguments: &'c [Argument],
    pub(super) people: &'c People,
}

/// A bitmap that is only looked at.
pub(super) enum Seen<'a> {
    Set(&'a RoaringTreemap),
    Shared(Rc<RoaringTreemap>),
    Bytes(WideView<'a>),
}

impl Argument {
    pub(super) fn new(array: ArrayRef, is_constant: bool) -> Argument {
        Argument { array, is_constant, set: OnceCell::new(), sliced: OnceCell::new(), repeated: RefCell::default() }
    }

    fn row(&self, row: usize) -> usize {
        if self.is_constant { 0 } else { row }
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        self.array.is_null(self.row(row))
    }
}

impl Seen<'_> {
    pub(super) fn len(&self) -> u128 {
        match self {
            Seen::Set(set) => u128::from(set.len()),
            Seen::Shared(set) => u128::from(set.len()),
            Seen::Bytes(view) => view.len(),
        }
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        match self {
            Seen::Set(set) => set.contains(number),
            Seen::Shared(set) => set.contains(number),
            Seen::Bytes(view) => view.contains(number),
        }
    }

    pub(super) fn first(&self) -> Option<u64> {
        match self {
            Seen::Set(set) => set.min(),
            Seen::Shared(set) => set.min(),
            Seen::Bytes(view) => view.first(),
        }
    }

    pub(super) fn last(&self) -> Option<u64> {
        match self {
            Seen::Set(set) => set.max(),
            Seen::Shared(set) => set.max(),
            Seen::Bytes(view) => view.last(),
        }
    }
}

/// The set that bytes are.
pub(super) fn decoded(bytes: &[u8], place: usize) -> Result<WideView<'_>> {
    WideView::new(bytes).or_else(|error| exec_err!("argument {place} is {error}"))
}

/// The numbers that bytes are.
pub(super) fn decoded_sliced(bytes: &[u8], place: usize) -> Result<Sliced> {
    Sliced::decode(bytes).or_else(|error| exec_err!("argument {place} is {error}"))
}

impl<'c> Call<'c> {
    /// Whether an argument that may be left out is there.
    pub(super) fn has(&self, at: usize) -> bool {
        at < self.arguments.len()
    }

    pub(super) fn is_null(&self, at: usize, row: usize) -> bool {
        self.arguments[at].is_null(row)
    }

    pub(super) fn kind(&self, at: usize) -> &DataType {
        self.arguments[at].array.data_type()
    }

    pub(super) fn bytes(&self, at: usize, row: usize) -> &'c [u8] {
        let argument = &self.arguments[at];
        argument.array.as_binary::<i32>().value(argument.row(row))
    }

    pub(super) fn text(&self, at: usize, row: usize) -> &'c str {
        let argument = &self.arguments[at];
        argument.array.as_string::<i32>().value(argument.row(row))
    }

    pub(super) fn flag(&self, at: usize, row: usize) -> bool {
        let argument = &self.arguments[at];
        argument.array.as_boolean().value(argument.row(row))
    }

    /// A bitmap to compute with.
    ///
    /// # Errors
    /// If the bytes are something else.
    pub(super) fn set(&self, at: usize, row: usize) -> Result<Cow<'c, RoaringTreemap>> {
        if self.arguments[at].is_constant {
            return self.constant(at).map(Cow::Borrowed);
        }
        Ok(Cow::Owned(decoded(self.bytes(at, row), at + 1)?.to_set()))
    }

    fn constant(&self, at: usize) -> Result<&'c RoaringTreemap> {
        let argument = &self.arguments[at];
        if let Some(set) = argument.set.get() {
            return Ok(set);
        }
        let set = decoded(self.bytes(at, 0), at + 1)?.to_set();
        Ok(argument.set.get_or_init(|| set))
    }

    /// A bitmap to look at.
    ///
    /// # Errors
    /// If the bytes are something else.
    pub(super) fn seen(&self, at: usize, row: usize) -> Result<Seen<'c>> {
        if self.arguments[at].is_constant {
            return self.constant(at).map(Seen::Set);
        }
        let bytes = self.bytes(at, row);
        // Whoever joins a bitmap to rows has it in each of them.
        if row == 0 || self.bytes(at, row - 1) != bytes {
            return decoded(bytes, at + 1).map(Seen::Bytes);
        }
        let mut repeated = self.arguments[at].repeated.borrow_mut();
        let known = repeated.as_ref().filter(|(known, _)| *known + 1 == row || self.bytes(at, *known) == bytes);
        let set = match known {
            Some((_, set)) => Rc::clone(set),
            None => Rc::new(decoded(bytes, at + 1)?.to_set()),
        };
        *repeated = Some((row, Rc::clone(&set)));
        Ok(Seen::Shared(set))
    }

    /// Numbers in bit slices.
    ///
    /// # Errors
    /// If the bytes are something else.
    pub(super) fn sliced(&self, at: usize, row: usize) -> Result<Cow<'c, Sliced>> {
        let argument = &self.arguments[at];
        if !argument.is_constant {
            return decoded_sliced(self.bytes(at, row), at + 1).map(Cow::Owned);
        }
        if let Some(sliced) = argument.sliced.get() {
            return Ok(Cow::Borrowed(sliced));
        }
        let sliced = decoded_sliced(self.bytes(at, 0), at + 1)?;
        Ok(Cow::Borrowed(argument.sliced.get_or_init(|| sliced)))
    }

    pub(super) fn integer(&self, at: usize, row: usize) -> i128 {
        let argument = &self.arguments[at];
        integer(&argument.array, argument.row(row))
    }

    /// A number that a bitmap may hold: from 0 on.
    ///
    /// # Errors
    /// If it is negative.
    pub(super) fn number(&self, at: usize, row: usize) -> Result<u64> {
        natural(self.integer(at, row))
    }

    /// A member; `None` if it is the id of nobody.
    ///
    /// # Errors
    /// If it is negative, or the dictionary is damaged.
    pub(super) fn member(&self, at: usize, row: usize) -> Result<Option<u64>> {
        if self.kind(at) == &DataType::Utf8 {
            self.people.number_of(self.text(at, row))
        } else {
            self.number(at, row).map(Some)
        }
    }

    /// A member that there must be.
    ///
    /// # Errors
    /// As above, and if it is the id of nobody.
    pub(super) fn known_member(&self, at: usize, row: usize) -> Result<u64> {
        match self.member(at, row)? {
            Some(number) => Ok(number),
            None => nobody(self.text(at, row)),
        }
    }

    /// The members of a list, NULLs left out.
    ///
    /// # Errors
    /// As of one.
    pub(super) fn members(&self, at: usize, row: usize) -> Result<Vec<u64>> {
        let items = self.items(at, row);
        if items.data_type() == &DataType::Utf8 {
            return Ok(self.people.numbers_of(items.as_string::<i32>())?.into_iter().flatten().collect());
        }
        (0..items.len()).filter(|at| items.is_valid(*at)).map(|at| natural(integer(&items, at))).collect()
    }

    /// The integers of a list; `None` for NULL.
    pub(super) fn integers(&self, at: usize, row: usize) -> Vec<Option<i128>> {
        let items = self.items(at, row);
        (0..items.len()).map(|at| items.is_valid(at).then(|| integer(&items, at))).collect()
    }

    /// What is in a list.
    pub(super) fn items(&self, at: usize, row: usize) -> ArrayRef {
        let argument = &self.arguments[at];
        argument.array.as_list::<i32>().value(argument.row(row))
    }
}

/// An integer of any width.
pub(super) fn integer(array: &ArrayRef, row: usize) -> i128 {
    match array.data_type() {
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).into(),
        _ => array.as_primitive::<Int64Type>().value(row).into(),
    }
}

/// A number that a bitmap may hold.
///
/// # Errors
/// If it is negative.
pub(super) fn natural(number: i128) -> Result<u64> {
    u64::try_from(number).or_else(|_| exec_err!("{number} cannot be in a bitmap: its numbers go from 0 to 2^64 - 1"))
}
