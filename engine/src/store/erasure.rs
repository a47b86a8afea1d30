//! Users who are erased, and ids that are not let in.
//!
//! An erasure takes effect in two steps. At once, and durably: the id leads to its slot no more, the slot is *pending*, every view that
//! is published from then on is one without it ([`super::Snapshot::without`]), and the id is *suppressed*: what is written of
//! it is passed over until it is admitted again, and then it gets another slot. Later [`super::purge`] takes what is left
//! of the pending slots off the disk.
//!
//! What is kept for good has no id in it: a hash of each, by a key that the directory's first erasure brings, so that one
//! who has the hashes alone cannot try ids. The log record of an erasure has the hash beside the slot, since slots that were given
//! by writes that are not logged are given anew after a crash.
//!
//! `erased/<id>.erased`, a sealed file of kind `BELUGERA`, which the manifest names, written by a checkpoint when something of it
//! changed; all numbers little-endian:
//!
//! ```text
//! key u128 | suppressed u32 | each: hash u128 | admitted again u32 | each: hash u128
//! erased more than once u32 | each: hash u128 | times u32
//! shards u32 | each: length u32 | pending slots, as a bitmap
//! erasures u32 | each: id u128 | digest u128 | at i64 | users u64 | clean at i64 (0: not yet)
//! ```

use super::manifest::{Decoder, Encoder};
use super::wal::Kind;
use super::{Place, Store, WriteError, Writer, erased_path, held};
use crate::error::ReadError;
use crate::ids::{FileId, ShardId, Slot, shard_of};
use crate::vfs::Vfs;
use crate::vfs::sealed::{SealedFile, SealedWriter};
use roaring::RoaringBitmap;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

const KIND: [u8; 8] = *b"BELUGERA";
const VERSION: u32 = 1;
/// Of an id that had none.
const NO_SLOT: Slot = Slot::MAX;

/// An erasure, as its receipt tells it: without the ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// Its name.
    pub id: u128,
    /// When it took effect, in microseconds since 1970.
    pub at: i64,
    /// Ids that were erased, known or not.
    pub users: u64,
    /// When the last byte of them was gone from the disk; `None`: not yet.
    pub clean_at: Option<i64>,
}

/// An erasure that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct NewErasure {
    /// Its name: one that was given before is answered as it was then.
    pub id: u128,
    /// Hash of what was asked, by which that is told from another one under the same name.
    pub digest: u128,
    /// Chance: what the directory's hashes are made with if it has none yet; not 0.
    pub key: u128,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Erasures {
    /// 0 before the first erasure.
    key: u128,
    suppressed: HashSet<u128>,
    /// Those that were, and were admitted again: what a backup has of them is of before.
    admitted: HashSet<u128>,
    /// How often those were erased that were more than once, and admitted in between.
    more: HashMap<u128, u32>,
    /// Slots per shard of which something may be on the disk; none for no shard if there are none at all.
    pending: Vec<RoaringBitmap>,
    /// In the order in which they came, with the digests.
    list: Vec<(Erasure, u128)>,
}

/// A user in the record of an erasure.
#[derive(Clone, Copy, Debug)]
pub(super) struct ErasedUser {
    hash: u128,
    /// How often this one was erased, and admitted in between, with this erasure.
    times: u32,
    /// Where the user was then.
    place: Option<Place>,
}

/// What the log says of an erasure.
#[derive(Debug)]
pub(super) struct ErasureRecord {
    key: u128,
    erasure: Erasure,
    digest: u128,
    users: Vec<ErasedUser>,
}

/// What the log says of ids that are suppressed no more: their hashes.
#[derive(Debug)]
pub(super) struct AdmitRecord(Vec<u128>);

impl ErasureRecord {
    fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.u128(self.key);
        encode_erasure(&(self.erasure, self.digest), &mut out);
        out.u32(self.users.len() as u32);
        for user in &self.users {
            let (shard, slot) = user.place.unwrap_or((ShardId(0), NO_SLOT));
            out.u128(user.hash);
            out.u32(user.times);
            out.u16(shard.0);
            out.u32(slot);
        }
        out.0
    }

    pub(super) fn decode(bytes: &mut Decoder<'_>) -> Option<ErasureRecord> {
        let key = bytes.u128()?;
        let (erasure, digest) = decode_erasure(bytes)?;
        let users = bytes.many(|bytes| {
            let (hash, times, shard, slot) = (bytes.u128()?, bytes.u32()?, ShardId(bytes.u16()?), bytes.u32()?);
            Some(ErasedUser { hash, times, place: (slot != NO_SLOT).then_some((shard, slot)) })
        })?;
        Some(ErasureRecord { key, erasure, digest, users })
    }
}

