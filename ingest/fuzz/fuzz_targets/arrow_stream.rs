//! Any bytes as an Arrow body, and whole bodies with any damage: refused or decoded, never a crash, never memory without bound;
//! the same however the body is cut.
//!
//! What Arrow panics at and the guard turns into an error is fine here: the hook that would end the program is taken out, and what
//! reaches the target itself still does.

#![no_main]

use arrow::array::{
    ArrayRef, DictionaryArray, FixedSizeListArray, Int64Array, ListArray, RecordBatch, StringArray, StringViewArray, StructArray,
    TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int8Type, Int32Type};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use engine::catalog::{Activity, Column, ColumnType, Fact, Metric, Space, Zone};
use engine::ids::TagId;
use engine::update::UpdateBatch;
use ingest::decode::arrow_stream::Limits;
use ingest::decode::column_body::{ColumnBodyReader, RowTarget};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};

/// 2026-11-20T10:00:00Z.
const NOW: i64 = 1_795_168_800_000_000;

const LIMITS: Limits = Limits {
    head_bytes_max: 64 << 10,
    body_bytes_max: 1 << 20,
    decompressed_bytes_max: 2 << 20,
    dictionary_bytes_max: 1 << 20,
    values_max: 1 << 16,
    bare_rows_max: 0,
};

fn fact() -> Fact {
    let column = |name: &str, column_type| Column { name: name.to_owned(), column_type };
    Fact {
        id: TagId::FIRST_DECLARED,
        columns: vec![column("page", ColumnType::String), column("extra", ColumnType::Json)],
        activity: Activity::default(),
        retention_days: None,
        deduplicate_days: None,
        zone: Zone::default(),
    }
}

fn rows(count: i64) -> RecordBatch {
    let lists = (0..count).map(|row| Some((0..row % 4).map(|item| Some(item as i32)).collect::<Vec<_>>()));
    let number: ArrayRef = Arc::new((0..count).map(|row| (row % 3 > 0).then_some(row)).collect::<Int64Array>());
    let nested = StructArray::from(vec![(Arc::new(Field::new("n", DataType::Int64, true)), number)]);
    let pages: DictionaryArray<Int8Type> = (0..count).map(|row| ["home", "shop"][row as usize % 2]).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("user_id", Arc::new((0..count).map(|row| Some(format!("u{row}"))).collect::<StringArray>())),
        ("ts", Arc::new((0..count).map(|row| Some(NOW / 1000 - row)).collect::<TimestampMillisecondArray>())),
        ("page", Arc::new(pages)),
        ("extra", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))),
        ("view", Arc::new((0..count).map(|row| Some("v".repeat(row as usize % 30))).collect::<StringViewArray>())),
        ("nested", Arc::new(nested)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .expect("columns of one length")
}

/// Users with vectors: lists of one length, or of any.
fn vectors(count: usize, is_fixed: bool) -> RecordBatch {
    let ids: ArrayRef = Arc::new((0..count).map(|row| Some(format!("u{row}"))).collect::<StringArray>());
    let items = |len: usize| (0..len).map(|item| Some(item as f32 - 1.0)).collect::<Vec<_>>();
    let vectors: ArrayRef = if is_fixed {
        let rows = (0..count).map(|row| (row % 5 > 0).then(|| items(3)));
        Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows, 3))
    } else {
        let wide = |row| items(2 + row % 2).into_iter().map(|item| item.map(f64::from)).collect::<Vec<_>>();
        let rows = (0..count).map(|row| (row % 5 > 0).then(|| wide(row)));
        Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(rows))
    };
    RecordBatch::try_from_iter_with_nullable([("user_id", ids, true), ("vector", vectors, true)])
        .expect("columns of one length")
}

static BODIES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    std::panic::set_hook(Box::new(|_| {}));
    let body = |codec, rows: &dyn Fn(usize) -> RecordBatch| {
        let options = IpcWriteOptions::default().try_with_compression(codec).expect("a codec");
        let mut writer =
            StreamWriter::try_new_with_options(Vec::new(), &rows(0).schema(), options).expect("a writer in memory");
        [3, 40].into_iter().for_each(|count| writer.write(&rows(count)).expect("written"));
        writer.into_inner().expect("written")
    };
    let codecs = [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)];
    let events = codecs.map(|codec| body(codec, &|count| rows(count as i64)));
    let vectors = [true, false].map(|is_fixed| body(None, &|count| vectors(count, is_fixed)));
    events.into_iter().chain(vectors).collect()
});

fn targets() -> [RowTarget; 2] {
    let space = Space { id: TagId::FIRST_DECLARED, dimension: 3, metric: Metric::Cosine };
    [RowTarget::Events { fact: Box::new(fact()), now: NOW }, RowTarget::Vectors(space)]
}

type Read = Result<(u64, u64), String>;

fn read(target: RowTarget, body: &[u8], chunk_len: usize) -> (Read, Vec<u8>) {
    let (mut reader, mut batch, mut all) = (ColumnBodyReader::new(target, LIMITS), UpdateBatch::new(), Vec::new());
    let mut read = || {
        for mut chunk in body.chunks(chunk_len) {
            while reader.feed(&mut chunk, &mut batch).map_err(|error| error.to_string())? {
                all.extend_from_slice(batch.as_bytes());
                batch.clear();
            }
        }
        Ok(())
    };
    let result = read().and_then(|()| match reader.finish() {
        Ok(report) => Ok((report.accepted, report.rejected)),
        Err(error) => Err(error.to_string()),
    });
    all.extend_from_slice(batch.as_bytes());
    (result, all)
}

// First which body; then, for a whole one, places and what stands there.
fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let body = match BODIES.get(usize::from(choice % 6)) {
        None => rest.to_vec(),
        Some(whole) => {
            let mut body = whole.clone();
            for edit in rest.chunks_exact(3) {
                let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % body.len();
                body[at] = edit[2];
            }
            body
        }
    };
    for target in targets() {
        let whole = read(target.clone(), &body, body.len().max(1));
        if whole.0.is_ok() {
            assert_eq!(read(target, &body, 13), whole);
        }
    }
});
