//! Damaged Arrow streams, with memory counted: whatever the bytes are, reading them ends with an error or rows, never with a panic,
//! and takes no more memory than its limits say.
//!
//! A program of its own, since the allocator that counts is that of the whole program.

use arrow::array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, Int8Array, Int32Array, Int64Array, LargeListArray, ListArray,
    MapArray, RecordBatch, StringArray, StringViewArray, StructArray, TimestampMillisecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Int8Type, Int32Type};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use engine::catalog::{Activity, Column, ColumnType, Fact, Zone};
use engine::ids::TagId;
use engine::update::UpdateBatch;
use ingest::decode::arrow_stream::Limits;
use ingest::decode::column_body::{ColumnBodyReader, RowTarget};
use proptest::prelude::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::Once;

/// Counts what its thread has, and the most it had.
struct Counting;

thread_local! {
    /// Whether this thread reads a stream: a panic of the library that is caught then is not told, which takes memory.
    static READING: Cell<bool> = const { Cell::new(false) };
    static NOW: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn note(change: isize) {
    // A thread that ends has no counters any more.
    let _ = NOW.try_with(|now| {
        now.set(now.get() + change);
        let _ = MOST.try_with(|most| most.set(most.get().max(now.get())));
    });
}

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size as isize - layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LIMITS: Limits = Limits {
    head_bytes_max: 64 << 10,
    body_bytes_max: 1 << 20,
    decompressed_bytes_max: 2 << 20,
    dictionary_bytes_max: 1 << 20,
    values_max: 1 << 16,
    bare_rows_max: 0,
};

/// The limits, and a piece of rows as JSON and as updates.
const MEMORY_MAX: isize = 24 << 20;

const NOW_MICROS: i64 = 1_795_168_800_000_000;

fn fact() -> Fact {
    let column = |name: &str, column_type| Column { name: name.to_owned(), column_type };
    Fact {
        id: TagId::FIRST_DECLARED,
        columns: vec![
            column("page", ColumnType::String),
            column("price", ColumnType::Decimal { precision: 12, scale: 2 }),
            column("extra", ColumnType::Json),
        ],
        activity: Activity::default(),
        retention_days: None,
        deduplicate_days: None,
        zone: Zone::default(),
    }
}

fn rows(count: i64) -> RecordBatch {
    let rows = || 0..count;
    let lists = rows().map(|row| Some((0..row % 4).map(|item| Some(item as i32)).collect::<Vec<_>>()));
    let number: ArrayRef = Arc::new(rows().map(|row| (row % 3 > 0).then_some(row)).collect::<Int64Array>());
    let nested = StructArray::from(vec![(Arc::new(Field::new("n", DataType::Int64, true)), number.clone())]);
    let words: DictionaryArray<Int8Type> = rows().map(|row| ["home", "shop", "blog"][row as usize % 3]).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("user_id", Arc::new(rows().map(|row| Some(format!("user-{row}"))).collect::<StringArray>())),
        ("ts", Arc::new(rows().map(|row| Some(NOW_MICROS / 1000 - row)).collect::<TimestampMillisecondArray>())),
        ("page", Arc::new(words)),
        ("price", number),
        ("extra", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))),
        ("view", Arc::new(rows().map(|row| Some("v".repeat(row as usize % 30))).collect::<StringViewArray>())),
        ("flag", Arc::new(rows().map(|row| (row % 5 > 0).then_some(row % 2 == 0)).collect::<BooleanArray>())),
        ("nested", Arc::new(nested)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .expect("columns of one length")
}

fn body(counts: &[i64], compression: Option<CompressionType>) -> Vec<u8> {
    let options = IpcWriteOptions::default().try_with_compression(compression).expect("a codec");
    let mut writer =
        StreamWriter::try_new_with_options(Vec::new(), &rows(0).schema(), options).expect("a writer in memory");
    counts.iter().for_each(|count| writer.write(&rows(*count)).expect("written"));
    writer.into_inner().expect("written")
}

fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !READING.get() {
                told(panic);
            }
        }));
    });
}

/// Rows taken and refused, or why the body is refused, and the most memory that it took.
fn read(body: &[u8], chunk_len: usize) -> (Result<(u64, u64), String>, isize) {
    quiet();
    let before = NOW.with(Cell::get);
    MOST.with(|most| most.set(before));
    let read = || {
        let target = RowTarget::Events { fact: Box::new(fact()), now: NOW_MICROS };
        let (mut reader, mut batch) = (ColumnBodyReader::new(target, LIMITS), UpdateBatch::new());
        for mut chunk in body.chunks(chunk_len) {
            while reader.feed(&mut chunk, &mut batch).map_err(|error| error.to_string())? {
                batch.clear();
            }
        }
        let report = reader.finish().map_err(|error| error.to_string())?;
        Ok((report.accepted, report.rejected))
    };
    READING.set(true);
    let result = read();
    READING.set(false);
    (result, MOST.with(Cell::get) - before)
}