impl AdmitRecord {
    fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.u32(self.0.len() as u32);
        self.0.iter().for_each(|hash| out.u128(*hash));
        out.0
    }

    pub(super) fn decode(bytes: &mut Decoder<'_>) -> Option<AdmitRecord> {
        bytes.many(Decoder::u128).map(AdmitRecord)
    }
}

fn encode_erasure((erasure, digest): &(Erasure, u128), out: &mut Encoder) {
    out.u128(erasure.id);
    out.u128(*digest);
    out.u64(erasure.at as u64);
    out.u64(erasure.users);
    out.u64(erasure.clean_at.unwrap_or(0) as u64);
}

fn decode_erasure(bytes: &mut Decoder<'_>) -> Option<(Erasure, u128)> {
    let (id, digest, at, users) = (bytes.u128()?, bytes.u128()?, bytes.u64()? as i64, bytes.u64()?);
    let clean_at = Some(bytes.u64()? as i64).filter(|at| *at != 0);
    Some((Erasure { id, at, users, clean_at }, digest))
}

impl Erasures {
    /// Whether ids are to be looked at before they are let in.
    pub(super) fn suppresses(&self) -> bool {
        !self.suppressed.is_empty()
    }

    /// Whether an id that is not known may become so.
    pub(super) fn admits(&self, user_id: &[u8]) -> bool {
        !self.suppressed.contains(&keyed_hash(self.key, user_id))
    }

    /// How often an id was erased, and admitted in between.
    fn times(&self, hash: u128) -> u32 {
        let once = u32::from(self.suppressed.contains(&hash) || self.admitted.contains(&hash));
        self.more.get(&hash).copied().unwrap_or(once)
    }

    /// Slots per shard of which something may be on the disk.
    pub(super) fn pending(&self) -> &[RoaringBitmap] {
        &self.pending
    }

    /// Whether nothing is left to be done.
    pub(super) fn is_clean(&self) -> bool {
        self.pending.iter().all(RoaringBitmap::is_empty) && self.list.iter().all(|(one, _)| one.clean_at.is_some())
    }

    pub(super) fn has_pending(&self, (shard, slot): Place) -> bool {
        self.pending.get(usize::from(shard.0)).is_some_and(|pending| pending.contains(slot))
    }

    /// How many erasures there were.
    pub(super) fn count(&self) -> usize {
        self.list.len()
    }

    /// When the oldest one took effect that is not clean, of those behind the first `skipped`.
    pub(super) fn unclean_since(&self, skipped: usize) -> Option<i64> {
        let unclean = self.list.iter().skip(skipped).filter(|(erasure, _)| erasure.clean_at.is_none());
        unclean.map(|(erasure, _)| erasure.at).min()
    }

    fn find(&self, id: u128) -> Option<&(Erasure, u128)> {
        self.list.iter().rev().find(|(erasure, _)| erasure.id == id)
    }

    /// That everything that `done` has pending is gone. Answers how many erasures are clean by that which were not.
    pub(super) fn clean(&mut self, done: &Erasures, now: i64) -> u64 {
        for (pending, gone) in self.pending.iter_mut().zip(&done.pending) {
            *pending -= gone;
        }
        let cleaned: HashSet<u128> = done.list.iter().map(|(erasure, _)| erasure.id).collect();
        let mut count = 0;
        for (erasure, _) in &mut self.list {
            if erasure.clean_at.is_none() && cleaned.contains(&erasure.id) {
                erasure.clean_at = Some(now.max(1));
                count += 1;
            }
        }
        count
    }

