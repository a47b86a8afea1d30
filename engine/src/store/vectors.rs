//! Recent vectors of one space and shard, as they came, how they become blocks of a layer, and the layers of a snapshot as they
//! are searched.

use super::memtable::{CHANGE_BYTES, LAYERS_ARE_SMALL, Output, last_of_each, slots};
use super::{ShardSnapshot, Snapshot, held};
use crate::bitmap::view::BitmapView;
use crate::catalog::Space;
use crate::error::ReadError;
use crate::ids::{CHUNK_SLOTS, Slot, TagId};
use crate::lookalike::cells::{Cells, CentresView};
use crate::lookalike::layer::{ChunkRows, Layer};
use crate::lookalike::quantise::{Most, Scale, quantise};
use crate::lookalike::recall;
use crate::segment::{BlockKey, Form, Key, Part, Segment};
use crate::update::Change;
use rayon::prelude::*;
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// The blocks of up to so many chunks are found on the calling thread.
const INLINE_CHUNKS: u32 = 128;

/// See the module.
#[derive(Debug)]
pub(super) struct VectorLog {
    dimension: u16,
    /// `None`: taken away. Else where the vector stands in `numbers`, counted in vectors.
    log: Vec<(Slot, Option<u32>)>,
    /// Vectors, one behind another.
    numbers: Vec<[u8; 4]>,
}

impl VectorLog {
    pub(super) fn new(space: &Space) -> VectorLog {
        VectorLog { dimension: space.dimension, log: Vec::new(), numbers: Vec::new() }
    }

    /// Appends a change; one that does not fit the space is ignored. Adds what it costs to `bytes`.
    pub(super) fn push(&mut self, slot: Slot, change: Change<'_>, bytes: &mut usize) {
        let place = match change {
            Change::Unset => None,
            Change::Vector(numbers) if numbers.len() == usize::from(self.dimension) => {
                // A memtable is sealed long before it has as many.
                let place = (self.numbers.len() / usize::from(self.dimension)) as u32;
                self.numbers.extend_from_slice(numbers);
                *bytes += size_of_val(numbers);
                Some(place)
            }
            _ => return,
        };
        self.log.push((slot, place));
        *bytes += CHANGE_BYTES;
    }

    /// Writes the postings and blocks of the space `tag`.
    pub(super) fn seal(mut self, out: &mut Output, tag: TagId) {
        let last = last_of_each(std::mem::take(&mut self.log));
        out.put(tag, Part::Touched, 0, &slots(&last, |_| true));
        out.put(tag, Part::Exists, 0, &slots(&last, Option::is_some));
        let kept: Vec<(Slot, u32)> = last.into_iter().filter_map(|(slot, place)| Some((slot, place?))).collect();
        let (mut scales, mut codes): (Vec<Scale>, Vec<u8>) = (Vec::with_capacity(kept.len()), Vec::new());
        let mut vector = Vec::new();
        for (_, place) in &kept {
            vector.clear();
            vector.extend(self.vector(*place).iter().map(|number| f32::from_le_bytes(*number)));
            scales.push(quantise(&vector, &mut codes));
        }
        let width = usize::from(self.dimension);
        for form in Form::OF_VECTORS {
            let mut from = 0;
            for of_chunk in kept.chunk_by(|a, b| a.0 / CHUNK_SLOTS == b.0 / CHUNK_SLOTS) {
                let chunk = (of_chunk[0].0 / CHUNK_SLOTS) as u16;
                let rows = from..from + of_chunk.len();
                from = rows.end;
                let number = if form == Form::Scale { Most::among(&scales[rows.clone()]).to_number() } else { 0 };
                let key = Key { tag, part: Part::Block(BlockKey { form, chunk }) };
                let added = out.0.add_block::<std::io::Error>(key, number, of_chunk.len() as u64, |put| match form {
                    Form::Full => of_chunk.iter().try_for_each(|(_, place)| put(self.vector(*place).as_flattened())),
                    Form::Scale => put(scales[rows].as_flattened()),
                    Form::Codes => put(&codes[rows.start * width..rows.end * width]),
                    // Merges make cells.
                    _ => Ok(()),
                });
                added.expect(LAYERS_ARE_SMALL);
            }
        }
    }

    fn vector(&self, place: u32) -> &[[u8; 4]] {
        let width = usize::from(self.dimension);
        &self.numbers[place as usize * width..][..width]
    }
}

/// The spaces of a snapshot that were asked about.
#[derive(Debug, Default)]
pub(super) struct Searched(Mutex<BTreeMap<TagId, SpaceVectors>>);

/// The vectors of a space in a snapshot, and whose they are. Cheap to clone; holding it keeps their files readable.
#[derive(Clone, Debug)]
pub struct SpaceVectors(Arc<Kept>);

/// What is found in the layers of shards.
#[derive(Debug)]
struct Ready<'s> {
    view: recall::Space<'s>,
    present: Vec<RoaringBitmap>,
    count: u64,
}

self_cell::self_cell!(
    struct Kept {
        owner: Arc<[ShardSnapshot]>,
        #[covariant]
        dependent: Ready,
    }

    impl {Debug}
);

impl SpaceVectors {
    /// To be searched.
    pub fn view(&self) -> &recall::Space<'_> {
        &self.0.borrow_dependent().view
    }

    /// Users with a vector, per shard.
    pub fn present(&self) -> &[RoaringBitmap] {
        &self.0.borrow_dependent().present
    }

    /// How many they are.
    pub fn count(&self) -> u64 {
        self.0.borrow_dependent().count
    }
}

