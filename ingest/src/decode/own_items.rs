//! Lists and maps that are slices, with no more items than their own rows have.
//!
//! A slice of a list shares the items of the whole. Whoever brings items to another type would do so with all of them for each
//! slice, and a dictionary makes that far more than was sent.

use arrow::array::{Array, GenericListArray, MapArray, OffsetSizeTrait};
use arrow::buffer::OffsetBuffer;

/// The same rows. Costs a walk over their offsets; items are not copied.
pub(crate) fn own_items<O: OffsetSizeTrait>(list: &GenericListArray<O>) -> GenericListArray<O> {
    let (field, offsets, items, nulls) = list.clone().into_parts();
    let (offsets, first, count) = from_zero(&offsets);
    GenericListArray::new(field, offsets, items.slice(first, count), nulls)
}

/// The same rows. Costs a walk over their offsets; entries are not copied.
pub(crate) fn own_entries(map: &MapArray) -> MapArray {
    let (field, offsets, entries, nulls, is_sorted) = map.clone().into_parts();
    let (offsets, first, count) = from_zero(&offsets);
    MapArray::new(field, offsets, entries.slice(first, count), nulls, is_sorted)
}

/// Offsets that begin with 0, where the first was, and how many items they span.
fn from_zero<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>) -> (OffsetBuffer<O>, usize, usize) {
    // There is one at least.
    let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
    let moved: Vec<O> = offsets.iter().map(|offset| *offset - first).collect();
    (OffsetBuffer::new(moved.into()), first.as_usize(), (last - first).as_usize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Builder, LargeListArray, ListArray, MapBuilder, StringBuilder};
    use arrow::datatypes::Int32Type;

    #[test]
    fn slices_keep_their_rows_and_nothing_else() {
        let rows = || (0..20).map(|row| (row % 5 != 3).then(|| vec![Some(row); row as usize % 4]));
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>(rows());
        let large = LargeListArray::from_iter_primitive::<Int32Type, _, _>(rows());
        let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
        for row in 0..20 {
            (0..row % 3).for_each(|entry| {
                map.keys().append_value(format!("k{entry}"));
                map.values().append_value(row);
            });
            map.append(row % 4 != 0).expect("as many keys as values");
        }
        let map = map.finish();
        for (first, count) in [(0, 20), (4, 7), (19, 1), (20, 0), (0, 0)] {
            let (list, large) = (list.slice(first, count), large.slice(first, count));
            let (own, own_large) = (own_items(&list), own_items(&large));
            assert_eq!((&own, &own_large), (&list, &large));
            let expected: i32 = (0..count).map(|row| list.value_length(row)).sum();
            assert_eq!((own.values().len(), own_large.values().len()), (expected as usize, expected as usize));
            let map = map.slice(first, count);
            let expected: usize = (0..count).map(|row| map.value_length(row) as usize).sum();
            assert_eq!(own_entries(&map), map);
            assert_eq!(own_entries(&map).entries().len(), expected);
        }
    }
}