    /// Writes a file and syncs it (not its folder).
    pub(super) fn write(&self, vfs: &dyn Vfs, path: &Path) -> io::Result<u64> {
        let mut out = Encoder::default();
        out.u128(self.key);
        for hashes in [&self.suppressed, &self.admitted] {
            out.u32(hashes.len() as u32);
            let mut hashes: Vec<u128> = hashes.iter().copied().collect();
            hashes.sort_unstable();
            hashes.iter().for_each(|hash| out.u128(*hash));
        }
        let mut more: Vec<(u128, u32)> = self.more.iter().map(|(hash, times)| (*hash, *times)).collect();
        more.sort_unstable();
        out.u32(more.len() as u32);
        for (hash, times) in more {
            out.u128(hash);
            out.u32(times);
        }
        out.u32(self.pending.len() as u32);
        for pending in &self.pending {
            let mut bytes = Vec::new();
            pending.serialize_into(&mut bytes)?;
            out.bytes(&bytes);
        }
        out.u32(self.list.len() as u32);
        self.list.iter().for_each(|erasure| encode_erasure(erasure, &mut out));
        let mut writer = SealedWriter::new(vfs.create(path)?, KIND, VERSION);
        writer.append(&out.0)?;
        writer.finish()
    }

    pub(super) fn read(vfs: &dyn Vfs, path: &Path) -> Result<Erasures, ReadError> {
        let file = SealedFile::open(vfs, path, KIND, VERSION)?;
        let payload = file.payload(0..file.payload_len())?;
        Erasures::decode(&mut Decoder(payload)).ok_or_else(|| file.corrupt(0, "not a list of erasures"))
    }

    fn decode(bytes: &mut Decoder<'_>) -> Option<Erasures> {
        let key = bytes.u128()?;
        let suppressed = bytes.many(Decoder::u128)?.into_iter().collect();
        let admitted = bytes.many(Decoder::u128)?.into_iter().collect();
        let more = bytes.many(|bytes| Some((bytes.u128()?, bytes.u32()?)))?.into_iter().collect();
        let pending = bytes.many(|bytes| RoaringBitmap::deserialize_from(&bytes.bytes()?[..]).ok())?;
        let list = bytes.many(decode_erasure)?;
        bytes.0.is_empty().then_some(Erasures { key, suppressed, admitted, more, pending, list })
    }
}

impl Store {
    /// Erases users. When this returns they are in no view that is published, and it is durable; their bytes go with the next
    /// [`Store::purge`]. Ids that are not known are suppressed all the same.
    ///
    /// # Errors
    /// [`WriteError::KeyReused`] for a name that another erasure has; else [`WriteError`], and whether they are erased is then unknown.
    pub fn erase(&self, user_ids: &[&[u8]], asked: NewErasure) -> Result<Erasure, WriteError> {
        let distinct: BTreeSet<&[u8]> = user_ids.iter().copied().collect();
        let mut writer = held(&self.writer);
        self.log.check()?;
        let erasure = match writer.erasures.find(asked.id) {
            Some((_, digest)) if *digest != asked.digest => return Err(WriteError::KeyReused),
            Some((known, _)) => *known,
            None => {
                let at = self.options.clock.now();
                let erasure = Erasure { id: asked.id, at, users: distinct.len() as u64, clean_at: None };
                let key = if writer.erasures.key == 0 { asked.key } else { writer.erasures.key };
                let users = distinct.iter().map(|id| {
                    let shard = shard_of(id, self.dictionaries.len() as u16);
                    let slot = self.dictionaries[usize::from(shard.0)].slot_of(id)?;
                    let hash = keyed_hash(key, id);
                    let times = writer.erasures.times(hash) + u32::from(!writer.erasures.suppressed.contains(&hash));
                    Ok(ErasedUser { hash, times, place: slot.map(|slot| (shard, slot)) })
                });
                let users = users.collect::<Result<Vec<_>, ReadError>>()?;
                let record = ErasureRecord { key, erasure, digest: asked.digest, users };
                self.log.append(Kind::Erase, &[&record.encode()])?;
                self.apply_erasure(&mut writer, record);
                erasure
            }
        };
        let end = self.log.end();
        drop(writer);
        self.log.sync(end)?;
        self.publish()?;
        Ok(erasure)
    }

