//! A read-only face over bytes in the portable Roaring format.
//!
//! Nothing is copied and nothing is assumed of alignment: containers are slices of little-endian byte arrays, whose
//! loads compile to plain ones. The whole bitmap is checked once by [`BitmapView::new`]; every later access is
//! bounds-checked a container at a time, so bytes that change behind our back give wrong answers, never undefined
//! behaviour.
//!
//! Source: the format's specification at <https://github.com/RoaringBitmap/RoaringFormatSpec>.

use super::canonical::canonical;
use std::cmp::Ordering;

/// A position within a chunk.
pub type Le16 = [u8; 2];
/// Sixty-four positions within a chunk.
pub type Le64 = [u8; 8];
/// A run of positions: the first, and how many follow it.
pub type Run = [u8; 4];
/// One bit a position of a chunk.
pub type Words = [Le64; 1024];

/// The most positions an array container holds; a container with more is a bit set.
pub const ARRAY_LEN_MAX: usize = 4096;

pub(super) const COOKIE_WITHOUT_RUNS: u32 = 12_346;
pub(super) const COOKIE_WITH_RUNS: u16 = 12_347;
/// With runs, the offset header is left out below this many containers.
pub(super) const OFFSETS_FROM_CONTAINERS: usize = 4;
pub(super) const WORDS_BYTES: usize = 8192;

/// A validated bitmap over borrowed bytes; cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct BitmapView<'a> {
    bytes: &'a [u8],
    /// Key and cardinality - 1 of each container.
    descriptors: &'a [[u8; 4]],
    /// Offset of each container; empty if the format left them out.
    offsets: &'a [[u8; 4]],
    /// The same where the format left them out.
    few_offsets: [[u8; 4]; OFFSETS_FROM_CONTAINERS - 1],
    /// A bit per container: is it a run container? Empty if none is.
    run_flags: &'a [u8],
}