impl Snapshot {
    /// The vectors of a space, found once and then kept as long as the snapshot. The first look at a file verifies the checksums of
    /// all its vectors, which reads them; so it is given up when `cancelled` is set.
    ///
    /// # Errors
    /// [`VectorsError`]: [`ReadError::Corrupt`] if vectors are damaged, or are not those that a segment's users should have.
    pub fn vectors(&self, space: &Space, cancelled: &AtomicBool) -> Result<SpaceVectors, VectorsError> {
        if let Some(known) = held(&self.searched.0).get(&space.id) {
            return Ok(known.clone());
        }
        let kept = Kept::try_new(Arc::clone(&self.shards), |shards| {
            let view = view(shards, space, cancelled)?;
            let present = view.present();
            let count = present.iter().map(RoaringBitmap::len).sum();
            Ok::<_, VectorsError>(Ready { view, present, count })
        });
        let made = SpaceVectors(Arc::new(kept?));
        held(&self.searched.0).insert(space.id, made.clone());
        Ok(made)
    }
}

/// What the layers of all shards say of a space.
fn view<'s>(
    shards: &'s [ShardSnapshot],
    space: &Space,
    cancelled: &AtomicBool,
) -> Result<recall::Space<'s>, VectorsError> {
    let chunks: u32 = shards.iter().map(|shard| shard.slot_count().div_ceil(CHUNK_SLOTS)).sum();
    let of_shards = shards.iter().map(ShardSnapshot::layers);
    // To wake other threads takes longer than to find some blocks.
    let layers: Result<Vec<_>, _> = match chunks {
        0..=INLINE_CHUNKS => of_shards.map(|segments| layers(segments, space, cancelled)).collect(),
        _ => of_shards.collect::<Vec<_>>().into_par_iter().map(|segments| layers(segments, space, cancelled)).collect(),
    };
    let dimension = space.dimension.into();
    Ok(recall::Space::new(space.metric, dimension, layers?).expect("layers were made for this dimension"))
}

/// Why vectors cannot be searched.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VectorsError {
    /// The caller gave up.
    #[error("the search was cancelled or ran out of time")]
    Cancelled,
    /// See [`ReadError`].
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What segments say of a space.
fn layers<'s>(
    segments: &'s [Arc<Segment>],
    space: &Space,
    cancelled: &AtomicBool,
) -> Result<Vec<Layer<'s>>, VectorsError> {
    segments.iter().filter_map(|segment| layer(segment, space, cancelled).transpose()).collect()
}

/// What a segment says of a space; `None` if nothing.
fn layer<'s>(segment: &'s Segment, space: &Space, cancelled: &AtomicBool) -> Result<Option<Layer<'s>>, VectorsError> {
    let posting = |part| segment.posting(Key { tag: space.id, part }).map(|found| found.map(|found| found.bitmap));
    let (presence, touched) = (posting(Part::Exists)?, posting(Part::Touched)?);
    if presence.is_none() && touched.is_none() {
        return Ok(None);
    }
    let (presence, touched) = (presence.unwrap_or(BitmapView::EMPTY), touched.unwrap_or(BitmapView::EMPTY));
    let damaged = |chunk: u16, what: &str| damaged(segment, space, chunk, what);
    let mut rows = Vec::with_capacity(presence.container_count());
    for chunk in (0..presence.container_count()).map(|index| presence.key(index)) {
        if cancelled.load(Ordering::Relaxed) {
            return Err(VectorsError::Cancelled);
        }
        let block = |form| {
            let block = segment.block(space.id, BlockKey { form, chunk })?;
            block.ok_or_else(|| damaged(chunk, "its vectors are missing in some form"))
        };
        let (full, scale, codes) = (block(Form::Full)?, block(Form::Scale)?, block(Form::Codes)?);
        let most = Most::of_number(scale.aux).ok_or_else(|| damaged(chunk, "the greatest length is none"))?;
        let (vectors, scales) = (full.bytes.as_chunks().0, scale.bytes.as_chunks().0);
        rows.push(ChunkRows { scales, codes: codes.bytes, vectors, most });
    }
    let cells = cells(segment, space, presence.len())?;
    let layer = Layer::new(space.dimension.into(), presence, touched, rows);
    layer
        .map(|layer| Some(layer.with_cells(cells)))
        .map_err(|error| damaged(error.chunk, "there are not as many vectors as users with one").into())
}

/// The cells of a segment with so many vectors, if they were made.
///
/// # Errors
/// [`ReadError::Corrupt`] if they are not of these vectors.
pub(super) fn cells<'s>(segment: &'s Segment, space: &Space, rows: u64) -> Result<Option<Cells<'s>>, ReadError> {
    let damaged = |what: &str| damaged(segment, space, 0, what);
    let block = |form| segment.block(space.id, BlockKey { form, chunk: 0 });
    let [centres, ends, members, copies] = Form::OF_CELLS.map(block);
    let (centres, ends, members, copies) = match (centres?, ends?, members?, copies?) {
        // Without copies they are as good as none: they were written before there were any.
        (None, None, None, None) | (Some(_), Some(_), Some(_), None) => return Ok(None),
        (Some(centres), Some(ends), Some(members), Some(copies)) => (centres, ends, members, copies),
        _ => return Err(damaged("its cells are only there in part")),
    };
    let view = CentresView::new(space.dimension.into(), centres.row_count, centres.aux as u64, centres.bytes);
    let cells = view.and_then(|centres| Cells::new(centres, ends.bytes, members.bytes, copies.bytes, rows));
    cells.map(Some).ok_or_else(|| damaged("its cells are not of its vectors"))
}

fn damaged(segment: &Segment, space: &Space, chunk: u16, what: &str) -> ReadError {
    ReadError::Corrupt {
        path: segment.path().to_owned(),
        offset_bytes: 0,
        what: format!("space {}, chunk {chunk}: {what}", space.id),
    }
}

#[cfg(test)]
mod proptests;
