//! Opens a segment.

use super::format::{self, ENTRY_BYTES, NUMBER_BYTES, POSTING_ALIGN, TRAILER_BYTES};
use super::{BlockKey, Form, Key, Part, Series};
use crate::behavior::Slice as TimeSlice;
use crate::bitmap::view::BitmapView;
use crate::error::ReadError;
use crate::ids::{CHUNK_SLOTS, Slot, TagId};
use crate::vfs::sealed::SealedFile;
use crate::vfs::{FileBytes, Vfs};
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use xxhash_rust::xxh3::xxh3_64;

/// An open segment, from a mapped file or from memory.
#[derive(Debug)]
pub struct Segment {
    file: SealedFile,
    keys: Range<usize>,
    entries: Range<usize>,
    numbers: Range<usize>,
    index: Range<usize>,
    /// A bit per posting whose containers were found valid.
    valid: Vec<AtomicU64>,
    /// See [`Segment::tag_bytes`].
    tag_bytes: OnceLock<Box<[(TagId, u64)]>>,
}

/// A posting found in a segment; its container bytes are verified.
#[derive(Clone, Copy, Debug)]
pub struct Posting<'a> {
    /// The users.
    pub bitmap: BitmapView<'a>,
    /// The number stored with the posting: the base of a number tag's `Exists`, else 0.
    pub aux: i64,
}

/// Vectors found in a segment; their checksum is verified.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// How many.
    pub row_count: usize,
    /// One behind another, of equal length.
    pub bytes: &'a [u8],
    /// The number stored with the block, else 0.
    pub aux: i64,
}

impl<'a> Block<'a> {
    /// Bytes of one.
    pub fn row_bytes(&self) -> usize {
        self.bytes.len() / self.row_count
    }

    /// One by its place.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn row(&self, place: usize) -> &'a [u8] {
        &self.bytes[place * self.row_bytes()..][..self.row_bytes()]
    }
}

/// A posting with its key, as they stand in a segment.
pub(super) struct Stored<'a> {
    pub(super) key: &'a [u8],
    pub(super) cardinality: u64,
    pub(super) bitmap: &'a [u8],
}

/// A line of the key directory.
#[derive(Clone, Copy, Debug)]
struct Entry {
    key_end: usize,
    posting_at: u64,
    posting_len: u64,
    cardinality: u32,
}

impl Segment {
    /// Maps a file and checks its footer and key directory, not its postings.
    ///
    /// # Errors
    /// [`ReadError`] if the file cannot be mapped or is damaged there.
    pub fn open(vfs: &dyn Vfs, path: &Path) -> Result<Self, ReadError> {
        let segment = Self::new(SealedFile::open(vfs, path, format::KIND, format::VERSION)?)?;
        segment.check_directory()?;
        Ok(segment)
    }