/// The positions of one chunk, as they stand in the file.
#[derive(Clone, Copy, Debug)]
pub enum Container<'a> {
    /// Rising positions, at most [`ARRAY_LEN_MAX`].
    Array(&'a [Le16]),
    /// A bit a position.
    Words(&'a Words),
    /// Rising, disjoint runs.
    Runs(&'a [Run]),
}

/// Why bytes are not a bitmap in the portable format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a portable Roaring bitmap: at byte {offset_bytes}: {what}")]
pub struct FormatError {
    /// Offset in the bitmap.
    pub offset_bytes: usize,
    /// What is wrong.
    pub what: &'static str,
}

fn refuse<T>(offset_bytes: usize, what: &'static str) -> Result<T, FormatError> {
    Err(FormatError { offset_bytes, what })
}

/// First position of a run.
pub(super) fn run_start(run: Run) -> u32 {
    u32::from(u16::from_le_bytes([run[0], run[1]]))
}

/// Last position of a run.
pub(super) fn run_last(run: Run) -> u32 {
    run_start(run) + u32::from(u16::from_le_bytes([run[2], run[3]]))
}

impl<'a> BitmapView<'a> {
    /// The empty set.
    pub const EMPTY: BitmapView<'static> = BitmapView {
        bytes: &[0x3a, 0x30, 0, 0, 0, 0, 0, 0],
        descriptors: &[],
        offsets: &[],
        few_offsets: [[0; 4]; OFFSETS_FROM_CONTAINERS - 1],
        run_flags: &[],
    };

    /// A copy that can be changed.
    pub fn to_bitmap(&self) -> roaring::RoaringBitmap {
        let read = |bytes: &[u8]| roaring::RoaringBitmap::deserialize_unchecked_from(bytes);
        // The library refuses runs that touch, which are a set all the same; and bytes that changed behind our back.
        read(self.bytes).or_else(|_| read(&canonical(self))).unwrap_or_else(|_| self.iter().collect())
    }

    /// Checks every container (order, cardinality, bounds) and takes the bytes, which must be exactly one bitmap.
    ///
    /// # Errors
    /// [`FormatError`] with the offset of the first thing that is wrong.
    pub fn new(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let view = Self::first(bytes)?;
        if view.bytes.len() != bytes.len() {
            return refuse(view.bytes.len(), "bytes follow the last container");
        }
        Ok(view)
    }

    /// The same of the bitmap that the bytes begin with; [`BitmapView::as_bytes`] tells where it ends.
    pub(super) fn first(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let (mut view, mut at) = Self::header(bytes)?;
        let mut previous = None;
        for index in 0..view.container_count() {
            let key = view.key(index);
            if previous >= Some(key) {
                return refuse(at, "container keys do not rise");
            }
            previous = Some(key);
            if !view.offsets.is_empty() && u32::from_le_bytes(view.offsets[index]) as usize != at {
                return refuse(at, "container offset does not lead to the container");
            }
            at = view.check_container(index, at)?;
        }
        view.bytes = &bytes[..at];
        Ok(view)
    }

    /// Takes bytes that [`BitmapView::new`] accepted before. Wrong bytes give wrong answers or a panic, never undefined
    /// behaviour.
    ///
    /// # Panics
    /// If the header does not fit the bytes.
    pub fn trusted(bytes: &'a [u8]) -> Self {
        Self::header(bytes).expect("bytes were validated before").0
    }

    /// The view, and where the first container begins; nothing but the header is checked.
    fn header(bytes: &'a [u8]) -> Result<(Self, usize), FormatError> {
        let Some((cookie, rest)) = bytes.split_first_chunk::<4>() else { return refuse(0, "shorter than a cookie") };
        let cookie = u32::from_le_bytes(*cookie);
        let (count, run_flags, rest) = if cookie == COOKIE_WITHOUT_RUNS {
            let Some((count, rest)) = rest.split_first_chunk::<4>() else { return refuse(4, "no container count") };
            (u32::from_le_bytes(*count) as usize, &rest[..0], rest)
        } else if cookie as u16 == COOKIE_WITH_RUNS {
            let count = (cookie >> 16) as usize + 1;
            let Some((flags, rest)) = rest.split_at_checked(count.div_ceil(8)) else {
                return refuse(4, "run flags cut short");
            };
            (count, flags, rest)
        } else {
            return refuse(0, "the cookie is neither 12346 nor 12347");
        };
        if count > 1 << 16 {
            return refuse(4, "more than 65,536 containers");
        }
        let position = |rest: &[u8]| bytes.len() - rest.len();
        let Some((descriptors, rest)) = rest.split_at_checked(count * 4) else {
            return refuse(position(rest), "container descriptors cut short");
        };
        let with_offsets = run_flags.is_empty() || count >= OFFSETS_FROM_CONTAINERS;
        let Some((offsets, rest)) = rest.split_at_checked(if with_offsets { count * 4 } else { 0 }) else {
            return refuse(position(rest), "container offsets cut short");
        };
        let mut view = BitmapView {
            bytes,
            descriptors: descriptors.as_chunks().0,
            offsets: offsets.as_chunks().0,
            few_offsets: [[0xff; 4]; OFFSETS_FROM_CONTAINERS - 1],
            run_flags,
        };
        let containers_at = position(rest);
        if !with_offsets {
            let mut at = containers_at;
            for index in 0..count {
                view.few_offsets[index] = (at as u32).to_le_bytes();
                // What is cut short is refused, or found missing, where the container is read.
                let Some(end) = view.end(index, at) else { break };
                at = end;
            }
        }
        Ok((view, containers_at))
    }

    /// Checks the container that begins at `at`; answers where the next one begins.
    fn check_container(&self, index: usize, at: usize) -> Result<usize, FormatError> {
        let len = self.cardinality(index) as usize;
        let rest = &self.bytes[at.min(self.bytes.len())..];
        if self.is_run(index) {
            let Some((count, rest)) = rest.split_first_chunk::<2>() else { return refuse(at, "run count cut short") };
            let size = usize::from(u16::from_le_bytes(*count)) * 4;
            let Some(runs) = rest.get(..size) else { return refuse(at, "runs cut short") };
            check_runs(runs.as_chunks().0, len).map_or_else(|what| refuse(at, what), |()| Ok(at + 2 + size))
        } else if len > ARRAY_LEN_MAX {
            let Some(words) = rest.get(..WORDS_BYTES) else { return refuse(at, "bit set cut short") };
            let ones: u32 = words.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word).count_ones()).sum();
            if ones as usize != len {
                return refuse(at, "bit set has another cardinality than it states");
            }
            Ok(at + WORDS_BYTES)
        } else {
            let Some(array) = rest.get(..len * 2) else { return refuse(at, "array cut short") };
            if !array.as_chunks::<2>().0.is_sorted_by(|a, b| u16::from_le_bytes(*a) < u16::from_le_bytes(*b)) {
                return refuse(at, "array positions do not rise");
            }
            Ok(at + len * 2)
        }
    }

    /// The serialised bytes.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Number of slots in the set. O(containers).
    pub fn len(&self) -> u64 {
        let less_one = self.descriptors.iter().map(|head| u64::from(u16::from_le_bytes([head[2], head[3]])));
        less_one.sum::<u64>() + self.descriptors.len() as u64
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.descriptors.is_empty()
    }

    /// Membership.
    pub fn contains(&self, slot: u32) -> bool {
        let (chunk, position) = ((slot >> 16) as u16, slot as u16);
        self.find(chunk).is_some_and(|index| self.container(index).contains(position))
    }

    /// Ascending slots.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        let view = *self;
        (0..view.container_count()).flat_map(move |index| {
            let high = u32::from(view.key(index)) << 16;
            view.container(index).iter().map(move |position| high | u32::from(position))
        })
    }

    /// The greatest slot.
    pub fn last(&self) -> Option<u32> {
        let index = self.container_count().checked_sub(1)?;
        let position = match self.container(index) {
            Container::Array(array) => array.last().map(|position| u16::from_le_bytes(*position).into()),
            Container::Runs(runs) => runs.last().map(|run| run_last(*run)),
            container => container.iter().last().map(u32::from),
        };
        position.map(|position| u32::from(self.key(index)) << 16 | position)
    }

    /// Number of containers (chunks with at least one slot).
    pub fn container_count(&self) -> usize {
        self.descriptors.len()
    }

    /// Chunk and cardinality - 1 of each container.
    pub(super) fn heads(&self) -> &'a [[u8; 4]] {
        self.descriptors
    }

    /// The chunk of a container.
    pub fn key(&self, index: usize) -> u16 {
        let descriptor = self.descriptors[index];
        u16::from_le_bytes([descriptor[0], descriptor[1]])
    }

    /// Number of positions in a container, 1 to 65,536; does not touch the container.
    pub fn cardinality(&self, index: usize) -> u32 {
        let descriptor = self.descriptors[index];
        u32::from(u16::from_le_bytes([descriptor[2], descriptor[3]])) + 1
    }

    /// The container of a chunk, by binary search.
    pub fn find(&self, chunk: u16) -> Option<usize> {
        self.search(chunk).ok()
    }

    /// The container of a chunk, or where it would be, by binary search.
    pub(super) fn search(&self, chunk: u16) -> Result<usize, usize> {
        self.descriptors.binary_search_by(|entry| u16::from_le_bytes([entry[0], entry[1]]).cmp(&chunk))
    }

    /// Number of slots in this chunk, without touching the container.
    pub fn chunk_len(&self, chunk: u16) -> u32 {
        self.find(chunk).map_or(0, |index| self.cardinality(index))
    }

    #[inline]
    pub(super) fn is_run(&self, index: usize) -> bool {
        self.run_flags.get(index / 8).is_some_and(|flags| flags >> (index % 8) & 1 == 1)
    }

    /// A container by its index.
    ///
    /// # Panics
    /// If `index` is not below [`BitmapView::container_count`].
    #[inline(always)]
    pub fn container(&self, index: usize) -> Container<'a> {
        let bytes = &self.bytes[self.offset(index)..];
        let len = self.cardinality(index) as usize;
        if self.is_run(index) {
            let (count, runs) = bytes.split_first_chunk().expect("runs begin with their count");
            Container::Runs(runs[..usize::from(u16::from_le_bytes(*count)) * 4].as_chunks().0)
        } else if len > ARRAY_LEN_MAX {
            let words = bytes[..WORDS_BYTES].as_chunks().0;
            Container::Words(words.try_into().expect("8,192 bytes are 1,024 words"))
        } else {
            Container::Array(bytes[..len * 2].as_chunks().0)
        }
    }

    #[inline(always)]
    fn offset(&self, index: usize) -> usize {
        let offsets = if self.offsets.is_empty() { &self.few_offsets } else { self.offsets };
        u32::from_le_bytes(offsets[index]) as usize
    }

    /// The elements of a container, before they are told apart: their bytes and what lies behind, how many, and whether
    /// they are runs instead of positions. A bit set's number is its cardinality.
    #[inline(always)]
    pub(super) fn elements(&self, index: usize) -> (&'a [u8], usize, bool) {
        let bytes = &self.bytes[self.offset(index)..];
        if self.is_run(index) {
            let (count, runs) = bytes.split_first_chunk().expect("runs begin with their count");
            (runs, usize::from(u16::from_le_bytes(*count)), true)
        } else {
            (bytes, self.cardinality(index) as usize, false)
        }
    }

    /// Where the container behind the one at `at` begins, going by the heads and the count of runs; `None` if it is cut
    /// short.
    fn end(&self, index: usize, at: usize) -> Option<usize> {
        Some(match self.cardinality(index) as usize {
            _ if self.is_run(index) => {
                let count = self.bytes.get(at..)?.first_chunk()?;
                at + 2 + usize::from(u16::from_le_bytes(*count)) * 4
            }
            len if len > ARRAY_LEN_MAX => at + WORDS_BYTES,
            len => at + len * 2,
        })
    }
}

