//! The centres that merges sort the vectors of each space by: all shards by the same, trained anew when a space has outgrown them.
//!
//! They are not saved by themselves. Segments have those that they are sorted by, so the newest of them are found there after a start.

use super::{Snapshot, Store, held};
use crate::catalog::Space;
use crate::ids::TagId;
use crate::lookalike::cells::{Centres, VECTORS_MIN};
use crate::segment::{BlockKey, Form, Key, Part, Segment};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

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
            let is_due = vectors >= VECTORS_MIN && Centres::is_outgrown(trained_on.max(failed), vectors);
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
    Some(Centres::copied(space.metric, cells.ok()??.centres(), trained_on(segment, space.id)))
}

/// How many vectors the centres were trained on that a segment is sorted by; 0 if it is not.
pub(super) fn trained_on(segment: &Segment, space: TagId) -> u64 {
    let ends = segment.block(space, BlockKey { form: Form::Ends, chunk: 0 });
    ends.ok().flatten().map_or(0, |ends| ends.aux.max(0) as u64)
}

/// `None` if a file is damaged, which whoever asks about it is told.
fn trained(snapshot: &Snapshot, space: &Space, vectors: u64) -> Option<Centres> {
    let dimension = space.dimension.into();
    let view = snapshot.vectors(space, &AtomicBool::new(false)).ok()?;
    let (codes, scales) = view.sample(Centres::sample_size(dimension, vectors));
    Centres::train(space.metric, dimension, vectors, &codes, &scales)
}
