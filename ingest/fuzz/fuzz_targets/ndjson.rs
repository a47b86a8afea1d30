//! Any body of `POST /v1/tags`: every line is taken or refused, however the body is cut into chunks, and what is
//! taken is a sound batch.

#![no_main]

use engine::audience::naive::sample_catalog;
use engine::update::UpdateBatch;
use ingest::decode::body::LineDecoder;
use ingest::decode::{BodyReader, LineReport, TagDecoder};
use libfuzzer_sys::fuzz_target;

/// Decodes the body in chunks of this many bytes.
fn decode(body: &[u8], chunk_bytes: usize) -> (Vec<u8>, LineReport) {
    let mut reader = BodyReader::new(LineDecoder::Tags(TagDecoder::new(&sample_catalog())), 4_096);
    let mut batch = UpdateBatch::new();
    let mut all = Vec::new();
    for mut chunk in body.chunks(chunk_bytes) {
        while reader.feed(&mut chunk, &mut batch) {
            all.extend_from_slice(batch.as_bytes());
            batch.clear();
        }
    }
    let report = reader.finish(&mut batch);
    all.extend_from_slice(batch.as_bytes());
    (all, report)
}

fuzz_target!(|body: &[u8]| {
    let (whole, report) = decode(body, body.len().max(1));
    let (parts, report_of_parts) = decode(body, 7);
    assert_eq!(whole, parts);
    assert_eq!(report, report_of_parts);
    let batch = UpdateBatch::from_bytes(whole).expect("what was decoded is a sound batch");
    assert_eq!(batch.user_count() as u64, report.accepted);
    batch.users().for_each(|user| user.changes().for_each(drop));
});
