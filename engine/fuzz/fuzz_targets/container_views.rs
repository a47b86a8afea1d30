//! Any bytes as a bitmap: refused, or the same set that the `roaring` crate reads; never a crash.

#![no_main]

use engine::bitmap::evaluate::Evaluator;
use engine::bitmap::program::{Layer, LayerValue, Mask, Node, Program};
use engine::bitmap::view::BitmapView;
use libfuzzer_sys::fuzz_target;
use roaring::RoaringBitmap;

fuzz_target!(|bytes: &[u8]| {
    let Ok(view) = BitmapView::new(bytes) else { return };
    let slots: Vec<u32> = view.iter().collect();
    assert_eq!(slots.len() as u64, view.len());
    assert!(slots.is_sorted_by(|a, b| a < b));
    assert_eq!(slots.last().copied(), view.last());
    if let Ok(oracle) = RoaringBitmap::deserialize_from(bytes) {
        assert!(oracle.iter().eq(slots.iter().copied()));
    }
    for probe in slots.iter().take(50).flat_map(|slot| [*slot, slot.wrapping_add(1)]) {
        assert_eq!(view.contains(probe), slots.binary_search(&probe).is_ok());
    }
    let leaf = || Node::Leaf(vec![Layer { mask: Mask::All, value: LayerValue::Bitmap(view) }]);
    let mut program = Program::new();
    let (a, b) = (program.push(leaf()), program.push(leaf()));
    program.push(Node::And(vec![a, b]));
    assert_eq!(Evaluator::new(&program).count_all(), slots.len() as u64);
    program.push(Node::Xor(a, b));
    assert_eq!(Evaluator::new(&program).count_all(), 0);
});
