//! What is kept between calls: planned statements, prepared ones, sessions; and the handles by which clients name them.
//!
//! Kept things hold files, memory and tasks alive; therefore they are few: one that is unused for too long goes, and when there are too
//! many the one unused for longest goes. One that is in use stays. A handle is sealed for the one who got it, so that nobody else can
//! use or even guess it, and what another run of the server gave is noticed.

use crate::access::Principal;
use crate::error::Failure;
use crate::state::lock;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const ID_BYTES: usize = 16;
const TAG_BYTES: usize = 32;

/// The number of a kept thing.
pub(super) type Id = [u8; ID_BYTES];

/// What a handle stands for; one of another kind is no handle.
#[derive(Clone, Copy, Debug)]
pub(super) enum HandleKind {
    Statement = 1,
    Prepared = 2,
    Session = 3,
}

/// Seals handles.
pub(super) struct Seal {
    key: hmac::Key,
    random: SystemRandom,
}

impl Seal {
    /// # Errors
    /// [`Failure`] if the system gives no random numbers.
    pub(super) fn new() -> Result<Seal, Failure> {
        let random = SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random)
            .map_err(|_| Failure::internal("the system gives no random numbers"))?;
        Ok(Seal { key, random })
    }

    /// A number that nobody can guess.
    ///
    /// # Errors
    /// As [`Seal::new`].
    pub(super) fn id(&self) -> Result<Id, Failure> {
        let mut id = Id::default();
        self.random.fill(&mut id).map_err(|_| Failure::internal("the system gives no random numbers"))?;
        Ok(id)
    }

    /// The handle of a number, for this principal alone.
    pub(super) fn handle(&self, kind: HandleKind, id: Id, principal: &Principal) -> Vec<u8> {
        let tag = hmac::sign(&self.key, &sealed(kind, &id, principal));
        [id.as_slice(), tag.as_ref()].concat()
    }

    /// The number in a handle, if it was given to this principal by this run of the server.
    pub(super) fn open(&self, kind: HandleKind, handle: &[u8], principal: &Principal) -> Option<Id> {
        let (id, tag) = handle.split_at_checked(ID_BYTES)?;
        if tag.len() != TAG_BYTES {
            return None;
        }
        let id = Id::try_from(id).ok()?;
        hmac::verify(&self.key, &sealed(kind, &id, principal), tag).ok()?;
        Some(id)
    }
}

fn sealed(kind: HandleKind, id: &Id, principal: &Principal) -> Vec<u8> {
    [&[kind as u8], id.as_slice(), principal.id().as_bytes()].concat()
}

/// Things by their numbers.
pub(super) struct Held<T> {
    kept: Mutex<HashMap<Id, (Arc<T>, Instant)>>,
    kept_max: usize,
    idle_max: Duration,
}

impl<T> Held<T> {
    /// Keeps at most `kept_max` things, each at most `idle_max` after its last use.
    pub(super) fn new(kept_max: usize, idle_max: Duration) -> Held<T> {
        Held { kept: Mutex::default(), kept_max, idle_max }
    }

    /// Keeps a thing.
    pub(super) fn keep(&self, id: Id, thing: Arc<T>) {
        self.keep_among(id, thing, |_| true);
    }

    /// Keeps a thing among those which `is_of_them` says belong with it, so many of which are kept.
    pub(super) fn keep_among(&self, id: Id, thing: Arc<T>, is_of_them: impl Fn(&T) -> bool) {
        // What goes is dropped behind the lock: that may take a moment.
        let mut gone = self.expired();
        let mut kept = lock(&self.kept);
        let them = || kept.iter().filter(|(_, (thing, _))| is_of_them(thing));
        if them().count() >= self.kept_max {
            let idle = them().filter(|(_, (thing, _))| Arc::strong_count(thing) == 1);
            let oldest = idle.min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id);
            gone.extend(oldest.and_then(|id| kept.remove(&id)).map(|(thing, _)| thing));
        }
        kept.insert(id, (thing, Instant::now()));
        drop(kept);
    }

    /// The thing of a number, if it is there still, was used until now.
    pub(super) fn touch(&self, id: &Id) {
        if let Some((_, used)) = lock(&self.kept).get_mut(id) {
            *used = Instant::now();
        }
    }

    /// The thing of a number, which is used from now on.
    pub(super) fn get(&self, id: &Id) -> Option<Arc<T>> {
        drop(self.expired());
        let mut kept = lock(&self.kept);
        let (thing, used) = kept.get_mut(id)?;
        *used = Instant::now();
        Some(Arc::clone(thing))
    }

    /// Lets go of a thing.
    pub(super) fn take(&self, id: &Id) -> Option<Arc<T>> {
        lock(&self.kept).remove(id).map(|(thing, _)| thing)
    }

    /// Lets go of what was unused for too long.
    pub(super) fn expire(&self) {
        drop(self.expired());
    }

    fn expired(&self) -> Vec<Arc<T>> {
        let mut kept = lock(&self.kept);
        let is_over = |_: &Id, (thing, used): &mut (Arc<T>, Instant)| {
            Arc::strong_count(thing) == 1 && used.elapsed() >= self.idle_max
        };
        kept.extract_if(is_over).map(|(_, (thing, _))| thing).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_opens_for_what_it_was_made_for_alone() {
        let seal = Seal::new().expect("random numbers");
        let who = Principal::anyone();
        let id = seal.id().expect("random");
        let handle = seal.handle(HandleKind::Statement, id, &who);
        assert_eq!(seal.open(HandleKind::Statement, &handle, &who), Some(id));
        assert_eq!(seal.open(HandleKind::Prepared, &handle, &who), None);
        assert_eq!(Seal::new().expect("random").open(HandleKind::Statement, &handle, &who), None);
        for at in 0..handle.len() {
            let mut other = handle.clone();
            other[at] ^= 1;
            assert_eq!(seal.open(HandleKind::Statement, &other, &who), None, "byte {at}");
            assert_eq!(seal.open(HandleKind::Statement, &handle[..at], &who), None, "{at} bytes");
        }
    }

    #[test]
    fn what_is_unused_for_longest_goes_and_what_is_used_stays() {
        let held = Held::new(2, Duration::from_secs(60));
        held.keep([1; 16], Arc::new("a"));
        held.keep([2; 16], Arc::new("b"));
        let used = held.get(&[1; 16]).expect("kept");
        held.keep([3; 16], Arc::new("c"));
        assert!(held.get(&[2; 16]).is_none() && held.get(&[1; 16]).is_some() && held.get(&[3; 16]).is_some());
        drop(used);
        // So many of each kind.
        for id in 4..8 {
            held.keep_among([id; 16], Arc::new("d"), |thing| *thing == "d");
        }
        assert!(held.get(&[1; 16]).is_some() && held.get(&[5; 16]).is_none() && held.get(&[6; 16]).is_some());
        let held = Held::new(2, Duration::ZERO);
        let used = Arc::new("a");
        held.keep([1; 16], Arc::clone(&used));
        assert!(held.get(&[1; 16]).is_some());
        drop(used);
        assert!(held.get(&[1; 16]).is_none());
    }

    #[test]
    fn what_was_used_for_long_is_kept_as_long_as_what_just_came() {
        let held = Held::new(2, Duration::from_millis(200));
        held.keep([1; 16], Arc::new("a"));
        let used = held.get(&[1; 16]).expect("kept");
        std::thread::sleep(Duration::from_millis(250));
        held.touch(&[1; 16]);
        drop(used);
        assert!(held.get(&[1; 16]).is_some());
    }
}