fn check_runs(runs: &[Run], len: usize) -> Result<(), &'static str> {
    let mut total = 0;
    let mut next = 0;
    for (index, run) in runs.iter().enumerate() {
        let (start, last) = (run_start(*run), run_last(*run));
        // Runs that touch could be one; published vectors take them for a set.
        if index > 0 && start < next {
            return Err("runs overlap or do not rise");
        }
        if last > u32::from(u16::MAX) {
            return Err("a run ends outside its chunk");
        }
        total += (last - start + 1) as usize;
        next = last + 1;
    }
    if total == len { Ok(()) } else { Err("runs have another cardinality than they state") }
}

impl<'a> Container<'a> {
    /// Membership of a position.
    pub fn contains(&self, position: u16) -> bool {
        match self {
            Container::Array(array) => {
                array.binary_search_by(|probe| u16::from_le_bytes(*probe).cmp(&position)).is_ok()
            }
            Container::Words(words) => {
                u64::from_le_bytes(words[usize::from(position >> 6)]) >> (position & 63) & 1 == 1
            }
            Container::Runs(runs) => {
                let position = u32::from(position);
                let found = runs.binary_search_by(|run| match (run_start(*run), run_last(*run)) {
                    (_, last) if last < position => Ordering::Less,
                    (start, _) if start > position => Ordering::Greater,
                    _ => Ordering::Equal,
                });
                found.is_ok()
            }
        }
    }

