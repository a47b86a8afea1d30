//! Any text as a schema of Avro, any bytes as a record: what cannot be is refused, never a crash; a record that is taken is a line
//! of JSON of bounded length, and says the same when it is read again.

#![no_main]

use ingest::decode::LINE_BYTES_MAX;
use ingest::decode::avro::{AvroFormat, AvroReader, AvroSchema};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

/// Every type, so that bytes alone reach all of the reader.
const SCHEMA: &str = r#"{"type":"record","name":"a.R","fields":[
    {"name":"next","type":["null","R",{"type":"map","values":"R"}]},
    {"name":"x","type":["boolean","int","long","float","double","bytes","string",
        {"type":"enum","name":"E","symbols":["A","B"]},{"type":"fixed","name":"F","size":3},
        {"type":"array","items":["null","E",{"type":"array","items":"null"}]},
        {"type":"fixed","name":"U","size":16,"logicalType":"uuid"},
        {"type":"fixed","name":"P","size":12,"logicalType":"duration"},
        {"type":"fixed","name":"D","size":20,"logicalType":"decimal","precision":40,"scale":7}]},
    {"name":"d","type":["null",{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}]},
    {"name":"t","type":["null",{"type":"long","logicalType":"timestamp-nanos"}]},
    {"name":"m","type":["null",{"type":"long","logicalType":"time-micros"}]},
    {"name":"y","type":["null",{"type":"int","logicalType":"date"}]}]}"#;

fn check(schema: &AvroSchema, record: &[u8]) {
    let mut reader = AvroReader::new(&AvroFormat::Schema(Arc::new(schema.clone())));
    let first = reader.line(record).map(<[u8]>::to_vec);
    assert_eq!(reader.line(record).map(<[u8]>::to_vec), first);
    match first {
        Ok(line) => {
            assert!(line.len() <= 8 * LINE_BYTES_MAX);
            let read: Result<serde_json::Value, _> = serde_json::from_slice(&line);
            // The other reader refuses numbers beyond a float, and what is nested deeper than it likes.
            if let Err(error) = read {
                let why = error.to_string();
                assert!(why.contains("out of range") || why.contains("recursion"), "{why}");
            }
        }
        Err(error) => assert!(error.column.is_none_or(|column| column <= record.len() + 1), "{error:?}"),
    }
}

// A record of the schema above; or a line with a schema, then a record of that.
fuzz_target!(|bytes: &[u8]| {
    let schema = AvroSchema::parse(SCHEMA, &[]).expect("a schema");
    check(&schema, bytes);
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let (Some(text), Some(record)) = (parts.next(), parts.next()) else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    if let Ok(schema) = AvroSchema::parse(text, &[]) {
        check(&schema, record);
    }
});
