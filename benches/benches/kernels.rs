//! Cardinalities of two operands on the sets that the Roaring papers measure on, one thread: successive pairs of each data
//! set, against the `croaring` crate's cardinality functions on run-optimised bitmaps.
//!
//! `cargo bench -p benches --bench kernels`; the zips come from the RoaringBitmap project's real-roaring-datasets, found
//! through `BELUGA_DATASETS`.

use benches::{compare, is_asked, row};
use engine::bitmap::evaluate::{common_len, difference_len, symmetric_difference_len, union_len};
use engine::bitmap::view::BitmapView;
use std::time::Duration;

const DATA_SETS: [&str; 5] =
    ["census1881", "census1881_srt", "uscensus2000", "wikileaks-noquotes", "wikileaks-noquotes_srt"];

type Ours = fn(&BitmapView<'_>, &BitmapView<'_>) -> u64;
type Peer = fn(&croaring::Bitmap, &croaring::Bitmap) -> u64;

fn main() {
    let Some(folder) = datasets::data_folder() else {
        println!("skipped: set BELUGA_DATASETS to a folder that holds roaring-realdata/*.zip");
        return;
    };
    let operations: [(&str, Ours, Peer); 4] = [
        ("and", common_len, croaring::Bitmap::and_cardinality),
        ("or", union_len, croaring::Bitmap::or_cardinality),
        ("and-not", difference_len, croaring::Bitmap::andnot_cardinality),
        ("xor", symmetric_difference_len, croaring::Bitmap::xor_cardinality),
    ];
    println!("{:<52} {:>11} {:>11} {:>9}", "200 sets, successive pairs", "ours", "croaring", "ratio");
    for name in DATA_SETS {
        let sets = datasets::roaring_sets::load_roaring_sets(&folder.join(format!("roaring-realdata/{name}.zip")))
            .expect("sets");
        let peers: Vec<croaring::Bitmap> = sets
            .iter()
            .map(|set| {
                let mut bitmap = croaring::Bitmap::of(set);
                bitmap.run_optimize();
                bitmap
            })
            .collect();
        let bytes: Vec<Vec<u8>> = peers.iter().map(|bitmap| bitmap.serialize::<croaring::Portable>()).collect();
        let views: Vec<BitmapView<'_>> = bytes.iter().map(|bytes| BitmapView::new(bytes).expect("valid")).collect();
        for (operation, ours, peer) in operations {
            let title = format!("{name} {operation}");
            if !is_asked(&title) {
                continue;
            }
            let ratio = compare(
                Duration::from_millis(1_500),
                || views.windows(2).map(|two| ours(&two[0], &two[1])).sum::<u64>(),
                || peers.windows(2).map(|two| peer(&two[0], &two[1])).sum::<u64>(),
            );
            row(&title, &ratio);
        }
    }
}
