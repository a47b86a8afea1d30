use super::pieces::{Piece, Pieces};
use super::*;
use arrow::array::*;
use arrow::datatypes::{DataType, Field, Fields, Int8Type, Int32Type};
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use proptest::prelude::*;

/// Columns of every shape that is read.
fn rows(count: usize, seed: usize) -> RecordBatch {
    let text = |row: usize| (!(row + seed).is_multiple_of(5)).then(|| "ab".repeat((row * 7 + seed) % 23));
    let number = |row: usize| (!(row + seed).is_multiple_of(7)).then_some((row * 31 + seed) as i32);
    let list = |row: usize| number(row).map(|number| (0..number % 4).map(Some).collect::<Vec<_>>());
    let texts = || (0..count).map(text);
    let numbers = || (0..count).map(number);
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    for row in 0..count {
        (0..row % 3).for_each(|entry| {
            map.keys().append_value(format!("k{entry}"));
            map.values().append_value(row as i32);
        });
        map.append(row % 4 != 0).expect("as many keys as values");
    }
    let mut word = StringDictionaryBuilder::<Int8Type>::new();
    texts().for_each(|text| word.append_option(text));
    let inner: Fields = vec![Field::new("x", DataType::Int32, true), Field::new("y", DataType::Utf8, true)].into();
    let parts: Vec<ArrayRef> =
        vec![Arc::new(numbers().collect::<Int32Array>()), Arc::new(texts().collect::<StringArray>())];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("text", Arc::new(texts().collect::<StringArray>())),
        ("large", Arc::new(texts().collect::<LargeStringArray>())),
        ("view", Arc::new(texts().collect::<StringViewArray>())),
        ("bytes", Arc::new(texts().map(|text| text.map(String::into_bytes)).collect::<BinaryArray>())),
        ("number", Arc::new(numbers().collect::<Int32Array>())),
        ("flag", Arc::new(numbers().map(|number| number.map(|number| number % 2 == 0)).collect::<BooleanArray>())),
        ("time", Arc::new(numbers().map(|number| number.map(i64::from)).collect::<TimestampMicrosecondArray>())),
        ("word", Arc::new(word.finish())),
        ("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>((0..count).map(list)))),
        (
            "pair",
            Arc::new(FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
                (0..count).map(|row| number(row).map(|number| vec![Some(number), None])),
                2,
            )),
        ),
        ("map", Arc::new(map.finish())),
        ("struct", Arc::new(StructArray::new(inner, parts, None))),
        ("null", Arc::new(NullArray::new(count))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .expect("columns of one length")
}

fn stream(batches: &[RecordBatch], compression: Option<CompressionType>) -> Vec<u8> {
    let options = IpcWriteOptions::default().try_with_compression(compression).expect("a codec");
    let mut writer =
        StreamWriter::try_new_with_options(Vec::new(), &batches[0].schema(), options).expect("a writer in memory");
    batches.iter().for_each(|batch| writer.write(batch).expect("written"));
    writer.into_inner().expect("written")
}

/// What the stream holds, read in chunks of such a size.
fn read(bytes: &[u8], chunk_len: usize) -> Result<Vec<RecordBatch>, StreamError> {
    let (mut stream, mut batches) = (ArrowStream::new(Limits::default()), Vec::new());
    for mut chunk in bytes.chunks(chunk_len) {
        while let Some(batch) = stream.feed(&mut chunk)? {
            batches.push(batch);
        }
        assert!(chunk.is_empty());
    }
    stream.finish()?;
    Ok(batches)
}

const CODECS: [Option<CompressionType>; 3] = [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)];

#[test]
fn streams_are_read_as_arrow_reads_them() {
    for codec in CODECS {
        let batches = [rows(100, 1), rows(0, 0), rows(1, 5), rows(1000, 2)];
        let bytes = stream(&batches, codec);
        let expected: Vec<RecordBatch> = StreamReader::try_new(&bytes[..], None)
            .expect("a stream")
            .map(|batch| batch.expect("a batch"))
            .filter(|batch| batch.num_rows() > 0)
            .collect();
        for chunk_len in [1, 7, 1000, bytes.len()] {
            assert_eq!(read(&bytes, chunk_len).expect("a good stream"), expected, "{codec:?} {chunk_len}");
        }
    }
}

#[test]
fn what_is_no_whole_stream_is_named() {
    let bytes = stream(&[rows(10, 1), rows(10, 2)], None);
    let said = |bytes: &[u8]| read(bytes, 1 << 20).expect_err("damaged").to_string();
    assert!(said(b"").contains("message 1 of the Arrow stream, at byte 0: the stream is empty"));
    assert!(said(b"{\"user_id\":1}").contains("application/x-ndjson"));
    assert!(said(b"ARROW1\0\0").contains("streaming format"));
    assert!(said(&bytes[..bytes.len() - 100]).contains("ends inside it"));
    assert!(said(&[&bytes[..], b"x"].concat()).contains("behind the end"));
    // Without its last mark it is whole.
    assert_eq!(read(&bytes[..bytes.len() - 8], 1 << 20).expect("whole").len(), 2);
    let twice = [&bytes[..bytes.len() - 8], &bytes[..]].concat();
    assert!(said(&twice).contains("a second schema"));
}

