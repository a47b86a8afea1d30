//! Any bytes as a bitmap of 32 or 64 bits, and as numbers in bit slices: refused, or a set that is written and read back; never a
//! crash, and never more memory than a few times the bytes.

#![no_main]

use engine::bitmap::sliced::Sliced;
use engine::bitmap::wide::{WideView, encode, heap_bytes};
use libfuzzer_sys::fuzz_target;
use roaring::{RoaringBitmap, RoaringTreemap};

/// Of memory for a byte: a bitmap with one number has 22 bytes.
const BYTES_PER_BYTE: usize = 40;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(view) = WideView::new(bytes) {
        let numbers: Vec<u64> = view.iter().take(1 << 20).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b));
        let set = view.to_set();
        assert!(u128::from(set.len()) == view.len());
        assert!(set.iter().take(numbers.len()).eq(numbers.iter().copied()));
        assert!(heap_bytes(&set) <= BYTES_PER_BYTE * (bytes.len() + 64));
        assert!(set.min() == view.first() && set.max() == view.last());
        let written = encode(&set);
        // Without runs, or with 64 bits, small ones are written in more bytes than they came in.
        assert!(written.len() <= 2 * bytes.len() + 16);
        assert!(WideView::new(&written).expect("what was written is read").to_set() == set);
        // Others read what they can.
        if let Ok(oracle) = RoaringBitmap::deserialize_from(bytes) {
            assert!(oracle.len() as u128 == view.len() || RoaringTreemap::deserialize_from(bytes).is_ok());
        }
        for probe in numbers.iter().take(20).flat_map(|number| [*number, number.wrapping_add(1)]) {
            assert_eq!(view.contains(probe), set.contains(probe));
        }
    }
    if let Ok(numbers) = Sliced::decode(bytes) {
        assert!(Sliced::decode(&numbers.encode()).expect("what was written is read") == numbers);
        let (sum, count) = numbers.sum(None);
        if count < 1 << 16 {
            assert_eq!(sum, numbers.iter().map(|(_, number)| i128::from(number)).sum::<i128>());
        }
        let compared = numbers.compare(0, None);
        assert_eq!(compared.less.len() + compared.equal.len() + compared.more.len(), count);
    }
});