    /// How many positions stand before this one; `None` if it is not among them.
    pub fn rank(&self, position: u16) -> Option<usize> {
        match self {
            Container::Array(array) => array.binary_search_by(|probe| u16::from_le_bytes(*probe).cmp(&position)).ok(),
            Container::Words(words) => {
                let (index, bit) = (usize::from(position >> 6), position & 63);
                let word = u64::from_le_bytes(words[index]);
                let ones = |word: u64| word.count_ones() as usize;
                let before: usize = words[..index].iter().map(|word| ones(u64::from_le_bytes(*word))).sum();
                (word >> bit & 1 == 1).then(|| before + ones(word & ((1 << bit) - 1)))
            }
            Container::Runs(runs) => {
                let position = u32::from(position);
                let index = runs.partition_point(|run| run_last(*run) < position);
                let above = position.checked_sub(run_start(*runs.get(index)?))?;
                let len = |run: &Run| run_last(*run) - run_start(*run) + 1;
                Some((runs[..index].iter().map(len).sum::<u32>() + above) as usize)
            }
        }
    }

    /// Rising positions.
    pub fn iter(self) -> impl Iterator<Item = u16> + use<'a> {
        let (array, words, runs): (&[Le16], &[Le64], &[Run]) = match self {
            Container::Array(array) => (array, &[], &[]),
            Container::Words(words) => (&[], words, &[]),
            Container::Runs(runs) => (&[], &[], runs),
        };
        let from_words = words.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = u64::from_le_bytes(*word);
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some((index as u32 * 64 + bit) as u16)
            })
        });
        let from_runs = runs.iter().flat_map(|run| (run_start(*run)..=run_last(*run)).map(|position| position as u16));
        array.iter().map(|position| u16::from_le_bytes(*position)).chain(from_words).chain(from_runs)
    }

    /// Bytes the container takes in the file.
    pub fn size_bytes(&self) -> usize {
        match self {
            Container::Array(array) => array.len() * 2,
            Container::Words(_) => WORDS_BYTES,
            Container::Runs(runs) => 2 + runs.len() * 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roaring::RoaringBitmap;

    fn serialized(bitmap: &RoaringBitmap) -> Vec<u8> {
        let mut bytes = Vec::new();
        bitmap.serialize_into(&mut bytes).expect("memory");
        bytes
    }

    fn shapes() -> Vec<RoaringBitmap> {
        let mut shapes: Vec<RoaringBitmap> = [0u32, 1, 4095, 4096, 4097, 65_535, 65_536, 70_000, 300_000]
            .iter()
            .map(|count| (0..*count).map(|slot| slot * 3).collect())
            .collect();
        shapes.push((0..65_536).collect());
        shapes.push((10..200_000).chain(900_000..900_004).collect());
        shapes.push([0, 65_535, 65_536, u32::MAX].into_iter().collect());
        for shape in shapes.clone() {
            let mut optimized = shape;
            optimized.optimize();
            shapes.push(optimized);
        }
        shapes
    }

    #[test]
    fn shows_what_was_serialized() {
        for bitmap in shapes() {
            let bytes = serialized(&bitmap);
            let mut shifted = vec![7];
            shifted.extend_from_slice(&bytes);
            let view = BitmapView::new(&shifted[1..]).expect("valid");
            assert_eq!(view.len(), bitmap.len());
            assert!(view.iter().eq(bitmap.iter()));
            for slot in [0, 1, 2, 3, 65_535, 65_536, 196_607, 899_999, 900_000, u32::MAX] {
                assert_eq!(view.contains(slot), bitmap.contains(slot), "{slot}");
            }
            for index in 0..view.container_count() {
                let (container, mut positions) = (view.container(index), view.container(index).iter().peekable());
                let mut before = 0;
                for position in 0..=u16::MAX {
                    let is_there = positions.next_if_eq(&position).is_some();
                    assert_eq!(container.rank(position), is_there.then_some(before), "{position}");
                    before += usize::from(is_there);
                }
            }
        }
    }

    #[test]
    fn runs_that_touch_are_copied_too() {
        // One container with the runs 5..=6 and 7..=9.
        let bytes = [0x3b, 0x30, 0, 0, 1, 2, 0, 4, 0, 2, 0, 5, 0, 1, 0, 7, 0, 2, 0];
        let view = BitmapView::new(&bytes).expect("valid");
        let expected: RoaringBitmap = ((2 << 16) + 5..(2 << 16) + 10).collect();
        assert_eq!(view.to_bitmap(), expected);
        assert!(view.iter().eq(expected.iter()));
    }

    #[test]
    fn runs_that_touch_take_no_more_memory_than_others() {
        // One container with the runs 0..=0 and 1..=12,544.
        let bytes = [0x3b, 0x30, 0, 0, 1, 0, 0, 0, 0x31, 2, 0, 0, 0, 0, 0, 1, 0, 0xff, 0x30];
        let bitmap = BitmapView::new(&bytes).expect("valid").to_bitmap();
        assert_eq!(bitmap, (0..=12_544).collect());
        assert_eq!(bitmap.statistics().n_run_containers, 1);
    }

    #[test]
    fn refuses_or_understands_any_damage() {
        for bitmap in shapes() {
            let good = serialized(&bitmap);
            for cut in (0..good.len()).step_by(1 + good.len() / 300) {
                assert!(BitmapView::new(&good[..cut]).is_err(), "cut at {cut}");
            }
            let mut longer = good.clone();
            longer.push(0);
            assert!(BitmapView::new(&longer).is_err());
            for at in (0..good.len()).step_by(1 + good.len() / 300) {
                let mut bad = good.clone();
                bad[at] ^= 1 << (at % 8);
                if let Ok(view) = BitmapView::new(&bad) {
                    assert_eq!(view.iter().count() as u64, view.len());
                    assert!(view.to_bitmap().iter().eq(view.iter()));
                }
            }
        }
    }
}
