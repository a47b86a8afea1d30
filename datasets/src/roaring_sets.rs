//! The integer sets that the Roaring papers measure on (census1881, wikileaks-noquotes, uscensus2000; some also sorted):
//! 200 sets each, for benchmarks and tests of the bitmap kernels.
//!
//! Get the zips from <https://github.com/RoaringBitmap/real-roaring-datasets>; see S. Chambi, D. Lemire, O. Kaser and
//! R. Godin, "Better bitmap performance with Roaring bitmaps", arXiv:1402.6407.

use crate::LoadError;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// The names of the zips, without `.zip`.
pub const ROARING_SETS: [&str; 5] =
    ["census1881", "census1881_srt", "uscensus2000", "wikileaks-noquotes", "wikileaks-noquotes_srt"];

/// The sets of one zip in the order of their file names, each rising.
///
/// # Errors
/// [`LoadError`] if the file is not such a zip.
pub fn load_roaring_sets(zip: &Path) -> Result<Vec<Vec<u32>>, LoadError> {
    let fail = |what: String| LoadError {
        path: zip.to_owned(),
        what: format!("{what}; get it from https://github.com/RoaringBitmap/real-roaring-datasets"),
    };
    let file = File::open(zip).map_err(|error| fail(error.to_string()))?;
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|error| fail(error.to_string()))?;
    let mut names: Vec<String> =
        archive.file_names().filter(|name| name.ends_with(".txt")).map(str::to_owned).collect();
    names.sort();
    let mut sets = Vec::with_capacity(names.len());
    let mut text = String::new();
    for name in names {
        text.clear();
        let member = archive.by_name(&name).map_err(|error| fail(error.to_string()))?;
        BufReader::new(member).read_to_string(&mut text).map_err(|error| fail(error.to_string()))?;
        let numbers = text.trim().split(',').map(|number| number.trim().parse());
        let mut set: Vec<u32> = numbers.collect::<Result<_, _>>().map_err(|error| fail(format!("{name}: {error}")))?;
        set.sort_unstable();
        set.dedup();
        sets.push(set);
    }
    if sets.is_empty() {
        return Err(fail("holds no .txt files".to_owned()));
    }
    Ok(sets)
}
