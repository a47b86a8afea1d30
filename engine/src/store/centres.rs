//! The centres that merges sort the vectors of each space by: all shards by the same, trained anew when a space has outgrown them.
//!
//! They are not saved by themselves. Segments have those that they are sorted by, so the newest of them are found there after a start.

use super::{Snapshot, Store, held};
use crate::catalog::Space;
use crate::error::ReadError;
use crate::ids::TagId;
use crate::lookalike::cells::{Centres, VECTORS_MIN};
use crate::lookalike::quantise::{SCALE_BYTES, Scale};
use crate::lookalike::random::Random;
use crate::segment::{BlockKey, Form, Key, Part, Segment};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Of each space that has some.
pub(super) type OfSpaces = Arc<BTreeMap<TagId, Centres>>;

/// What is known of centres.
#[derive(Debug, Default)]
pub(super) struct Known {
    of_spaces: OfSpaces,
    /// How many vectors spaces had when they could not be trained, since a file was damaged: it is not tried again until there are many more.
    failed: BTreeMap<TagId, u64>,
}

impl Store {
    /// Those that are there.
    pub(super) fn centres(&self) -> OfSpaces {
        Arc::clone(&held(&self.centres).of_spaces)
    }

    /// The same, after those were trained that are missing or outgrown. For one who merges, since it takes seconds for many vectors.
    pub(super) fn renewed_centres(&self) -> OfSpaces {
        let shown = self.snapshot();
        let before = self.centres();
        let mut of_spaces = BTreeMap::new();
        for (_, space) in shown.catalog().spaces() {
            let present = before.get(&space.id).cloned().or_else(|| newest(&shown, space));
            let trained_on = present.as_ref().map_or(0, Centres::trained_on);
            let vectors = vectors(&shown, space.id);
            let failed = held(&self.centres).failed.get(&space.id).copied().unwrap_or(0);
            // A shard with fewer vectors than centres has no cells.
            let is_enough = vectors / shown.shards().len() as u64 >= Centres::wanted(space.dimension.into(), vectors);
            let is_due = vectors >= VECTORS_MIN && is_enough && Centres::is_outgrown(trained_on.max(failed), vectors);
            let trained = if is_due { trained(&shown, space, vectors) } else { None };
            if is_due && trained.is_none() {
                held(&self.centres).failed.insert(space.id, vectors);
            }
            of_spaces.extend(trained.or(present).map(|centres| (space.id, centres)));
        }
        let of_spaces = Arc::new(of_spaces);
        held(&self.centres).of_spaces = Arc::clone(&of_spaces);
        of_spaces
    }
}

/// Vectors of a space in all layers.
fn vectors(snapshot: &Snapshot, space: TagId) -> u64 {
    let layers = snapshot.shards().iter().flat_map(|shard| shard.layers().iter());
    layers.map(|layer| layer.cardinality(Key { tag: space, part: Part::Exists })).sum()
}

/// The centres of a segment that were trained on most vectors.
fn newest(snapshot: &Snapshot, space: &Space) -> Option<Centres> {
    let layers = snapshot.shards().iter().flat_map(|shard| shard.layers().iter());
    let segment = layers.max_by_key(|segment| trained_on(segment, space.id))?;
    let cells = super::vectors::cells(segment, space, segment.cardinality(Key { tag: space.id, part: Part::Exists }));
    let centres = Centres::copied(space.metric, cells.ok()??.centres(), trained_on(segment, space.id));
    (centres.trained_on() > 0).then_some(centres)
}

/// How many vectors the centres were trained on that a segment is sorted by; 0 if it is not, or has no copies.
pub(super) fn trained_on(segment: &Segment, space: TagId) -> u64 {
    let block = |form| segment.block(space, BlockKey { form, chunk: 0 }).ok().flatten();
    match (block(Form::Ends), block(Form::Copies)) {
        (Some(ends), Some(_)) => ends.aux.max(0) as u64,
        _ => 0,
    }
}

/// `None` if a file is damaged, which whoever asks about it is told.
fn trained(snapshot: &Snapshot, space: &Space, vectors: u64) -> Option<Centres> {
    let dimension = space.dimension.into();
    let (codes, scales) = sample(snapshot, space, Centres::sample_size(dimension, vectors)).ok()??;
    Centres::train(space.metric, dimension, vectors, &codes, &scales)
}

/// Codes, one vector behind the other, and scales.
type Sample = (Vec<u8>, Vec<Scale>);

/// So many vectors from all parts of all layers. Reads what is scanned, and not full
/// precision. `None` if blocks are not of vectors of this space.
fn sample(snapshot: &Snapshot, space: &Space, count: u64) -> Result<Option<Sample>, ReadError> {
    let layers = snapshot.shards().iter().flat_map(|shard| shard.layers().iter());
    let chunks = layers.flat_map(|segment| {
        segment.parts(space.id).filter_map(move |(part, rows)| match part {
            Part::Block(BlockKey { form: Form::Codes, chunk }) => Some((segment, chunk, rows)),
            _ => None,
        })
    });
    let chunks: Vec<(&Arc<Segment>, u16, u64)> = chunks.collect();
    let all: u64 = chunks.iter().map(|(.., rows)| rows).sum();
    let count = count.min(all);
    let (mut codes, mut scales, mut random) = (Vec::new(), Vec::new(), Random::new(all));
    let place = |index: u64| (u128::from(index) * u128::from(all) / u128::from(count.max(1))) as u64;
    // One of each of as many equal parts.
    let mut pick = |index: u64| place(index) + random.below((place(index + 1) - place(index)) as usize) as u64;
    let mut picked = (0..count).map(&mut pick).peekable();
    let mut begin = 0;
    for (segment, chunk, rows) in chunks {
        let end = begin + rows;
        if picked.peek().is_some_and(|picked| *picked < end) {
            let [of_codes, of_scales] =
                [Form::Codes, Form::Scale].map(|form| segment.block(space.id, BlockKey { form, chunk }));
            let (Some(of_codes), Some(of_scales)) = (of_codes?, of_scales?) else { return Ok(None) };
            let fits = of_codes.row_bytes() == usize::from(space.dimension) && of_scales.row_bytes() == SCALE_BYTES;
            if !fits || of_codes.row_count as u64 != rows || of_scales.row_count as u64 != rows {
                return Ok(None);
            }
            while let Some(row) = picked.next_if(|picked| *picked < end) {
                let row = (row - begin) as usize;
                codes.extend_from_slice(of_codes.row(row));
                scales.extend(of_scales.row(row).first_chunk::<SCALE_BYTES>());
            }
        }
        begin = end;
    }
    Ok(Some((codes, scales)))
}
