//! Verifying a data directory: every checksum, every container, and what must hold between them.
//!
//! * Files: those the newest manifest names are there, of the length it says, and whole.
//! * Postings: below the shard's slot count; the values of an `enum` are disjoint and their union is `Exists`; slices lie within
//!   `Exists`; above the oldest segment what exists was touched; months of activity are the sums of their days.
//! * Vectors: one of each form for each user in `Exists`, as its space wants it.
//! * User ids: each in its shard, each found under its slot and no other. Ids of events: in order, each found.
//! * The log: whole records of known form without a gap, but for a torn end.

use super::erasure::{self, Erasures};
use super::manifest::{Manifest, ShardFiles};
use super::once::OnceTable;
use super::recovery::{Record, newest, open_dictionary, open_segment, unknown_record};
use super::{event_ids_path, once_path, part_path, wal};
use crate::behavior::Grain;
use crate::bitmap::counter::Counter;
use crate::catalog::{Space, TagType};
use crate::dictionary::part::Part as IdPart;
use crate::error::ReadError;
use crate::events::part::Part as EventPart;
use crate::ids::{CHUNK_SLOTS, Lsn, TagId, shard_of};
use crate::lookalike::quantise::{Most, is_same_scale, quantise};
use crate::segment::{BlockKey, Form, Key, Part, Segment};
use crate::store::memtable::{TypeOf, Types};
use crate::store::vectors::cells;
use crate::vfs::Vfs;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// Files read.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Users with a slot.
    pub users: u64,
    /// Log records behind the newest checkpoint.
    pub log_records: u64,
    /// Everything that is wrong; empty for a sound directory.
    pub problems: Vec<String>,
}

/// Reads and verifies everything in `folder`, telling `progress` each file's bytes as it goes. Goes on after damage, to list all
/// of it. The directory must not be open. Changes nothing.
pub fn check(vfs: &dyn Vfs, folder: &Path, progress: impl FnMut(u64)) -> CheckReport {
    let mut checker = Checker { vfs, folder, erasures: Arc::default(), report: CheckReport::default(), progress };
    match newest(vfs, folder) {
        Ok(Some((_, manifest))) => checker.all(&manifest),
        Ok(None) => checker.report.problems.push(format!("{}: no manifest: not a Beluga directory", folder.display())),
        Err(error) => checker.found(Err(error)),
    }
    checker.report
}

struct Checker<'c, P> {
    vfs: &'c dyn Vfs,
    folder: &'c Path,
    erasures: Arc<Erasures>,
    report: CheckReport,
    progress: P,
}

