//! Whose membership may have changed: the users of whom newly published layers say something that a predicate asks for.
//!
//! A layer has every user that was written to in its part of the universe, so who is really new is told by
//! [`Known`], which remembers the others.

use super::{QueryContext, QueryError, slots};
use crate::audience::predicate::Predicate;
use crate::error::ReadError;
use crate::ids::TagId;
use crate::segment::{Key, Part, Segment};
use crate::store::{PublishedLayers, Snapshot};
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a predicate asks of the layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Tags and facts of which anything may matter.
    whole: BTreeSet<TagId>,
    /// Sets of which only these values matter.
    values: BTreeMap<TagId, BTreeSet<Vec<u8>>>,
    /// Whatever is written of one user can move others.
    concerns_everybody: bool,
}

impl Reads {
    /// Of one predicate.
    pub fn of(predicate: &Predicate) -> Reads {
        let mut reads = Reads::default();
        reads.add(predicate);
        reads
    }

    /// Whether what is written of one user can make others members, or members no more: [`Reads::touched`] does not name those.
    pub fn concerns_everybody(&self) -> bool {
        self.concerns_everybody
    }

    /// Whether events are searched for it.
    pub fn searches(&self) -> bool {
        self.whole.contains(&TagId::UNIVERSE)
    }

    fn add(&mut self, predicate: &Predicate) {
        match predicate {
            Predicate::All | Predicate::Nobody | Predicate::Users(_) | Predicate::Given(_) => {}
            Predicate::HasAny(tag, values) => {
                let wanted = self.values.entry(*tag).or_default();
                wanted.extend(values.iter().map(|value| value.as_bytes().to_vec()));
            }
            Predicate::Listed(list) => {
                self.values.entry(TagId::UPLOADS).or_default().insert(list.as_bytes().to_vec());
            }
            Predicate::Flag(tag) | Predicate::Known(tag) | Predicate::InRange(tag, _) => {
                self.whole.insert(*tag);
            }
            Predicate::Did(did) => {
                self.whole.insert(did.fact);
            }
            // An event and one that was taken back may leave no trace in what is counted, but whoever is written to is in the
            // layer's part of the universe.
            Predicate::Scan(_) => {
                self.whole.insert(TagId::UNIVERSE);
            }
            Predicate::Similar(similar) => {
                self.concerns_everybody = true;
                self.whole.insert(similar.space);
                self.whole.extend(similar.weights);
                similar.inner().into_iter().for_each(|inner| self.add(inner));
            }
            Predicate::And(of) | Predicate::Or(of) | Predicate::AtLeast(_, of) => {
                of.iter().for_each(|operand| self.add(operand));
            }
            Predicate::Xor(a, b) => {
                self.add(a);
                self.add(b);
            }
            Predicate::Not(of) => self.add(of),
        }
    }

    /// The slots, per shard, of which the layers say something that is read. Not those whom time alone moves, and not those who
    /// became known.
    ///
    /// # Errors
    /// [`ReadError`] if a posting is damaged.
    pub fn touched(&self, layers: &PublishedLayers) -> Result<Vec<RoaringBitmap>, ReadError> {
        let of_shard = |layers: &Vec<Arc<Segment>>| {
            let mut touched = RoaringBitmap::new();
            layers.iter().try_for_each(|layer| self.touched_in(layer, &mut touched))?;
            Ok(touched)
        };
        layers.shards.iter().map(of_shard).collect()
    }

    fn touched_in(&self, layer: &Segment, touched: &mut RoaringBitmap) -> Result<(), ReadError> {
        for tag in &self.whole {
            for entry in layer.entries(*tag) {
                // The bits of a number, and vectors, say nothing of users that `Touched` and `Exists` do not.
                if !matches!(layer.key_at(entry).part, Part::Slice(_) | Part::Block(_)) {
                    *touched |= layer.posting_at(entry)?.bitmap.to_bitmap();
                }
            }
        }
        for (tag, values) in &self.values {
            for entry in layer.entries(*tag) {
                let matters = match layer.key_at(entry).part {
                    Part::Value(value) | Part::Removed(value) => values.contains(value),
                    Part::Touched => true,
                    _ => false,
                };
                if matters {
                    *touched |= layer.posting_at(entry)?.bitmap.to_bitmap();
                }
            }
        }
        Ok(())
    }
}

/// The users that are known, as far as their newcomers were asked for.
#[derive(Clone, Debug)]
pub struct Known(Vec<RoaringBitmap>);

impl Known {
    /// All that a snapshot has.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn of(snapshot: &Snapshot) -> Result<Known, QueryError> {
        Ok(Known(slots(snapshot, &Predicate::All, &QueryContext::default())?))
    }

    /// The users, as slots per shard, that these layers made known, or unknown: whoever they are, they may be members of
    /// anything now, or no more. They are remembered.
    ///
    /// # Errors
    /// [`ReadError`] if a posting is damaged.
    pub fn take_newcomers(&mut self, layers: &PublishedLayers) -> Result<Vec<RoaringBitmap>, ReadError> {
        let of_shard = |(known, layers): (&mut RoaringBitmap, &Vec<Arc<Segment>>)| {
            let mut changed = RoaringBitmap::new();
            for layer in layers {
                for (part, comes) in [(Part::Touched, false), (Part::Exists, true)] {
                    let Some(posting) = layer.posting(Key { tag: TagId::UNIVERSE, part })? else { continue };
                    let users = posting.bitmap.to_bitmap();
                    changed |= if comes { &users - &*known } else { &users & &*known };
                    if comes {
                        *known |= users
                    } else {
                        *known -= users
                    };
                }
            }
            Ok(changed)
        };
        self.0.iter_mut().zip(&layers.shards).map(of_shard).collect()
    }
}
