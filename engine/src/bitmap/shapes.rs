//! Named container shapes on both sides of every limit of the format, for tests.

use roaring::RoaringBitmap;

/// A bitmap's bytes in the portable format.
pub(crate) fn bytes(bitmap: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(bitmap.serialized_size());
    bitmap.serialize_into(&mut bytes).expect("a vector takes all bytes");
    bytes
}

/// A bitmap's bytes with runs where they are smaller.
pub(crate) fn run_bytes(bitmap: &RoaringBitmap) -> Vec<u8> {
    let mut bitmap = bitmap.clone();
    bitmap.optimize();
    bytes(&bitmap)
}

/// Every `step`th position of a chunk, `count` of them.
fn spread(chunk: u32, step: u32, count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(move |index| chunk << 16 | (index * step) & 0xFFFF)
}

/// Named bitmaps within the first few chunks, and one in the last.
pub(crate) fn named() -> Vec<(&'static str, RoaringBitmap)> {
    let all = |range: std::ops::Range<u32>| RoaringBitmap::from_iter(range);
    vec![
        ("empty", RoaringBitmap::new()),
        ("first position", RoaringBitmap::from_iter([0])),
        ("last position", RoaringBitmap::from_iter([u32::MAX])),
        ("4095 spread", spread(0, 16, 4095).collect()),
        ("4096 spread", spread(0, 15, 4096).collect()),
        ("4097 spread", spread(0, 15, 4097).collect()),
        ("every second", spread(0, 2, 32_768).collect()),
        ("full chunk", all(0..65_536)),
        ("full but one", all(0..65_535)),
        ("full but the first", all(1..65_536)),
        ("one run across chunks", all(65_000..200_000)),
        ("runs of 3", (0..65_536).filter(|slot| slot % 9 < 3).collect()),
        ("long runs", (0..65_536).filter(|slot| slot % 9_000 < 5_000).collect()),
        ("few in many chunks", (0..40).map(|chunk| (chunk << 16) | (chunk * 1_571)).collect()),
        (
            "mixed",
            spread(0, 3, 20_000).chain(spread(1, 100, 500)).chain((2 << 16)..(3 << 16)).chain([9 << 16]).collect(),
        ),
    ]
}