impl<P: FnMut(u64)> Checker<'_, P> {
    fn all(&mut self, manifest: &Manifest) {
        let types = Types::of(&manifest.catalog);
        match erasure::load(self.vfs, self.folder, manifest.erasures) {
            Ok(erasures) => self.erasures = erasures,
            Err(error) => self.found(Err(error)),
        }
        for (shard, files) in manifest.shards.iter().enumerate() {
            self.segments(shard, files, &types);
            self.ids(shard, files, manifest.shards.len() as u16);
            self.event_ids(shard, files);
        }
        for file in &manifest.once_files {
            let loaded = OnceTable::default().load(self.vfs, &once_path(self.folder, file.id));
            self.found(loaded);
        }
        self.log(manifest.position());
    }

    /// Notes a problem, once.
    fn found(&mut self, result: Result<(), ReadError>) {
        if let Err(error) = result {
            let problem = error.to_string();
            if !self.report.problems.contains(&problem) {
                self.report.problems.push(problem);
            }
        }
    }

    fn read(&mut self, bytes: u64) {
        self.report.files += 1;
        self.report.bytes += bytes;
        (self.progress)(bytes);
    }

    fn segments(&mut self, shard: usize, files: &ShardFiles, types: &Types) {
        for (at, (id, len)) in files.segments.iter().enumerate() {
            match open_segment(self.vfs, self.folder, shard, *id, *len) {
                Err(error) => self.found(Err(error)),
                Ok(segment) => {
                    self.read(segment.size_bytes());
                    let is_oldest = at + 1 == files.segments.len();
                    self.segment(&SegmentCheck { segment, slot_count: files.slot_count, is_oldest }, types);
                }
            }
        }
    }

    fn segment(&mut self, check: &SegmentCheck, types: &Types) {
        let mut tags = BTreeSet::new();
        let mut sound = true;
        for number in 0..check.segment.entry_count() {
            tags.insert(check.segment.key_at(number).tag);
            let posting = check.posting(number);
            sound &= posting.is_ok();
            self.found(posting);
        }
        self.found(check.segment.verify());
        // What holds between postings can only be told when each can be read.
        for tag in tags.into_iter().filter(|_| sound) {
            let related = match types.get(tag) {
                Some(TypeOf::Tag(tag_type)) => check.tag(tag, *tag_type),
                Some(TypeOf::Space(space)) => check.space(space),
                Some(TypeOf::Fact(_)) | None => check.months(tag),
            };
            self.found(related);
        }
    }

    fn event_ids(&mut self, shard: usize, files: &ShardFiles) {
        for id in &files.event_ids {
            let part = EventPart::open(self.vfs, &event_ids_path(self.folder, shard, *id));
            let checked = part.and_then(|part| {
                self.read(part.size_bytes());
                part.verify()
            });
            self.found(checked);
        }
    }

    fn ids(&mut self, shard: usize, files: &ShardFiles, shard_count: u16) {
        let mut sound = true;
        for id in &files.parts {
            let part = IdPart::open(self.vfs, &part_path(self.folder, shard, *id));
            let checked = part.and_then(|part| {
                self.read(part.size_bytes());
                self.report.users += part.slots().len() as u64;
                check_part(&part, shard, shard_count)
            });
            sound &= checked.is_ok();
            self.found(checked);
        }
        if sound {
            let found = open_dictionary(self.vfs, self.folder, shard, files).and_then(|dictionary| {
                // The id of one who is erased may be there once more, in a part that is not written anew yet.
                if let Some(users) = self.erasures.pending().get(shard) {
                    dictionary.erase(users);
                }
                let mut id = Vec::new();
                for slot in 0..dictionary.slot_count() {
                    id.clear();
                    if dictionary.user_id(slot, &mut id)? && dictionary.slot_of(&id)? != Some(slot) {
                        let at = dictionary.parts().into_iter().find(|part| part.slots().contains(&slot));
                        return at.map_or(Ok(()), |part| Err(part.corrupt("a user id has two slots")));
                    }
                }
                Ok(())
            });
            self.found(found);
        }
    }

    /// Goes on behind damage with the next file.
    fn log(&mut self, position: Lsn) {
        let folder = self.folder.join("wal");
        let mut from = position;
        loop {
            let mut next = from;
            let replayed = wal::replay(self.vfs, &folder, from, |kind, lsn, payload| {
                next = Lsn(lsn.0 + 1);
                self.report.log_records += 1;
                Record::decode(kind, payload).map(|_| ()).ok_or_else(|| unknown_record(&folder, lsn))
            });
            let Err(error) = replayed else { return };
            self.found(Err(error));
            match wal::file_after(self.vfs, &folder, next) {
                Some(first) => from = first,
                None => return,
            }
        }
    }
}

/// A segment and what it is held against.
struct SegmentCheck {
    segment: Segment,
    slot_count: u32,
    is_oldest: bool,
}

impl SegmentCheck {
    fn corrupt(&self, tag: TagId, what: &str) -> ReadError {
        ReadError::Corrupt { path: self.segment.path().to_owned(), offset_bytes: 0, what: format!("tag {tag}: {what}") }
    }