    /// Erases and suppresses whom another state of this directory has: a backup that was restored does not know of later erasures.
    /// `file` is that state's newest file in `erased/`. Who was admitted again there is so here, and has nothing of before. Looks at every
    /// id.
    ///
    /// # Errors
    /// [`WriteError::OtherErasures`] if the file is of another directory; else as [`Store::erase`].
    pub fn erase_again(&self, file: &Path, asked: NewErasure) -> Result<Erasure, WriteError> {
        let theirs = Erasures::read(&*self.vfs, file)?;
        let mut writer = held(&self.writer);
        self.log.check()?;
        if ![0, theirs.key].contains(&writer.erasures.key) {
            return Err(WriteError::OtherErasures);
        }
        let own = &writer.erasures;
        let is_more = |hash: &u128| theirs.times(*hash) > own.times(*hash);
        let mut left: HashSet<u128> =
            theirs.suppressed.iter().chain(&theirs.admitted).copied().filter(is_more).collect();
        // As they are there, also those who were let in since.
        let is_let_in = |hash: &u128| own.suppressed.contains(hash) && theirs.times(*hash) == own.times(*hash);
        let admitted: Vec<u128> =
            theirs.admitted.iter().copied().filter(|hash| is_more(hash) || is_let_in(hash)).collect();
        let erased = |hash: u128, place| ErasedUser { hash, times: theirs.times(hash), place };
        let mut users = Vec::with_capacity(left.len());
        let mut id = Vec::new();
        for (shard, dictionary) in self.dictionaries.iter().enumerate() {
            for slot in 0..dictionary.slot_count() {
                id.clear();
                if dictionary.user_id(slot, &mut id)? {
                    let hash = keyed_hash(theirs.key, &id);
                    let place = Some((ShardId(shard as u16), slot));
                    users.extend(left.take(&hash).map(|hash| erased(hash, place)));
                }
            }
        }
        users.extend(left.into_iter().map(|hash| erased(hash, None)));
        let at = self.options.clock.now();
        let erasure = Erasure { id: asked.id, at, users: users.len() as u64, clean_at: None };
        let record = ErasureRecord { key: theirs.key, erasure, digest: asked.digest, users };
        let mut end = self.log.append(Kind::Erase, &[&record.encode()])?;
        self.apply_erasure(&mut writer, record);
        if !admitted.is_empty() {
            let record = AdmitRecord(admitted);
            end = self.log.append(Kind::Admit, &[&record.encode()])?;
            writer.admit(&record);
        }
        drop(writer);
        self.log.sync(end)?;
        self.publish()?;
        Ok(erasure)
    }

    /// Lets ids in again that were erased; what was erased stays so. Logged; durable when this returns. Answers how many of them were
    /// suppressed.
    ///
    /// # Errors
    /// [`WriteError`]; some of them may then be let in.
    pub fn admit(&self, user_ids: &[&[u8]]) -> Result<u64, WriteError> {
        let mut writer = held(&self.writer);
        self.log.check()?;
        let key = writer.erasures.key;
        let hashes: BTreeSet<u128> = user_ids.iter().map(|id| keyed_hash(key, id)).collect();
        let known: Vec<u128> = hashes.into_iter().filter(|hash| writer.erasures.suppressed.contains(hash)).collect();
        if known.is_empty() {
            return Ok(0);
        }
        let (count, record) = (known.len() as u64, AdmitRecord(known));
        let lsn = self.log.append(Kind::Admit, &[&record.encode()])?;
        writer.admit(&record);
        drop(writer);
        self.log.sync(lsn)?;
        Ok(count)
    }

    /// The erasures, in the order in which they came.
    pub fn erasures(&self) -> Vec<Erasure> {
        held(&self.writer).erasures.list.iter().map(|(erasure, _)| *erasure).collect()
    }

    /// The erasure of this name.
    pub fn erasure(&self, id: u128) -> Option<Erasure> {
        held(&self.writer).erasures.find(id).map(|(erasure, _)| *erasure)
    }

    /// When the oldest erasure took effect of which there may still be bytes on the disk, in microseconds since 1970.
    pub fn unclean_since(&self) -> Option<i64> {
        held(&self.writer).erasures.unclean_since(0)
    }

    /// Updates since the store was opened that were passed over because their user is suppressed.
    pub fn suppressed_count(&self) -> u64 {
        held(&self.writer).suppressed_updates
    }

    /// How many of a batch's updates are about users that are suppressed, and will be passed over.
    ///
    /// # Errors
    /// [`ReadError`] if a dictionary is damaged.
    pub fn suppressed_in(&self, batch: &crate::update::UpdateBatch) -> Result<u64, ReadError> {
        let erasures = held(&self.writer).erasures.clone();
        if !erasures.suppresses() {
            return Ok(0);
        }
        // One that is suppressed is not known.
        Ok(batch.users().filter(|user| !erasures.admits(user.user_id)).count() as u64)
    }

