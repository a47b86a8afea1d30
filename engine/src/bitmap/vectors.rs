//! The format's test vectors and malformed files, and the container shapes by name.

use super::shapes;
use super::view::BitmapView;
use super::wide::{WideView, encode};
use roaring::RoaringTreemap;
use std::path::PathBuf;

/// The folder of the format's published vectors; `None`, and said so, where it is not.
fn vectors() -> Option<PathBuf> {
    let data = match std::env::var_os("BELUGA_DATASETS") {
        Some(data) => PathBuf::from(data),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
    };
    let folder = data.join("roaring-format");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!(
        "skipped: {} is not there; put RoaringFormatSpec's testdata and CRoaring's tests/testdata/*.bin into it, or set \
         BELUGA_DATASETS to the folder above it",
        folder.display()
    );
    None
}

/// What both published bitmaps hold.
fn published() -> impl Iterator<Item = u32> {
    (0..100_000).step_by(1_000).chain((100_000..200_000).map(|k| 3 * k)).chain(700_000..800_000)
}

#[test]
fn published_bitmaps_are_read() {
    let Some(folder) = vectors() else { return };
    for name in ["bitmapwithruns.bin", "bitmapwithoutruns.bin"] {
        let bytes = std::fs::read(folder.join(name)).expect(name);
        let view = BitmapView::new(&bytes).expect(name);
        assert!(view.iter().eq(published()), "{name}");
        assert_eq!(view.len(), published().count() as u64, "{name}");
    }
}

#[test]
fn hostile_bytes_are_refused_or_a_set() {
    let Some(folder) = vectors() else { return };
    let refused = [
        "array_duplicate.bin",
        "array_unsorted.bin",
        "bitset_incorrect_cardinality.bin",
        "duplicate_keys.bin",
        "huge_container_count.bin",
        "negative_container_count.bin",
        "run_empty.bin",
        "run_incorrect_cardinality_allowed.bin",
        "run_overflow.bin",
        "run_overlap.bin",
        "unsorted_keys.bin",
        "64mapinvalidsize.bin",
        "64mapkeytoosmall.bin",
        "64mapsizetoosmall.bin",
    ];
    for name in refused {
        let bytes = std::fs::read(folder.join(name)).expect(name);
        assert!(BitmapView::new(&bytes).is_err(), "{name} must be refused");
    }
    for name in ["bitset_full_ok.bin", "run_should_combine.bin"] {
        let bytes = std::fs::read(folder.join(name)).expect(name);
        assert!(BitmapView::new(&bytes).is_ok(), "{name} is a set");
    }
    for entry in std::fs::read_dir(&folder).expect("list the vectors") {
        let path = entry.expect("list the vectors").path();
        let bytes = std::fs::read(&path).expect("read a vector");
        if let Ok(view) = BitmapView::new(&bytes) {
            assert!(view.iter().is_sorted_by(|a, b| a < b), "{}", path.display());
            assert_eq!(view.iter().count() as u64, view.len(), "{}", path.display());
        }
    }
}

#[test]
fn published_64_bit_bitmaps_are_read_and_damaged_ones_refused() {
    let Some(folder) = vectors() else { return };
    let refused = ["64mapinvalidsize.bin", "64mapkeytoosmall.bin", "64mapsizetoosmall.bin"];
    let taken =
        ["64map32bitvals.bin", "64mapempty.bin", "64maphighvals.bin", "64mapspreadvals.bin", "portable_bitmap64.bin"];
    for name in refused {
        let bytes = std::fs::read(folder.join(name)).expect(name);
        assert!(WideView::new(&bytes).is_err(), "{name} must be refused");
    }
    for name in taken {
        let bytes = std::fs::read(folder.join(name)).expect(name);
        let view = WideView::new(&bytes).expect(name);
        let oracle = RoaringTreemap::deserialize_from(&bytes[..]).expect(name);
        assert!(view.iter().eq(oracle.iter()), "{name}");
        assert!(WideView::new(&encode(&view.to_set())).expect(name).iter().eq(oracle.iter()), "{name}");
    }
    for entry in std::fs::read_dir(&folder).expect("list the vectors") {
        let path = entry.expect("list the vectors").path();
        let bytes = std::fs::read(&path).expect("read a vector");
        if let Ok(view) = WideView::new(&bytes) {
            assert!(view.to_set().iter().eq(view.iter()), "{}", path.display());
        }
    }
}

#[test]
fn shapes_read_back_at_any_alignment() {
    for (name, bitmap) in shapes::named() {
        for bytes in [shapes::bytes(&bitmap), shapes::run_bytes(&bitmap)] {
            for shift in [0, 1, 3] {
                let mut moved = vec![0; shift];
                moved.extend_from_slice(&bytes);
                let view = BitmapView::new(&moved[shift..]).expect(name);
                assert!(view.iter().eq(bitmap.iter()), "{name}");
                assert_eq!(view.len(), bitmap.len(), "{name}");
                for slot in [0, 1, 15, 65_535, 65_536, 199_999, 200_000, u32::MAX] {
                    assert_eq!(view.contains(slot), bitmap.contains(slot), "{name}: {slot}");
                }
                for chunk in 0..5_u32 {
                    let expected = bitmap.range_cardinality(chunk << 16..(chunk + 1) << 16);
                    assert_eq!(u64::from(view.chunk_len(chunk as u16)), expected, "{name}: chunk {chunk}");
                }
            }
        }
    }
}

#[test]
fn bytes_cut_anywhere_or_followed_by_more_are_refused() {
    for (name, bitmap) in shapes::named() {
        for mut bytes in [shapes::bytes(&bitmap), shapes::run_bytes(&bitmap)] {
            let step = (bytes.len() / 500).max(1);
            for end in (0..bytes.len()).step_by(step) {
                assert!(BitmapView::new(&bytes[..end]).is_err(), "{name} cut at {end}");
            }
            bytes.push(0);
            assert!(BitmapView::new(&bytes).is_err(), "{name} and a byte more");
        }
    }
}

#[test]
fn errors_tell_where_and_what() {
    let error = BitmapView::new(b"PK\x03\x04").expect_err("a zip file");
    assert_eq!(error.to_string(), "not a portable Roaring bitmap: at byte 0: the cookie is neither 12346 nor 12347");
}