fn codec() -> impl Strategy<Value = Option<CompressionType>> {
    prop::sample::select(vec![None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)])
}

#[derive(Clone, Debug)]
enum Damage {
    /// A bit of a byte.
    Flip(prop::sample::Index, u8),
    /// Four bytes, where lengths often stand.
    Word(prop::sample::Index, u32),
    Cut(prop::sample::Index),
    /// Bytes from elsewhere.
    Copy(prop::sample::Index, prop::sample::Index, usize),
    Insert(prop::sample::Index, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    let word = prop_oneof![any::<u32>(), Just(u32::MAX), Just(i32::MAX as u32), 0..300u32, Just(1 << 20)];
    prop_oneof![
        4 => (index(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        4 => (index(), word).prop_map(|(at, word)| Damage::Word(at, word)),
        1 => index().prop_map(Damage::Cut),
        1 => (index(), index(), 1..64usize).prop_map(|(from, to, len)| Damage::Copy(from, to, len)),
        1 => (index(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
    ]
}

fn apply(damage: &Damage, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    match damage {
        Damage::Flip(at, bit) => {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        Damage::Word(at, word) => {
            let at = at.index(bytes.len()) & !3;
            let end = (at + 4).min(bytes.len());
            bytes[at..end].copy_from_slice(&word.to_le_bytes()[..end - at]);
        }
        Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Damage::Copy(from, to, len) => {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let len = (*len).min(bytes.len() - from.max(to));
            bytes.copy_within(from..from + len, to);
        }
        Damage::Insert(at, byte) => {
            let at = at.index(bytes.len());
            bytes.insert(at, *byte);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damage_is_an_error_or_rows(
        counts in prop::collection::vec(0..60i64, 1..4),
        codec in codec(),
        damages in prop::collection::vec(damage(), 1..4),
        chunk_len in prop::sample::select(vec![7usize, 1000, 1 << 20]),
    ) {
        let mut bytes = body(&counts, codec);
        damages.iter().for_each(|damage| apply(damage, &mut bytes));
        let (result, memory) = read(&bytes, chunk_len);
        prop_assert!(memory < MEMORY_MAX, "{} bytes", memory);
        if let Err(why) = result {
            prop_assert!(!why.is_empty());
        }
    }

    #[test]
    fn whole_streams_are_taken(counts in prop::collection::vec(0..60i64, 1..4), codec in codec(), chunk_len in 1..5000usize) {
        let (result, memory) = read(&body(&counts, codec), chunk_len);
        prop_assert_eq!(result, Ok((counts.iter().sum::<i64>() as u64, 0)));
        prop_assert!(memory < MEMORY_MAX, "{} bytes", memory);
    }

    #[test]
    fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..400), framed in any::<bool>()) {
        let mut all = Vec::new();
        if framed {
            all.extend_from_slice(&[0xff; 4]);
            all.extend_from_slice(&(bytes.len() as u32 & !7).to_le_bytes());
        }
        all.extend_from_slice(&bytes);
        let (result, memory) = read(&all, 64);
        prop_assert!(result.is_err() && memory < MEMORY_MAX, "{:?} {}", result, memory);
    }
}

/// A head that names the same few bytes for each of its columns.
#[test]
fn columns_that_share_their_bytes_take_no_memory() {
    const ROWS: usize = 1 << 16;
    let words = || -> ArrayRef {
        let values = Arc::new(StringArray::from(vec!["w"]));
        Arc::new(DictionaryArray::new(Int8Array::from(vec![0; ROWS]), values))
    };
    let mut columns: Vec<(String, ArrayRef)> =
        vec![("user_id".into(), words()), ("ts".into(), Arc::new(Int64Array::from(vec![NOW_MICROS / 1000; ROWS])))];
    columns.extend((0..100).map(|index| (format!("c{index}"), words())));
    let rows = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema()).expect("a writer in memory");
    writer.write(&rows).expect("written");
    let body = overlapped(&writer.into_inner().expect("written"));
    drop(rows);
    assert!(body.len() < 600 << 10, "{}", body.len());
    let (result, memory) = read(&body, 1 << 16);
    let why = result.expect_err("no columns share their bytes");
    assert!(why.contains("its buffers overlap"), "{why}");
    assert!(memory < 4 << 20, "{memory} bytes");
}

/// The stream with all buffers of its rows at the begin of their body, which then ends behind the longest.
fn overlapped(stream: &[u8]) -> Vec<u8> {
    const PREFIX: usize = 8;
    let mut out = Vec::new();
    let mut rest = stream;
    loop {
        let head_len = u32::from_le_bytes(rest[4..PREFIX].try_into().expect("four bytes")) as usize;
        let (head, behind) = rest[PREFIX..].split_at(head_len);
        let message = arrow::ipc::root_as_message(head).expect("a head");
        let body_len = message.bodyLength() as usize;
        let Some(batch) = message.header_as_record_batch() else {
            out.extend_from_slice(&rest[..PREFIX + head_len + body_len]);
            rest = &behind[body_len..];
            continue;
        };
        let buffers = batch.buffers().expect("buffers");
        let longest =
            buffers.iter().map(|buffer| buffer.length() as usize).max().expect("a buffer").next_multiple_of(64);
        let first = buffers.bytes().as_ptr() as usize - head.as_ptr() as usize;
        let mut head = head.to_vec();
        for at in (first..first + buffers.bytes().len()).step_by(16) {
            head[at..at + 8].copy_from_slice(&0u64.to_le_bytes());
        }
        let says = (body_len as u64).to_le_bytes();
        let at = head.windows(8).position(|window| window == says).expect("the length of the body");
        head[at..at + 8].copy_from_slice(&(longest as u64).to_le_bytes());
        out.extend_from_slice(&rest[..PREFIX]);
        out.extend_from_slice(&head);
        out.extend_from_slice(&behind[..longest]);
        return out;
    }
}

/// A million rows that share one long text: each of them would be an event with that text.
#[test]
fn rows_that_share_a_text_take_no_more_memory() {
    let text = "x".repeat(500_000);
    let count = 2000;
    let pages: DictionaryArray<Int32Type> = std::iter::repeat_n(Some(text.as_str()), count).collect();
    assert_eq!(pages.values().len(), 1);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("user_id", Arc::new(StringArray::from(vec!["u"; count]))),
        ("ts", Arc::new(Int64Array::from(vec![NOW_MICROS / 1000; count]))),
        ("page", Arc::new(pages)),
    ];
    let rows = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema()).expect("a writer in memory");
    writer.write(&rows).expect("written");
    let body = writer.into_inner().expect("written");
    let (result, memory) = read(&body, 1 << 16);
    assert_eq!(result, Ok((count as u64, 0)));
    assert!(memory < MEMORY_MAX, "{memory} bytes");
}

/// A long list of one shared text is refused unseen; the short ones beside it must not be written out with it.
#[test]
fn lists_beside_a_long_one_take_no_more_memory() {
    const LONG: usize = 20_000;
    let text = "x".repeat(10_000);
    let words = || -> ArrayRef {
        let values = Arc::new(StringArray::from(vec![text.as_str()]));
        Arc::new(DictionaryArray::new(Int32Array::from(vec![0; LONG + 9]), values))
    };
    let item = Arc::new(Field::new("item", words().data_type().clone(), true));
    let lengths = || std::iter::once(LONG).chain([1; 9]);
    let keys: ArrayRef = Arc::new((0..LONG + 9).map(|key| Some(key.to_string())).collect::<StringArray>());
    let entries = StructArray::from(vec![
        (Arc::new(Field::new("keys", DataType::Utf8, false)), keys),
        (Arc::new(Field::new("values", words().data_type().clone(), true)), words()),
    ]);
    let entry = Arc::new(Field::new("entries", entries.data_type().clone(), false));
    let shapes: [ArrayRef; 3] = [
        Arc::new(ListArray::new(item.clone(), OffsetBuffer::from_lengths(lengths()), words(), None)),
        Arc::new(LargeListArray::new(item, OffsetBuffer::from_lengths(lengths()), words(), None)),
        Arc::new(MapArray::new(entry, OffsetBuffer::from_lengths(lengths()), entries, None, false)),
    ];
    for lists in shapes {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("user_id", Arc::new(StringArray::from(vec!["u"; 10]))),
            ("ts", Arc::new(Int64Array::from(vec![NOW_MICROS / 1000; 10]))),
            ("extra", lists),
        ];
        let rows = RecordBatch::try_from_iter(columns).expect("columns of one length");
        let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema()).expect("a writer in memory");
        writer.write(&rows).expect("written");
        let (result, memory) = read(&writer.into_inner().expect("written"), 1 << 16);
        assert_eq!(result, Ok((9, 1)));
        assert!(memory < MEMORY_MAX, "{memory} bytes");
    }
}