    fn posting(&self, number: usize) -> Result<(), ReadError> {
        let key = self.segment.key_at(number);
        if matches!(key.part, Part::Block(_)) {
            return self.segment.block_at(number).map(|_| ());
        }
        let posting = self.segment.posting_at(number)?;
        if posting.bitmap.last().is_some_and(|slot| slot >= self.slot_count) {
            return Err(self.corrupt(key.tag, "a posting names users that the dictionary does not have"));
        }
        if key.tag < TagId::FIRST_DECLARED && key.tag > TagId::LAST_OWN {
            return Err(self.corrupt(key.tag, "not a tag of this version"));
        }
        if self.is_oldest && matches!(key.part, Part::Touched | Part::Removed(_)) {
            return Err(self.corrupt(key.tag, "the oldest segment hides something older"));
        }
        Ok(())
    }

    fn load(&self, tag: TagId, part: Part<'_>) -> Result<RoaringBitmap, ReadError> {
        let posting = self.segment.posting(Key { tag, part })?;
        Ok(posting.map(|posting| posting.bitmap.to_bitmap()).unwrap_or_default())
    }

    /// A month of a fact's activity is the sum of its days and hours.
    fn months(&self, fact: TagId) -> Result<(), ReadError> {
        let keys = self.segment.entries(fact).filter_map(|entry| match self.segment.key_at(entry).part {
            Part::Activity(key) => Some((entry, key)),
            _ => None,
        });
        let keys: Vec<_> = keys.collect();
        for figure in keys.chunk_by(|(_, a), (_, b)| (a.series, a.figure.of) == (b.series, b.figure.of)) {
            // Per month: what it says, less what its parts say; plus and minus.
            let mut left: BTreeMap<i32, [Counter; 2]> = BTreeMap::new();
            for (entry, key) in figure {
                let users = self.segment.posting_at(*entry)?.bitmap.to_bitmap();
                if key.slice.grain == Grain::Month {
                    let month = left.entry(key.slice.number).or_default();
                    month[usize::from(key.figure.is_negative)].add(key.bit.into(), users);
                } else if let Some(month) = left.get_mut(&key.slice.month()) {
                    month[usize::from(!key.figure.is_negative)].add(key.bit.into(), users);
                }
            }
            for [mut plus, mut minus] in left.into_values() {
                plus.settle(&mut minus);
                if !plus.is_zero() || !minus.is_zero() {
                    return Err(self.corrupt(fact, "a month is not the sum of its days"));
                }
            }
        }
        Ok(())
    }

    /// Each user with a vector has one of each form, of finite numbers that the space takes, and the forms say the same.
    fn space(&self, space: &Space) -> Result<(), ReadError> {
        let exists = self.load(space.id, Part::Exists)?;
        if !self.is_oldest && !exists.is_subset(&self.load(space.id, Part::Touched)?) {
            return Err(self.corrupt(space.id, "users have a vector that was not touched"));
        }
        let mut left = [exists.len(); Form::OF_VECTORS.len()];
        for (part, row_count) in self.segment.parts(space.id) {
            let Part::Block(key) = part else { continue };
            let Some(block) = self.segment.block(space.id, key)? else { continue };
            let from = u32::from(key.chunk) * CHUNK_SLOTS;
            let users = exists.range(from..=from + (CHUNK_SLOTS - 1));
            if key.form.row_bytes(space.dimension).is_some_and(|bytes| bytes != block.row_bytes()) {
                return Err(self.corrupt(space.id, "vectors have another length than their space says"));
            }
            if let Some(left) = left.get_mut(key.form as usize) {
                if users.len() as u64 != row_count {
                    return Err(self.corrupt(space.id, "there are not as many vectors as users with one"));
                }
                *left -= row_count;
            }
        }
        if let Some(cells) = cells(&self.segment, space, exists.len())? {
            let block = |form, chunk| self.segment.block(space.id, BlockKey { form, chunk }).ok().flatten();
            let scanned = |chunk, row: u16| {
                let row_of = |form| block(form, chunk).map(|block| block.row(row.into()));
                row_of(Form::Scale).zip(row_of(Form::Codes))
            };
            if !cells.is_partition(exists.iter(), scanned) {
                return Err(self.corrupt(space.id, "a vector is in no cell, in several, or in one as another"));
            }
            if !cells.centres().has_its_id() {
                return Err(self.corrupt(space.id, "the centres of cells are not those that they say they are"));
            }
        }
        if left.iter().any(|left| *left > 0) {
            return Err(self.corrupt(space.id, "vectors are missing"));
        }
        for (part, _) in self.segment.parts(space.id) {
            if let Part::Block(BlockKey { form: Form::Full, chunk }) = part {
                self.forms(space, chunk)?;
            }
        }
        Ok(())
    }