#[test]
fn lengths_that_cannot_be_are_refused_before_memory_is_taken() {
    let said = |head: i32| {
        let bytes = [&[0xff; 4][..], &head.to_le_bytes(), &[0; 16]].concat();
        read(&bytes, 100).expect_err("refused")
    };
    assert!(said(i32::MAX).is_too_large && said(i32::MAX).what.contains("2147483647 bytes"));
    assert!(said(-5).what.contains("-5 bytes"));
    let large: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(17 << 20)]));
    let large = RecordBatch::try_from_iter([("a", large)]).expect("a batch");
    let error = read(&stream(std::slice::from_ref(&large), None), 1 << 20).expect_err("too large");
    assert!(error.is_too_large && error.what.contains("fewer rows"), "{error}");
    // Its bytes are few only as long as nobody decompresses them.
    let many: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(65 << 20)]));
    let many = RecordBatch::try_from_iter([("a", many)]).expect("a batch");
    for codec in &CODECS[1..] {
        let bytes = stream(std::slice::from_ref(&large), *codec);
        assert_eq!(read(&bytes, 1 << 20).expect("not too large").len(), 1);
        let error = read(&stream(std::slice::from_ref(&many), *codec), 1 << 20).expect_err("too large");
        assert!(error.is_too_large && error.what.contains("decompressed"), "{error}");
    }
}

#[test]
fn an_lz4_buffer_that_says_less_than_it_holds_is_refused() {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1_000_001)]));
    let bytes = stream(&[RecordBatch::try_from_iter([("a", text)]).expect("a batch")], CODECS[1]);
    let prefix = 1_000_001u64.to_le_bytes();
    let at = bytes.windows(8).rposition(|window| window == prefix).expect("the length of the text");
    let mut lying = bytes.clone();
    lying[at..at + 8].copy_from_slice(&1000u64.to_le_bytes());
    let error = read(&lying, 1 << 20).expect_err("it lies");
    assert!(error.what.contains("says that it has 1000"), "{error}");
}

#[test]
fn types_without_rows_of_their_own_are_refused_by_name() {
    let mut ends = PrimitiveRunBuilder::<Int32Type, Int32Type>::new();
    ends.extend([Some(1), Some(1)]);
    let runs: ArrayRef = Arc::new(ends.finish());
    let bytes = stream(&[RecordBatch::try_from_iter([("runs", runs)]).expect("a batch")], None);
    let error = read(&bytes, 1 << 20).expect_err("refused");
    assert!(error.what.contains("column `runs`") && error.message == 1, "{error}");
}

#[test]
fn rows_that_share_a_text_weigh_as_much_as_they_say() {
    let text = "x".repeat(100_000);
    let array: DictionaryArray<Int32Type> = std::iter::repeat_n(Some(text.as_str()), 1000).collect();
    let mut pieces = Pieces::new(RecordBatch::try_from_iter([("a", Arc::new(array) as ArrayRef)]).expect("a batch"));
    let (mut rows_seen, mut piece_count) = (0, 0);
    while let Some(piece) = pieces.next(1 << 20) {
        let Piece::Rows { first, rows, weight } = piece else { panic!("no row is too long") };
        assert!(first == rows_seen && weight <= 1 << 20, "{weight}");
        rows_seen += rows.num_rows();
        piece_count += 1;
    }
    assert!(rows_seen == 1000 && piece_count == 100, "{piece_count}");
    // And one that alone is too long is known before it is written out.
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1); 200_000]), Some(vec![Some(1)])]);
    let mut pieces = Pieces::new(RecordBatch::try_from_iter([("a", Arc::new(lists) as ArrayRef)]).expect("a batch"));
    assert!(matches!(pieces.next(10), Some(Piece::TooLong { row: 0, .. })));
    assert!(matches!(pieces.next(10), Some(Piece::Rows { first: 1, .. })));
    assert!(pieces.next(10).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    /// Pieces are the batch, whatever their size, and none is heavier than it may be unless it is one row.
    #[test]
    fn pieces_are_the_batch(count in 1..200usize, seed in 0..50usize, most in 1..5000usize) {
        let batch = rows(count, seed);
        let (mut pieces, mut next) = (Pieces::new(batch.clone()), 0);
        while let Some(Piece::Rows { first, rows, weight }) = pieces.next(most) {
            prop_assert_eq!(first, next);
            prop_assert!(rows.num_rows() == 1 || weight <= most);
            prop_assert_eq!(&batch.slice(first, rows.num_rows()), &rows);
            next += rows.num_rows();
        }
        prop_assert_eq!(next, count);
    }
}

#[test]
fn limits_grow_with_the_body() {
    let usual = Limits::default();
    assert_eq!(Limits::of_body(usual.body_bytes_max), usual);
    let large = Limits::of_body(64 << 20);
    assert_eq!((large.decompressed_bytes_max, large.values_max), (256 << 20, 32 << 20));
    let small = Limits::of_body(1 << 16);
    assert_eq!((small.body_bytes_max, small.decompressed_bytes_max, small.values_max), (1 << 16, 4 << 16, 1 << 23));
}
