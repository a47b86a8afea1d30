//! Any bytes as a segment: refused, or readable without a crash. The bytes come in as memory, so that no checksum
//! stands between the fuzzer and the parser; and as a file, where the checksums do.

#![no_main]

use engine::ids::TagId;
use engine::segment::{Key, Part, Segment, SegmentWriter};
use engine::vfs::memory::MemoryVfs;
use engine::vfs::{FileBytes, Vfs};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fn read(segment: &Segment) {
    let _ = segment.verify();
    for number in 0..segment.entry_count().min(200) {
        let key = segment.key_at(number);
        if let Ok(Some(posting)) = segment.posting(key) {
            assert_eq!(posting.bitmap.iter().count() as u64, posting.bitmap.len());
        }
        segment.parts(key.tag).take(10).for_each(drop);
    }
    let _ = segment.posting(Key { tag: TagId(16), part: Part::Value(b"f") });
}

/// A good segment, so that the fuzzer begins near one: input bytes are laid over it.
fn good() -> Vec<u8> {
    let mut writer = SegmentWriter::in_memory();
    for (tag, part) in [(16, Part::Exists), (16, Part::Value(b"f")), (16, Part::Value(b"m")), (17, Part::Slice(0))] {
        writer.add(Key { tag: TagId(tag), part }, 5, &(0..2_000).step_by(3).collect()).expect("memory");
    }
    writer.finish_in_memory().to_vec()
}

fuzz_target!(|input: &[u8]| {
    if let Ok(segment) = Segment::from_memory(FileBytes::new(input.to_vec())) {
        read(&segment);
    }
    // Pairs of (place from the end, byte).
    let mut bytes = good();
    for change in input.chunks_exact(3) {
        let from_end = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        let at = bytes.len() - 1 - from_end;
        bytes[at] ^= change[2];
    }
    if let Ok(segment) = Segment::from_memory(FileBytes::new(bytes)) {
        read(&segment);
    }
    let (vfs, path) = (MemoryVfs::default(), Path::new("/s"));
    let file = vfs.create(path).expect("memory");
    file.append(input).expect("memory");
    if let Ok(segment) = Segment::open(&vfs, path) {
        read(&segment);
    }
});