    /// A segment made by [`super::SegmentWriter::finish_in_memory`].
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] if the bytes are no segment.
    pub fn from_memory(bytes: FileBytes) -> Result<Self, ReadError> {
        let segment = Self::new(SealedFile::from_memory(bytes))?;
        segment.check_directory()?;
        Ok(segment)
    }

    /// The same without a look at the directory and the postings, of bytes that were made a moment ago.
    pub(super) fn trusted(bytes: FileBytes) -> Self {
        let segment = Self::new(SealedFile::from_memory(bytes)).expect("the writer ends with a trailer that fits");
        segment.valid.iter().for_each(|word| word.store(u64::MAX, Ordering::Relaxed));
        segment
    }

    fn new(file: SealedFile) -> Result<Self, ReadError> {
        let len = file.payload_len();
        let Some(trailer_at) = len.checked_sub(TRAILER_BYTES as u64) else {
            return Err(file.corrupt(0, "shorter than a segment's trailer"));
        };
        let trailer = file.payload(trailer_at..len)?;
        let offset = |at: usize| u64::from_le_bytes(trailer[at..at + 8].try_into().expect("8 bytes")) as usize;
        let [keys, entries, numbers, index] = [0, 8, 16, 24].map(offset);
        let count = offset(32) as u32 as usize;
        let end = trailer_at as usize;
        let fits = keys <= entries
            && entries.checked_add(count * ENTRY_BYTES) == Some(numbers)
            && numbers <= index
            && (index - numbers).is_multiple_of(NUMBER_BYTES)
            && index.checked_add(format::index_len(count) * 4) == Some(end);
        if !fits {
            return Err(file.corrupt(trailer_at, "the key directory does not fit the file"));
        }
        file.payload(keys as u64..trailer_at)?;
        let valid = (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Segment {
            keys: keys..entries,
            entries: entries..numbers,
            numbers: numbers..index,
            index: index..end,
            valid,
            tag_bytes: OnceLock::new(),
            file,
        })
    }

    fn check_directory(&self) -> Result<(), ReadError> {
        let damaged = |what: &str| Err(self.file.corrupt(self.entries.start as u64, what));
        let mut begin = 0;
        let mut previous: &[u8] = &[];
        for number in 0..self.entry_count() {
            let entry = self.entry(number);
            let key = match self.key_bytes().get(begin..entry.key_end) {
                Some(key) if key > previous => key,
                _ => return damaged("keys do not rise"),
            };
            if format::decode_key(key).is_none() {
                return damaged("a key of unknown form");
            }
            if entry.posting_at + entry.posting_len > self.keys.start as u64 {
                return damaged("a posting lies outside the file");
            }
            (begin, previous) = (entry.key_end, key);
        }
        if begin != self.keys.len() {
            return damaged("bytes follow the last key");
        }
        let slots = self.directory(&self.index).as_chunks::<4>().0;
        if slots.iter().any(|slot| u32::from_le_bytes(*slot) as usize > self.entry_count()) {
            return damaged("the hash index points outside the directory");
        }
        if !slots.contains(&[0; 4]) {
            return damaged("the hash index has no free place");
        }
        Ok(())
    }

    /// Bytes of the directory, which were verified when the segment was opened.
    fn directory(&self, range: &Range<usize>) -> &[u8] {
        self.file.payload(range.start as u64..range.end as u64).expect("verified when opened")
    }

    fn key_bytes(&self) -> &[u8] {
        self.directory(&self.keys)
    }

    /// Number of postings.
    pub fn entry_count(&self) -> usize {
        self.entries.len() / ENTRY_BYTES
    }

    fn entry(&self, number: usize) -> Entry {
        let bytes = &self.directory(&self.entries)[number * ENTRY_BYTES..][..ENTRY_BYTES];
        let field = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Entry {
            key_end: field(0) as usize,
            posting_at: u64::from(field(4)) * POSTING_ALIGN,
            posting_len: field(8).into(),
            cardinality: field(12),
        }
    }

    fn key_of(&self, number: usize) -> &[u8] {
        let begin = if number == 0 { 0 } else { self.entry(number - 1).key_end };
        &self.key_bytes()[begin..self.entry(number).key_end]
    }

    fn find(&self, key: Key<'_>) -> Option<usize> {
        let mut encoded = Vec::with_capacity(64);
        format::encode_key(key, &mut encoded);
        let slots = self.directory(&self.index).as_chunks::<4>().0;
        let mut at = xxh3_64(&encoded) as usize & (slots.len() - 1);
        loop {
            let slot = u32::from_le_bytes(slots[at]) as usize;
            if slot == 0 {
                return None;
            }
            if self.key_of(slot - 1) == encoded {
                return Some(slot - 1);
            }
            at = (at + 1) & (slots.len() - 1);
        }
    }

    fn aux(&self, number: usize) -> i64 {
        let numbers = self.directory(&self.numbers).as_chunks::<NUMBER_BYTES>().0;
        let entry_of = |bytes: &[u8; NUMBER_BYTES]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        numbers
            .binary_search_by_key(&(number as u32), entry_of)
            .map_or(0, |found| i64::from_le_bytes(numbers[found][4..].try_into().expect("8 bytes behind the entry")))
    }

    /// The posting of a key. Its checksum and containers are verified at the first touch.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] if the posting is damaged; the other postings stay usable.
    pub fn posting(&self, key: Key<'_>) -> Result<Option<Posting<'_>>, ReadError> {
        self.find(key).map(|number| self.posting_at(number)).transpose()
    }

    /// A posting by its place in key order.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] if the posting is damaged.
    pub fn posting_at(&self, number: usize) -> Result<Posting<'_>, ReadError> {
        let entry = self.entry(number);
        let bytes = self.file.payload(entry.posting_at..entry.posting_at + entry.posting_len)?;
        let (word, bit) = (&self.valid[number / 64], 1 << (number % 64));
        let bitmap = if word.load(Ordering::Relaxed) & bit != 0 {
            BitmapView::trusted(bytes)
        } else {
            let bitmap = self.validate(&entry, bytes)?;
            word.fetch_or(bit, Ordering::Relaxed);
            bitmap
        };
        Ok(Posting { bitmap, aux: self.aux(number) })
    }

    /// A posting by its place in key order, for copying; its number, if it has one, is not part of it.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] if the posting is damaged.
    pub(super) fn stored_at(&self, number: usize) -> Result<Stored<'_>, ReadError> {
        let entry = self.entry(number);
        let bitmap = self.file.payload(entry.posting_at..entry.posting_at + entry.posting_len)?;
        if self.valid[number / 64].load(Ordering::Relaxed) >> (number % 64) & 1 == 0 {
            self.posting_at(number)?;
        }
        Ok(Stored { key: self.key_of(number), cardinality: entry.cardinality.into(), bitmap })
    }

    /// A block of a space's vectors. Its checksum is verified at the first touch.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] if the block is damaged; the rest stays usable.
    pub fn block(&self, space: TagId, key: BlockKey) -> Result<Option<Block<'_>>, ReadError> {
        let place = self.find(Key { tag: space, part: Part::Block(key) });
        place.map(|number| self.block_at(number)).transpose()
    }

    /// A block by its place in key order.
    ///
    /// # Errors
    /// As [`Segment::block`].
    pub fn block_at(&self, number: usize) -> Result<Block<'_>, ReadError> {
        let entry = self.entry(number);
        self.row_bytes(&entry)?;
        let bytes = self.file.payload(entry.posting_at..entry.posting_at + entry.posting_len)?;
        Ok(Block { row_count: entry.cardinality as usize, bytes, aux: self.aux(number) })
    }

    /// Bytes of a row of a block, of which nothing is read.
    fn row_bytes(&self, entry: &Entry) -> Result<u64, ReadError> {
        let row_count = u64::from(entry.cardinality);
        if row_count == 0 || entry.posting_len == 0 || !entry.posting_len.is_multiple_of(row_count) {
            return Err(self.file.corrupt(entry.posting_at, "a block has other rows than its entry states"));
        }
        Ok(entry.posting_len / row_count)
    }

    /// The vector that this layer has of a user. Of its block, which may be large, only the pages of the one row are verified.
    ///
    /// # Errors
    /// As [`Segment::block`]; also if the block has other rows than there are users with a vector.
    pub fn vector(&self, space: TagId, form: Form, slot: Slot) -> Result<Option<&[u8]>, ReadError> {
        let Some(exists) = self.posting(Key { tag: space, part: Part::Exists })? else { return Ok(None) };
        let (chunk, position) = ((slot / CHUNK_SLOTS) as u16, (slot % CHUNK_SLOTS) as u16);
        let Some(index) = exists.bitmap.find(chunk) else { return Ok(None) };
        let Some(place) = exists.bitmap.container(index).rank(position) else { return Ok(None) };
        let block = self.find(Key { tag: space, part: Part::Block(BlockKey { form, chunk }) });
        let block = block.map(|number| self.entry(number));
        let Some(block) = block.filter(|block| block.cardinality == exists.bitmap.cardinality(index)) else {
            return Err(self.file.corrupt(0, &format!("space {space}, chunk {chunk}: vectors are missing")));
        };
        let row_bytes = self.row_bytes(&block)?;
        let at = block.posting_at + place as u64 * row_bytes;
        self.file.payload(at..at + row_bytes).map(Some)
    }

    fn validate<'a>(&self, entry: &Entry, bytes: &'a [u8]) -> Result<BitmapView<'a>, ReadError> {
        let bitmap = BitmapView::new(bytes)
            .map_err(|error| self.file.corrupt(entry.posting_at + error.offset_bytes as u64, error.what))?;
        if bitmap.len() != u64::from(entry.cardinality) {
            return Err(self.file.corrupt(entry.posting_at, "a posting has another cardinality than its entry states"));
        }
        Ok(bitmap)
    }

    /// The cardinality of a key's posting, without reading it.
    pub fn cardinality(&self, key: Key<'_>) -> u64 {
        self.find(key).map_or(0, |number| self.entry(number).cardinality.into())
    }

    /// The cardinality of a posting by its place in key order, without reading it.
    pub fn cardinality_at(&self, number: usize) -> u64 {
        self.entry(number).cardinality.into()
    }

    /// The key at a place in key order.
    pub fn key_at(&self, number: usize) -> Key<'_> {
        format::decode_key(self.key_of(number)).expect("checked when opened")
    }

    /// The keys at these places.
    pub(super) fn keys(&self, places: Range<usize>) -> impl Iterator<Item = (usize, Key<'_>)> + use<'_> {
        let keys = self.key_bytes();
        let entries = &self.directory(&self.entries).as_chunks::<ENTRY_BYTES>().0;
        let end = |number: usize| {
            let [a, b, c, d, ..] = entries[number];
            u32::from_le_bytes([a, b, c, d]) as usize
        };
        let mut begin = if places.start == 0 { 0 } else { end(places.start - 1) };
        places.map(move |number| {
            let bytes = &keys[std::mem::replace(&mut begin, end(number))..end(number)];
            (number, format::decode_key(bytes).expect("checked when opened"))
        })
    }

    /// The places of one tag's postings, which are in key order.
    pub fn entries(&self, tag: TagId) -> Range<usize> {
        self.entries_with(&tag.0.to_be_bytes())
    }

    /// The places of the postings of one series of a fact.
    pub fn series_entries(&self, fact: TagId, series: Series<'_>) -> Range<usize> {
        self.entries_with(&format::series_prefix(fact, series))
    }

    /// The places of the postings of one figure of a series in the slices `from..to`, which are of one length.
    pub fn slice_entries(
        &self,
        fact: TagId,
        series: Series<'_>,
        figure: u8,
        from: TimeSlice,
        to: TimeSlice,
    ) -> Range<usize> {
        let first = |slice| {
            let prefix = format::slice_prefix(fact, series, figure, slice);
            self.first_entry(&|key| key < prefix.as_slice())
        };
        let from = first(from);
        from..first(to).max(from)
    }

    /// The places of the postings of all values of a fact's dimension.
    pub fn dimension_entries(&self, fact: TagId, dimension: u16) -> Range<usize> {
        self.entries_with(&format::dimension_prefix(fact, dimension))
    }

    /// The places of the keys that begin so.
    fn entries_with(&self, prefix: &[u8]) -> Range<usize> {
        let begin = |key: &[u8]| key[..prefix.len().min(key.len())].cmp(prefix);
        self.first_entry(&|key| begin(key).is_lt())..self.first_entry(&|key| begin(key).is_le())
    }

    /// The first entry whose key is not before something.
    fn first_entry(&self, is_before: &dyn Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.entry_count());
        while low < high {
            let middle = low + (high - low) / 2;
            if is_before(self.key_of(middle)) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// The bytes of each tag that has some: its postings and blocks, with those between them, and its part of the directory, which
    /// is most of a tag with many values of few users. Reads the key directory once.
    pub(crate) fn tag_bytes(&self) -> &[(TagId, u64)] {
        self.tag_bytes.get_or_init(|| {
            let mut all = Vec::new();
            let mut next = 0;
            while next < self.entry_count() {
                let tag = self.key_at(next).tag;
                let of_tag = next..self.entries(tag).end.max(next + 1);
                next = of_tag.end;
                all.push((tag, self.posting_bytes(&of_tag) + self.directory_bytes(&of_tag)));
            }
            all.into()
        })
    }

    fn posting_bytes(&self, entries: &Range<usize>) -> u64 {
        let end =
            if entries.end < self.entry_count() { self.entry(entries.end).posting_at } else { self.keys.start as u64 };
        end.saturating_sub(self.entry(entries.start).posting_at)
    }

    /// Keys, entries, numbers and a share of the hash index.
    fn directory_bytes(&self, entries: &Range<usize>) -> u64 {
        let key_end = |count: usize| count.checked_sub(1).map_or(0, |last| self.entry(last).key_end);
        let numbers = self.directory(&self.numbers).as_chunks::<NUMBER_BYTES>().0;
        let numbers_before = |entry: usize| {
            numbers.partition_point(|[a, b, c, d, ..]| (u32::from_le_bytes([*a, *b, *c, *d]) as usize) < entry)
        };
        let exact = key_end(entries.end) - key_end(entries.start)
            + entries.len() * ENTRY_BYTES
            + (numbers_before(entries.end) - numbers_before(entries.start)) * NUMBER_BYTES;
        let share = self.index.len() as u128 * entries.len() as u128 / self.entry_count().max(1) as u128;
        exact as u64 + share as u64
    }

    /// The parts stored of one tag, in key order, with their cardinality; reads no posting.
    pub fn parts(&self, tag: TagId) -> impl Iterator<Item = (Part<'_>, u64)> {
        { self.entries(tag) }.map(|number| (self.key_at(number).part, self.entry(number).cardinality.into()))
    }

    /// Verifies all of it: checksums, directory order, every container.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] at the first damage.
    pub fn verify(&self) -> Result<(), ReadError> {
        self.file.verify()?;
        self.check_directory()?;
        for number in 0..self.entry_count() {
            if matches!(self.key_at(number).part, Part::Block(_)) {
                self.block_at(number)?;
            } else {
                let entry = self.entry(number);
                let bytes = self.file.payload(entry.posting_at..entry.posting_at + entry.posting_len)?;
                self.validate(&entry, bytes)?;
            }
            if self.find(self.key_at(number)) != Some(number) {
                return Err(self.file.corrupt(self.index.start as u64, "the hash index misses a key"));
            }
        }
        Ok(())
    }

    /// Bytes of the file or memory.
    pub fn size_bytes(&self) -> u64 {
        self.file.size_bytes()
    }

    /// The file's path; empty for memory.
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::SegmentWriter;
    use crate::vfs::memory::MemoryVfs;
    use roaring::RoaringBitmap;

    fn value(number: u32) -> String {
        format!("value-{number:05}")
    }

    fn postings(count: u32) -> Vec<(u32, RoaringBitmap)> {
        (0..count).map(|number| (number, (number..number + 1 + number % 50).collect())).collect()
    }

    fn block_key(chunk: u16) -> BlockKey {
        BlockKey { form: Form::Full, chunk }
    }

    fn write(writer: &mut SegmentWriter, postings: &[(u32, RoaringBitmap)]) {
        let tag = TagId(20);
        let all: RoaringBitmap = (0..70_000).collect();
        writer.add(Key { tag, part: Part::Touched }, 0, &all).expect("memory");
        writer.add(Key { tag, part: Part::Exists }, -7, &all).expect("memory");
        writer.add(Key { tag, part: Part::Slice(3) }, 0, &all).expect("memory");
        for (number, bitmap) in postings {
            writer.add(Key { tag, part: Part::Value(value(*number).as_bytes()) }, 0, bitmap).expect("memory");
        }
        writer.add(Key { tag: TagId(21), part: Part::Value(b"") }, 0, &all).expect("memory");
        for chunk in [0, 256] {
            let key = Key { tag: TagId(22), part: Part::Block(block_key(chunk)) };
            let rows = |put: &mut dyn FnMut(&[u8]) -> std::io::Result<()>| (0..5).try_for_each(|row| put(&[row; 8]));
            writer.add_block::<std::io::Error>(key, 0, 5, rows).expect("memory");
        }
    }

    #[test]
    fn finds_every_posting_and_no_other() {
        let postings = postings(3_000);
        let mut writer = SegmentWriter::in_memory();
        write(&mut writer, &postings);
        let segment = Segment::from_memory(writer.finish_in_memory()).expect("valid");
        let tag = TagId(20);
        for (number, bitmap) in &postings {
            let name = value(*number);
            let key = Key { tag, part: Part::Value(name.as_bytes()) };
            let found = segment.posting(key).expect("good").expect("there").bitmap.iter().collect::<RoaringBitmap>();
            assert_eq!(&found, bitmap);
            assert_eq!(segment.cardinality(key), bitmap.len());
        }
        assert_eq!(segment.posting(Key { tag, part: Part::Exists }).expect("good").expect("there").aux, -7);
        assert!(segment.posting(Key { tag, part: Part::Value(b"value-99999") }).expect("good").is_none());
        assert!(segment.posting(Key { tag: TagId(19), part: Part::Exists }).expect("good").is_none());
        assert_eq!(segment.parts(tag).count(), 3_003);
        assert_eq!(segment.parts(TagId(21)).collect::<Vec<_>>(), [(Part::Value(&b""[..]), 70_000)]);
        let block = segment.block(TagId(22), block_key(256)).expect("good").expect("there");
        assert_eq!((block.row_count, block.row_bytes(), block.row(3)), (5, 8, &[3; 8][..]));
        assert!(segment.block(TagId(22), block_key(1)).expect("good").is_none());
        assert_eq!(segment.parts(TagId(22)).count(), 2);
        assert_eq!(segment.parts(TagId(23)).count(), 0);
        let tags = segment.tag_bytes();
        assert_eq!(tags.iter().map(|(tag, _)| tag.0).collect::<Vec<_>>(), [20, 21, 22]);
        let of_tags: u64 = tags.iter().map(|(_, bytes)| bytes).sum();
        // All but the trailer, and a byte a tag that the shares of the hash index are rounded down by.
        let all = segment.size_bytes() - TRAILER_BYTES as u64;
        assert!((all - 3..=all).contains(&of_tags), "{tags:?} of {all}");
        let key = 4 + 1 + value(0).len();
        assert!(tags[0].1 > 3_000 * (8 + key + ENTRY_BYTES + 4) as u64, "{tags:?}");
        // Two blocks with their keys and entries.
        assert!((2 * (5 * 8 + 8 + 16)..200).contains(&tags[2].1), "{tags:?}");
        segment.verify().expect("good");
    }

    #[test]
    fn an_empty_segment_is_one() {
        let segment = Segment::from_memory(SegmentWriter::in_memory().finish_in_memory()).expect("valid");
        assert_eq!(segment.entry_count(), 0);
        assert!(segment.posting(Key { tag: TagId(1), part: Part::Exists }).expect("good").is_none());
    }

    #[test]
    fn names_any_damage_of_a_file() {
        let (vfs, path) = (MemoryVfs::default(), Path::new("/s"));
        let mut writer = SegmentWriter::create(&vfs, path).expect("create");
        write(&mut writer, &postings(40));
        let len = writer.finish().expect("finish") as usize;
        Segment::open(&vfs, path).and_then(|segment| segment.verify()).expect("good");
        for bit in (0..len * 8).step_by(97) {
            vfs.flip_bit(path, bit);
            let error = Segment::open(&vfs, path).and_then(|segment| segment.verify()).expect_err("damaged");
            assert!(error.to_string().starts_with("/s: damaged at byte"), "{error}");
            vfs.flip_bit(path, bit);
        }
    }

    #[test]
    fn a_vector_is_read_without_its_neighbours() {
        let (vfs, path, space) = (MemoryVfs::default(), Path::new("/s"), TagId(30));
        let users: RoaringBitmap = (0..40_000).map(|user| user * 3 / 2).collect();
        let mut writer = SegmentWriter::create(&vfs, path).expect("create");
        writer.add(Key { tag: space, part: Part::Exists }, 0, &users).expect("disk");
        let key = Key { tag: space, part: Part::Block(block_key(0)) };
        let rows = |put: &mut dyn FnMut(&[u8]) -> std::io::Result<()>| {
            users.iter().try_for_each(|user| put(&user.to_le_bytes().repeat(16)))
        };
        writer.add_block::<std::io::Error>(key, 0, users.len(), rows).expect("disk");
        writer.finish().expect("finish");
        // Of 2.5 MB one byte in the middle is bad.
        vfs.flip_bit(path, 8 * 1_300_000);
        let segment = Segment::open(&vfs, path).expect("good where it is opened");
        let vector = |user: u32| segment.vector(space, Form::Full, user);
        for user in [0, 1, 3, 10_000, 50_001, 59_998] {
            let expected = users.contains(user).then(|| user.to_le_bytes().repeat(16));
            assert_eq!(vector(user).expect("its pages are good"), expected.as_deref(), "{user}");
        }
        let bad = users.select(1_300_000 / 64).expect("there are more");
        let error = vector(bad).expect_err("its page is bad").to_string();
        assert!(error.starts_with("/s: damaged at byte"), "{error}");
        assert!(segment.block(space, block_key(0)).is_err());
    }

    #[test]
    fn no_bytes_in_memory_panic() {
        let mut writer = SegmentWriter::in_memory();
        write(&mut writer, &postings(20));
        let good = writer.finish_in_memory().to_vec();
        for at in (0..good.len()).step_by(3) {
            let mut bad = good.clone();
            bad[at] ^= 0x41;
            if let Ok(segment) = Segment::from_memory(FileBytes::new(bad)) {
                let _ = segment.verify();
                let _ = segment.posting(Key { tag: TagId(20), part: Part::Value(b"value-00007") });
                let _ = segment.block(TagId(22), block_key(0)).map(|block| block.map(|block| block.row(0).len()));
            }
        }
    }
}