    /// What is scanned is what the vectors give.
    fn forms(&self, space: &Space, chunk: u16) -> Result<(), ReadError> {
        let [full, scale, codes] = Form::OF_VECTORS.map(|form| self.segment.block(space.id, BlockKey { form, chunk }));
        let (Some(full), Some(scale), Some(codes)) = (full?, scale?, codes?) else {
            return Err(self.corrupt(space.id, "vectors are missing in some form"));
        };
        let (mut numbers, mut given) = (Vec::new(), Vec::new());
        for place in 0..full.row_count {
            numbers.clear();
            numbers.extend(full.row(place).as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)));
            space.check(&numbers).map_err(|error| self.corrupt(space.id, &error.to_string()))?;
            given.clear();
            let (found, expected) = (scale.row(place).first_chunk(), quantise(&numbers, &mut given));
            let is_same = found.is_some_and(|found| is_same_scale(found, &expected));
            if !is_same || given != codes.row(place) {
                return Err(self.corrupt(space.id, "what is scanned of a vector is not what its numbers give"));
            }
        }
        if Most::among(scale.bytes.as_chunks().0).to_number() != scale.aux {
            return Err(self.corrupt(space.id, "the greatest length or error is not that of its vectors"));
        }
        Ok(())
    }

    /// What must hold between the postings of a tag.
    fn tag(&self, tag: TagId, tag_type: TagType) -> Result<(), ReadError> {
        let exists = self.load(tag, Part::Exists)?;
        let (mut union, mut sum) = (RoaringBitmap::new(), 0);
        for (part, users) in self.segment.parts(tag) {
            match part {
                Part::Slice(_) if !self.load(tag, part)?.is_subset(&exists) => {
                    return Err(self.corrupt(tag, "a slice has users without a number"));
                }
                Part::Value(_) if tag_type == TagType::Enum => {
                    union |= self.load(tag, part)?;
                    sum += users;
                }
                _ => {}
            }
        }
        if tag_type == TagType::Enum && (union.len() != sum || union != exists) {
            return Err(self.corrupt(tag, "users have several values, or one that is not counted"));
        }
        let decides = matches!(tag_type, TagType::Enum | TagType::Flag | TagType::Number(_));
        if decides && !self.is_oldest && !exists.is_subset(&self.load(tag, Part::Touched)?) {
            return Err(self.corrupt(tag, "users have a value that was not touched"));
        }
        Ok(())
    }
}

/// What is wrong with the vectors of a segment, the oldest one or above others.
#[cfg(test)]
pub(super) fn space_problem(segment: Segment, slot_count: u32, is_oldest: bool, space: &Space) -> Option<String> {
    let check = SegmentCheck { segment, slot_count, is_oldest };
    check.space(space).err().map(|error| error.to_string())
}

