//! Whom a snapshot shows: everybody, or some of its users.
//!
//! Who is not shown is not there for whoever asks: in no count, under no NOT, without an id. A plan puts these users at
//! the root of each program (see [`crate::audience::plan`]), so that no operator has to think of them; and a shard knows no slot of
//! their ids, and no ids of their slots.

use super::{ShardSnapshot, Snapshot};
use crate::bitmap::view::BitmapView;
use crate::ids::{ShardId, Slot};
use roaring::RoaringBitmap;
use std::borrow::Cow;
use std::sync::Arc;

/// The users of a shard that are shown. All shards of a snapshot are of one kind, so that their programs have one shape.
#[derive(Clone, Debug, Default)]
pub(crate) enum Shown {
    /// Everybody.
    #[default]
    All,
    /// These alone; slots, serialised.
    Only(Arc<[u8]>),
    /// All but these: what is left out of most chunks costs nothing there.
    Without(Arc<[u8]>),
}

impl Shown {
    /// Whether a user is.
    pub(super) fn has(&self, slot: Slot) -> bool {
        match self {
            Shown::All => true,
            Shown::Only(users) => BitmapView::trusted(users).contains(slot),
            Shown::Without(users) => !BitmapView::trusted(users).contains(slot),
        }
    }

    /// Everybody but these, slots per shard: of each of so many shards.
    pub(super) fn all_without(users: &[RoaringBitmap], shard_count: usize) -> Vec<Shown> {
        if users.iter().all(RoaringBitmap::is_empty) {
            return vec![Shown::All; shard_count];
        }
        let none = RoaringBitmap::new();
        (0..shard_count).map(|shard| Shown::All.without(users.get(shard).unwrap_or(&none))).collect()
    }

    fn only(&self, users: &RoaringBitmap) -> Shown {
        Shown::Only(match self {
            Shown::All => serialized(users),
            Shown::Only(known) => serialized(&(BitmapView::trusted(known).to_bitmap() & users)),
            Shown::Without(others) => serialized(&(users - BitmapView::trusted(others).to_bitmap())),
        })
    }

    fn without(&self, users: &RoaringBitmap) -> Shown {
        match self {
            Shown::All => Shown::Without(serialized(users)),
            Shown::Only(known) => Shown::Only(serialized(&(BitmapView::trusted(known).to_bitmap() - users))),
            Shown::Without(others) => Shown::Without(serialized(&(BitmapView::trusted(others).to_bitmap() | users))),
        }
    }

    fn of<'u>(&self, users: &'u RoaringBitmap) -> Cow<'u, RoaringBitmap> {
        match self {
            Shown::All => Cow::Borrowed(users),
            Shown::Only(known) => Cow::Owned(BitmapView::trusted(known).to_bitmap() & users),
            Shown::Without(others) => Cow::Owned(users - BitmapView::trusted(others).to_bitmap()),
        }
    }
}

fn serialized(users: &RoaringBitmap) -> Arc<[u8]> {
    let mut users = users.clone();
    // Most of everybody, or of nobody, is a few runs.
    users.optimize();
    let mut bytes = Vec::with_capacity(users.serialized_size());
    users.serialize_into(&mut bytes).expect("memory does not fail");
    bytes.into()
}

impl Snapshot {
    /// The same view, of these users alone; as slots per shard, a shard that is left out has none. Who was not shown stays so.
    pub fn only(&self, users: &[RoaringBitmap]) -> Snapshot {
        self.showing(users, Shown::only)
    }

    /// The same view without these users; as slots per shard.
    pub fn without(&self, users: &[RoaringBitmap]) -> Snapshot {
        self.showing(users, Shown::without)
    }

    fn showing(&self, users: &[RoaringBitmap], change: impl Fn(&Shown, &RoaringBitmap) -> Shown) -> Snapshot {
        let none = RoaringBitmap::new();
        let change = |(number, shard): (usize, &ShardSnapshot)| {
            let mut shard = shard.clone();
            shard.shown = change(&shard.shown, users.get(number).unwrap_or(&none));
            shard
        };
        Snapshot { shards: self.shards.iter().enumerate().map(change).collect(), ..self.clone() }
    }

    /// Whether a user is shown.
    pub fn shows(&self, shard: ShardId, slot: Slot) -> bool {
        self.shards.get(usize::from(shard.0)).is_some_and(|shard| shard.shown.has(slot))
    }

    /// Whether nobody is left out.
    pub fn shows_everybody(&self) -> bool {
        self.shards.iter().all(|shard| matches!(shard.shown, Shown::All))
    }

    /// Those of these users that are shown; as slots per shard.
    pub fn shown_of<'u>(&self, users: &'u [RoaringBitmap]) -> Cow<'u, [RoaringBitmap]> {
        if self.shows_everybody() {
            return Cow::Borrowed(users);
        }
        self.shards.iter().zip(users).map(|(shard, users)| shard.shown.of(users).into_owned()).collect()
    }
}