    fn apply_erasure(&self, writer: &mut Writer, record: ErasureRecord) {
        let ErasureRecord { key, erasure, digest, users } = record;
        let mut slots = vec![RoaringBitmap::new(); self.dictionaries.len()];
        for (shard, slot) in users.iter().filter_map(|user| user.place) {
            slots[usize::from(shard.0)].insert(slot);
        }
        self.dictionaries.iter().zip(&slots).for_each(|(dictionary, slots)| dictionary.erase(slots));
        let erasures = Arc::make_mut(&mut writer.erasures);
        erasures.key = key;
        for user in &users {
            erasures.suppressed.insert(user.hash);
            erasures.admitted.remove(&user.hash);
            if user.times > 1 {
                erasures.more.insert(user.hash, user.times);
            }
        }
        erasures.pending.resize_with(slots.len(), RoaringBitmap::new);
        erasures.pending.iter_mut().zip(slots).for_each(|(pending, slots)| *pending |= slots);
        erasures.list.push((erasure, digest));
        writer.changed();
    }

    /// Erases what the log says was erased, where the users are now.
    pub(super) fn redo_erasure(&self, writer: &mut Writer, mut record: ErasureRecord) -> Result<(), ReadError> {
        // Users who may be elsewhere, by their hashes.
        let mut moved: HashMap<usize, HashMap<u128, usize>> = HashMap::new();
        let mut id = Vec::new();
        for (at, user) in record.users.iter_mut().enumerate() {
            let Some((shard, slot)) = user.place else { continue };
            let Some(dictionary) = self.dictionaries.get(usize::from(shard.0)) else { continue };
            id.clear();
            // Slots on the disk stay what they are. But the id may be gone from there already, and then what was written of it before it
            // was erased has been given another slot by this replay.
            let is_sealed = slot < dictionary.unsealed().start;
            if !is_sealed || !dictionary.user_id(slot, &mut id)? {
                user.place = user.place.filter(|_| is_sealed);
                moved.entry(shard.0.into()).or_default().insert(user.hash, at);
            }
        }
        for (shard, moved) in moved {
            let Some(dictionary) = self.dictionaries.get(shard) else { continue };
            for slot in dictionary.unsealed() {
                id.clear();
                if dictionary.user_id(slot, &mut id)?
                    && let Some(at) = moved.get(&keyed_hash(record.key, &id))
                {
                    let place = Some((ShardId(shard as u16), slot));
                    match record.users[*at].place {
                        None => record.users[*at].place = place,
                        Some(_) => record.users.push(ErasedUser { place, ..record.users[*at] }),
                    }
                }
            }
        }
        self.apply_erasure(writer, record);
        Ok(())
    }
}

impl Writer {
    pub(super) fn admit(&mut self, record: &AdmitRecord) {
        let erasures = Arc::make_mut(&mut self.erasures);
        for hash in &record.0 {
            if erasures.suppressed.remove(hash) {
                erasures.admitted.insert(*hash);
            }
        }
        self.unsaved = true;
    }
}

/// Reads the erasures that a manifest names.
pub(super) fn load(vfs: &dyn Vfs, folder: &Path, file: Option<FileId>) -> Result<Arc<Erasures>, ReadError> {
    let Some(id) = file else { return Ok(Arc::default()) };
    Erasures::read(vfs, &erased_path(folder, id)).map(Arc::new)
}

/// SipHash-2-4 with 128 bits (Aumasson and Bernstein, 2012): who does not have the key cannot tell which id a hash is of.
fn keyed_hash(key: u128, bytes: &[u8]) -> u128 {
    let (k0, k1) = (key as u64, (key >> 64) as u64);
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = bytes.len() as u8;
    for word in words.iter().chain([&last]) {
        let word = u64::from_le_bytes(*word);
        v[3] ^= word;
        rounds(&mut v, 2);
        v[0] ^= word;
    }
    v[2] ^= 0xee;
    rounds(&mut v, 4);
    let low = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    rounds(&mut v, 4);
    u128::from(v[0] ^ v[1] ^ v[2] ^ v[3]) << 64 | u128::from(low)
}

fn rounds(v: &mut [u64; 4], count: usize) {
    for _ in 0..count {
        v[0] = v[0].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[2] = v[2].rotate_left(32);
    }
}

#[cfg(test)]
mod tests;