fn check_part(part: &IdPart, shard: usize, shard_count: u16) -> Result<(), ReadError> {
    part.verify()?;
    for slot in part.slots() {
        let id = part.id(slot)?;
        if !id.is_empty() && usize::from(shard_of(id, shard_count).0) != shard {
            return Err(part.corrupt("a user id belongs to another shard"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Metric;
    use crate::lookalike::quantise::Scale;
    use crate::segment::SegmentWriter;

    const SPACE: Space = Space { id: TagId(20), dimension: 2, metric: Metric::Cosine };

    /// What is told of a segment whose users in `exists` have these blocks: chunk, and numbers of each row.
    fn told(exists: &[u32], touched: &[u32], blocks: &[(u16, &[&[f32]])]) -> String {
        told_of(exists, touched, blocks, &quantise)
    }

    /// The same with other scales.
    fn told_of(
        exists: &[u32],
        touched: &[u32],
        blocks: &[(u16, &[&[f32]])],
        quantise: &dyn Fn(&[f32], &mut Vec<u8>) -> Scale,
    ) -> String {
        let mut writer = SegmentWriter::in_memory();
        for (part, users) in [(Part::Touched, touched), (Part::Exists, exists)] {
            let users: RoaringBitmap = users.iter().collect();
            writer.add(Key { tag: SPACE.id, part }, 0, &users).expect("memory");
        }
        for form in Form::OF_VECTORS {
            for (chunk, rows) in blocks {
                let key = Key { tag: SPACE.id, part: Part::Block(BlockKey { form, chunk: *chunk }) };
                let (mut full, mut codes, mut scales) = (Vec::new(), Vec::new(), Vec::new());
                for row in *rows {
                    full.extend(row.iter().flat_map(|number| number.to_le_bytes()));
                    scales.push(quantise(row, &mut codes));
                }
                let (bytes, aux) = match form {
                    Form::Full => (&full[..], 0),
                    Form::Scale => (scales.as_flattened(), Most::among(&scales).to_number()),
                    Form::Codes => (&codes[..], 0),
                    _ => continue,
                };
                let put = |put: &mut dyn FnMut(&[u8]) -> std::io::Result<()>| put(bytes);
                writer.add_block::<std::io::Error>(key, aux, rows.len() as u64, put).expect("memory");
            }
        }
        let segment = Segment::from_memory(writer.finish_in_memory()).expect("whole");
        let check = SegmentCheck { segment, slot_count: 100_000, is_oldest: touched.is_empty() };
        check.space(&SPACE).map_or_else(|error| error.to_string(), |()| "good".to_owned())
    }

    #[test]
    fn files_of_other_processors_are_sound() {
        let blocks: &[(u16, &[&[f32]])] = &[(0, &[&[0.0, 2.0]])];
        let with = |at: usize, bytes: &[u8]| {
            let other = |vector: &[f32], codes: &mut Vec<u8>| {
                let mut scale = quantise(vector, codes);
                scale[at..at + bytes.len()].copy_from_slice(bytes);
                scale
            };
            told_of(&[1], &[], blocks, &other)
        };
        assert_eq!(with(0, &(-0.0_f32).to_le_bytes()), "good");
        for at in [0, 4, 8] {
            assert!(with(at, &1.5_f32.to_le_bytes()).contains("not what its numbers give"), "byte {at}");
        }
    }

    #[test]
    fn each_user_with_a_vector_has_one_that_the_space_takes() {
        let row: &[f32] = &[1.0, -2.0];
        assert_eq!(told(&[1, 3, 70_000], &[], &[(0, &[row, row]), (1, &[row])]), "good");
        assert_eq!(told(&[1], &[1, 2], &[(0, &[row])]), "good");
        assert_eq!(told(&[], &[1, 2], &[]), "good");
        for (exists, touched, blocks, what) in [
            (&[1, 3][..], &[][..], &[(0, &[row][..])][..], "not as many vectors"),
            (&[1, 3], &[], &[(0, &[row, row, row])], "not as many vectors"),
            (&[1], &[], &[(1, &[row])], "not as many vectors"),
            (&[1, 70_000], &[], &[(0, &[row])], "vectors are missing"),
            (&[1], &[], &[], "vectors are missing"),
            (&[1], &[], &[(0, &[&[1.0, 2.0, 3.0]])], "another length"),
            (&[1], &[], &[(0, &[&[f32::NAN, 2.0]])], "NaN"),
            (&[1], &[], &[(0, &[&[0.0, 0.0]])], "no length"),
            (&[1], &[2], &[(0, &[row])], "not touched"),
        ] {
            let told = told(exists, touched, blocks);
            assert!(told.contains(what), "{told}, not {what}");
        }
    }
}
