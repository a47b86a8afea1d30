//! What the store is made of: numbered files, of which the newest is the state.
//!
//! `manifest/<number>.manifest`, a sealed file of kind `BELUGMAN`; all numbers little-endian, texts with their length in front:
//!
//! ```text
//! shard count u16 | epoch u64 | log position u64 | next file u64
//! next id u32 | tags u32 | per tag: name | id u32 | type u8 | scale u8 | facts u32 | per fact: see `encode_fact`
//! audiences u32 | per audience: see `encode_audience`
//! sources u32 | per source: name | offset u64
//! once files u32 | per file: id u64 | last expiry u64
//! tables u32 | per table: fact u32 | epoch u64
//! row numbers u32 | per fact: fact u32 | next number u64
//! staged u32 | per table: fact u32 | length u32 | plan, opaque (only in a prepared manifest)
//! per shard: slots u32 | parts u32 | per part: id u64 | event id files u32 | per file, newest first: id u64 | segments u32 | per segment, newest first: id u64 | length u64
//! spaces u32 | per vector space: name | id u32 | dimension u16 | metric u8 (not in version 4, which had none)
//! file of erasures u64, 0 for none (since version 8)
//! ```
//!
//! Versions 6 and 7 say the same as version 5, of segments that may have cells beside their vectors: of each chunk, or of the segment.
//!
//! A manifest is written beside the others and renamed into place when it is whole, so a damaged one is damage, never a
//! crash's trace; it is refused by name rather than passed over, because an older one would silently lose what was
//! acknowledged since.
//!
//! `manifest/<number>.prepared`, of the same form, is a checkpoint that will happen: its files are written, and rows of facts
//! are staged. What it takes is to commit them to their tables and to write it as a manifest; after a crash that is
//! done first of all.

use super::{Audience, Definition};
use crate::catalog::{
    Activity, Catalog, Column, ColumnType, Fact, Metric, Sink, Source, Space, Tag, TagType, Unit, Wanted, Zone, space,
};
use crate::error::ReadError;
use crate::ids::{Epoch, FileId, Lsn, TagId};
use crate::vfs::Vfs;
use crate::vfs::sealed::{SealedFile, SealedWriter};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const KIND: [u8; 8] = *b"BELUGMAN";
const VERSION: u32 = 8;
/// The oldest version that is still read.
const OLDEST_VERSION: u32 = 4;

/// The durable state.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Manifest {
    pub(super) epoch: u64,
    pub(super) position: u64,
    pub(super) next_file: u64,
    pub(super) catalog: Arc<Catalog>,
    pub(super) audiences: Arc<BTreeMap<String, Audience>>,
    pub(super) sources: BTreeMap<String, u64>,
    pub(super) once_files: Vec<OnceFile>,
    /// The file of erasures; see [`super::erasure`].
    pub(super) erasures: Option<FileId>,
    /// Per fact with a table, the number of the manifest that brought its last rows.
    pub(super) tables: BTreeMap<TagId, u64>,
    /// Per fact, the number its next logged event gets; see [`super::RowLog`].
    pub(super) row_numbers: BTreeMap<TagId, u64>,
    /// Rows on their way to tables; only while a checkpoint is prepared.
    pub(super) staged: Vec<Staged>,
    pub(super) shards: Vec<ShardFiles>,
}

/// Rows of a fact that are written and not part of its table yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Staged {
    pub(super) fact: TagId,
    /// See [`super::FactTables::stage`].
    pub(super) plan: Vec<u8>,
}

/// A file of remembered steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OnceFile {
    pub(super) id: FileId,
    /// Seconds since 1970 from which on nothing in it is remembered.
    pub(super) expires: u64,
}

/// The files of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ShardFiles {
    pub(super) slot_count: u32,
    /// Dictionary parts, by rising slot.
    pub(super) parts: Vec<FileId>,
    /// Ids of events, newest first.
    pub(super) event_ids: Vec<FileId>,
    /// Newest first, with their lengths.
    pub(super) segments: Vec<(FileId, u64)>,
}

impl Manifest {
    /// The state of a new directory.
    pub(super) fn new(shard_count: u16) -> Manifest {
        Manifest { next_file: 1, shards: vec![ShardFiles::default(); usize::from(shard_count)], ..Manifest::default() }
    }

    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.epoch)
    }

    pub(super) fn position(&self) -> Lsn {
        Lsn(self.position)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.u16(self.shards.len() as u16);
        out.u64(self.epoch);
        out.u64(self.position);
        out.u64(self.next_file);
        encode_catalog(&self.catalog, &mut out);
        out.u32(self.audiences.len() as u32);
        self.audiences.iter().for_each(|(name, audience)| encode_audience(name, audience, &mut out));
        out.u32(self.sources.len() as u32);
        for (name, offset) in &self.sources {
            out.text(name);
            out.u64(*offset);
        }
        out.u32(self.once_files.len() as u32);
        for file in &self.once_files {
            out.u64(file.id.0);
            out.u64(file.expires);
        }
        out.u32(self.tables.len() as u32);
        for (fact, epoch) in &self.tables {
            out.u32(fact.0);
            out.u64(*epoch);
        }
        out.u32(self.row_numbers.len() as u32);
        for (fact, next) in &self.row_numbers {
            out.u32(fact.0);
            out.u64(*next);
        }
        out.u32(self.staged.len() as u32);
        for staged in &self.staged {
            out.u32(staged.fact.0);
            out.bytes(&staged.plan);
        }
        for shard in &self.shards {
            out.u32(shard.slot_count);
            out.u32(shard.parts.len() as u32);
            shard.parts.iter().for_each(|part| out.u64(part.0));
            out.u32(shard.event_ids.len() as u32);
            shard.event_ids.iter().for_each(|file| out.u64(file.0));
            out.u32(shard.segments.len() as u32);
            for (id, len) in &shard.segments {
                out.u64(id.0);
                out.u64(*len);
            }
        }
        encode_spaces(&self.catalog, &mut out);
        out.u64(self.erasures.map_or(0, |file| file.0));
        out.0
    }

    fn decode(bytes: &[u8]) -> Option<Manifest> {
        let mut bytes = Decoder(bytes);
        let shard_count = bytes.u16()?;
        let (epoch, position, next_file) = (bytes.u64()?, bytes.u64()?, bytes.u64()?);
        let catalog = decode_catalog(&mut bytes)?;
        let audiences = bytes.many(decode_audience)?;
        let sources = bytes.many(|bytes| Some((bytes.text()?, bytes.u64()?)))?;
        let once_files = bytes.many(|bytes| Some(OnceFile { id: FileId(bytes.u64()?), expires: bytes.u64()? }))?;
        let tables = bytes.many(|bytes| Some((TagId(bytes.u32()?), bytes.u64()?)))?;
        let row_numbers = bytes.many(|bytes| Some((TagId(bytes.u32()?), bytes.u64()?)))?;
        let staged = bytes.many(|bytes| Some(Staged { fact: TagId(bytes.u32()?), plan: bytes.bytes()? }))?;
        let mut shards = Vec::new();
        for _ in 0..shard_count {
            shards.push(ShardFiles {
                slot_count: bytes.u32()?,
                parts: bytes.many(|bytes| Some(FileId(bytes.u64()?)))?,
                event_ids: bytes.many(|bytes| Some(FileId(bytes.u64()?)))?,
                segments: bytes.many(|bytes| Some((FileId(bytes.u64()?), bytes.u64()?)))?,
            });
        }
        let catalog = match bytes.0.is_empty() {
            true => Arc::new(catalog),
            false => Arc::new(with_spaces(catalog, &mut bytes)?),
        };
        let erasures = match bytes.0.is_empty() {
            true => None,
            false => Some(bytes.u64()?).filter(|file| *file != 0).map(FileId),
        };
        (bytes.0.is_empty() && shard_count.is_power_of_two()).then(|| Manifest {
            epoch,
            position,
            next_file,
            catalog,
            audiences: Arc::new(audiences.into_iter().collect()),
            sources: sources.into_iter().collect(),
            once_files,
            erasures,
            tables: tables.into_iter().collect(),
            row_numbers: row_numbers.into_iter().collect(),
            staged,
            shards,
        })
    }
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.manifest"))
}

/// Numbers of the manifests in a folder, rising.
pub(super) fn numbers(vfs: &dyn Vfs, folder: &Path) -> io::Result<Vec<u64>> {
    let number = |name: &String| name.strip_suffix(".manifest")?.parse().ok();
    let mut numbers: Vec<u64> = vfs.list(folder)?.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn prepared_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.prepared"))
}

/// Writes a manifest; when this returns it is the state, whatever happens.
pub(super) fn write(vfs: &dyn Vfs, folder: &Path, number: u64, manifest: &Manifest) -> io::Result<u64> {
    write_as(vfs, folder, &path(folder, number), manifest)
}

/// Writes a prepared manifest; when this returns it will become the state, whatever happens.
pub(super) fn prepare(vfs: &dyn Vfs, folder: &Path, number: u64, manifest: &Manifest) -> io::Result<u64> {
    write_as(vfs, folder, &prepared_path(folder, number), manifest)
}

fn write_as(vfs: &dyn Vfs, folder: &Path, path: &Path, manifest: &Manifest) -> io::Result<u64> {
    let temporary = folder.join("next.tmp");
    match vfs.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut writer = SealedWriter::new(vfs.create(&temporary)?, KIND, VERSION);
    writer.append(&manifest.encode())?;
    let len = writer.finish()?;
    vfs.rename(&temporary, path)?;
    vfs.sync_folder(folder)?;
    Ok(len)
}

/// Reads a manifest.
pub(super) fn read(vfs: &dyn Vfs, folder: &Path, number: u64) -> Result<Manifest, ReadError> {
    read_from(vfs, &path(folder, number))
}

/// Reads the prepared manifest of this number, if there is one.
pub(super) fn read_prepared(vfs: &dyn Vfs, folder: &Path, number: u64) -> Result<Option<Manifest>, ReadError> {
    let path = prepared_path(folder, number);
    let names = vfs.list(folder).map_err(|source| ReadError::Io {
        path: folder.to_owned(),
        verb: "list the manifests",
        source: Arc::new(source),
    })?;
    let is_there = names.iter().any(|name| path.file_name().is_some_and(|wanted| wanted == name.as_str()));
    is_there.then(|| read_from(vfs, &path)).transpose()
}

fn read_from(vfs: &dyn Vfs, path: &Path) -> Result<Manifest, ReadError> {
    let file = SealedFile::open_since(vfs, path, KIND, OLDEST_VERSION..=VERSION)?;
    let payload = file.payload(0..file.payload_len())?;
    Manifest::decode(payload).ok_or_else(|| file.corrupt(0, "not a manifest"))
}

/// Removes the manifests before `number`, and what prepared them; what cannot be removed now goes next time.
pub(super) fn remove_before(vfs: &dyn Vfs, folder: &Path, number: u64) {
    for name in vfs.list(folder).unwrap_or_default() {
        let of = |suffix: &str| name.strip_suffix(suffix).and_then(|number| number.parse::<u64>().ok());
        let is_old =
            of(".manifest").is_some_and(|old| old < number) || of(".prepared").is_some_and(|old| old <= number);
        if is_old {
            let _ = vfs.remove(&folder.join(&name));
        }
    }
}

pub(super) fn encode_catalog(catalog: &Catalog, out: &mut Encoder) {
    out.u32(catalog.next_id().0);
    out.u32(catalog.tags().len() as u32);
    for (name, tag) in catalog.tags() {
        out.text(name);
        out.u32(tag.id.0);
        let (kind, scale) = match tag.tag_type {
            TagType::Set => (0, 0),
            TagType::Enum => (1, 0),
            TagType::Flag => (2, 0),
            TagType::Number(Unit::Integer) => (3, 0),
            TagType::Number(Unit::Decimal { scale }) => (4, scale),
            TagType::Number(Unit::Timestamp) => (5, 0),
        };
        out.0.extend_from_slice(&[kind, scale]);
    }
    out.u32(catalog.declared_facts().count() as u32);
    catalog.declared_facts().for_each(|(name, fact)| encode_fact(name, fact, out));
    out.u32(catalog.sources().len() as u32);
    for (name, source) in catalog.sources() {
        out.text(name);
        out.text(&source.definition);
        out.0.push(wanted_number(source.wanted));
    }
    out.u32(catalog.sinks().len() as u32);
    for (name, sink) in catalog.sinks() {
        out.text(name);
        out.text(&sink.definition);
        out.u32(sink.life.0);
        out.0.push(wanted_number(sink.wanted));
    }
}

/// The vector spaces, which stand last, because files of before have none.
pub(super) fn encode_spaces(catalog: &Catalog, out: &mut Encoder) {
    out.u32(catalog.spaces().len() as u32);
    for (name, space) in catalog.spaces() {
        out.text(name);
        out.u32(space.id.0);
        out.u16(space.dimension);
        out.0.push(space.metric as u8);
    }
}

fn wanted_number(wanted: Wanted) -> u8 {
    match wanted {
        Wanted::Running => 0,
        Wanted::Paused => 1,
        Wanted::Stopped => 2,
    }
}

fn decode_wanted(bytes: &mut Decoder<'_>) -> Option<Wanted> {
    Some(match bytes.u8()? {
        0 => Wanted::Running,
        1 => Wanted::Paused,
        2 => Wanted::Stopped,
        _ => return None,
    })
}

fn decode_space(bytes: &mut Decoder<'_>) -> Option<(String, Space)> {
    let (name, id, dimension) = (bytes.text()?, TagId(bytes.u32()?), bytes.u16()?);
    let metric = *Metric::ALL.get(usize::from(bytes.u8()?))?;
    space::DIMENSIONS.contains(&dimension).then_some((name, Space { id, dimension, metric }))
}

fn decode_source(bytes: &mut Decoder<'_>) -> Option<(String, Source)> {
    Some((bytes.text()?, Source { definition: bytes.text()?, wanted: decode_wanted(bytes)? }))
}

fn decode_sink(bytes: &mut Decoder<'_>) -> Option<(String, Sink)> {
    let (name, definition, life) = (bytes.text()?, bytes.text()?, TagId(bytes.u32()?));
    Some((name, Sink { definition, life, wanted: decode_wanted(bytes)? }))
}

/// `name | id u32 | columns u32 | per column: name | type u8 | precision u8 | scale u8 | dimensions u32 | each u16 |
/// measures u32 | each u16 | retention days u32 | deduplicate days u32 (0: none) | zone: name | first i32 | changes u32 |
/// each: i64 | i32`.
fn encode_fact(name: &str, fact: &Fact, out: &mut Encoder) {
    out.text(name);
    out.u32(fact.id.0);
    out.u32(fact.columns.len() as u32);
    for column in &fact.columns {
        out.text(&column.name);
        let kind = COLUMN_TYPES
            .iter()
            .position(|of| std::mem::discriminant(of) == std::mem::discriminant(&column.column_type))
            .unwrap_or(0) as u8;
        let (precision, scale) = match column.column_type {
            ColumnType::Decimal { precision, scale } => (precision, scale),
            _ => (0, 0),
        };
        out.0.extend_from_slice(&[kind, precision, scale]);
    }
    for places in [&fact.activity.dimensions, &fact.activity.measures] {
        out.u32(places.len() as u32);
        places.iter().for_each(|place| out.u16(*place));
    }
    out.u32(fact.retention_days.unwrap_or(0));
    out.u32(fact.deduplicate_days.unwrap_or(0));
    out.text(&fact.zone.name);
    out.u32(fact.zone.first() as u32);
    out.u32(fact.zone.changes().len() as u32);
    for (from, offset) in fact.zone.changes() {
        out.u64(*from as u64);
        out.u32(*offset as u32);
    }
}

fn decode_fact(bytes: &mut Decoder<'_>) -> Option<(String, Fact)> {
    let (name, id) = (bytes.text()?, TagId(bytes.u32()?));
    let columns = bytes.many(|bytes| {
        let name = bytes.text()?;
        let kind = *COLUMN_TYPES.get(usize::from(bytes.u8()?))?;
        let (precision, scale) = (bytes.u8()?, bytes.u8()?);
        let column_type = match kind {
            ColumnType::Decimal { .. } => ColumnType::Decimal { precision, scale },
            other => other,
        };
        Some(Column { name, column_type })
    })?;
    let dimensions = bytes.many(Decoder::u16)?;
    let measures = bytes.many(Decoder::u16)?;
    let (retention, deduplicate) = (bytes.u32()?, bytes.u32()?);
    let (zone, first) = (bytes.text()?, bytes.u32()? as i32);
    let changes = bytes.many(|bytes| Some((bytes.u64()? as i64, bytes.u32()? as i32)))?;
    let activity = Activity { dimensions, measures };
    let some = |days: u32| (days > 0).then_some(days);
    let places = activity.dimensions.iter().chain(&activity.measures);
    let whole = places.clone().all(|at| usize::from(*at) < columns.len()) && changes.is_sorted_by(|a, b| a.0 < b.0);
    whole.then(|| {
        let zone = Zone::new(&zone, first, changes);
        let (retention_days, deduplicate_days) = (some(retention), some(deduplicate));
        (name, Fact { id, columns, activity, retention_days, deduplicate_days, zone })
    })
}

/// By their numbers in files.
const COLUMN_TYPES: [ColumnType; 7] = [
    ColumnType::String,
    ColumnType::Integer,
    ColumnType::Decimal { precision: 0, scale: 0 },
    ColumnType::Float,
    ColumnType::Boolean,
    ColumnType::Timestamp,
    ColumnType::Json,
];

pub(super) fn decode_catalog(bytes: &mut Decoder<'_>) -> Option<Catalog> {
    let next = TagId(bytes.u32()?);
    let given = |id: TagId| id < next && id >= TagId::FIRST_DECLARED;
    let tags = bytes.many(|bytes| {
        let name = bytes.text()?;
        let id = TagId(bytes.u32()?);
        let tag_type = match (bytes.u8()?, bytes.u8()?) {
            (0, 0) => TagType::Set,
            (1, 0) => TagType::Enum,
            (2, 0) => TagType::Flag,
            (3, 0) => TagType::Number(Unit::Integer),
            (4, scale) => TagType::Number(Unit::Decimal { scale }),
            (5, 0) => TagType::Number(Unit::Timestamp),
            _ => return None,
        };
        given(id).then_some((name, Tag { id, tag_type }))
    })?;
    let facts = bytes.many(decode_fact)?;
    let numbered = facts.iter().all(|(_, fact)| given(fact.id));
    let sources = bytes.many(decode_source)?;
    let sinks = bytes.many(decode_sink)?;
    let numbered = numbered && sinks.iter().all(|(_, sink)| given(sink.life));
    numbered.then(|| Catalog::from_parts(tags, facts, sources, sinks, next))
}

/// A catalog with the vector spaces that are left to read, up to the end; none in what was written before there were any.
pub(super) fn decode_spaces(catalog: Catalog, bytes: &mut Decoder<'_>) -> Option<Catalog> {
    if bytes.0.is_empty() {
        return Some(catalog);
    }
    let catalog = with_spaces(catalog, bytes)?;
    bytes.0.is_empty().then_some(catalog)
}

fn with_spaces(catalog: Catalog, bytes: &mut Decoder<'_>) -> Option<Catalog> {
    let spaces = bytes.many(decode_space)?;
    let next = catalog.next_id();
    let numbered = spaces.iter().all(|(_, space)| space.id < next && space.id >= TagId::FIRST_DECLARED);
    numbered.then(|| catalog.with_spaces(spaces))
}

/// `name | description | changed at i64 | 0 u8, expression | 1 u8, list id, users u64 | 2 u8, expression, list id`.
pub(super) fn encode_audience(name: &str, audience: &Audience, out: &mut Encoder) {
    out.text(name);
    out.text(&audience.description);
    out.u64(audience.changed_at as u64);
    match &audience.definition {
        Definition::Expression(text) => {
            out.0.push(0);
            out.text(text);
        }
        Definition::Live { expression, list_id } => {
            out.0.push(2);
            out.text(expression);
            out.text(list_id);
        }
        Definition::Uploaded { list_id, user_count } => {
            out.0.push(1);
            out.text(list_id);
            out.u64(*user_count);
        }
    }
}

pub(super) fn decode_audience(bytes: &mut Decoder<'_>) -> Option<(String, Audience)> {
    let (name, description, changed_at) = (bytes.text()?, bytes.text()?, bytes.u64()? as i64);
    let definition = match bytes.u8()? {
        0 => Definition::Expression(bytes.text()?),
        1 => Definition::Uploaded { list_id: bytes.text()?, user_count: bytes.u64()? },
        2 => Definition::Live { expression: bytes.text()?, list_id: bytes.text()? },
        _ => return None,
    };
    Some((name, Audience { definition, description, changed_at }))
}

/// Appends fixed-width numbers and texts.
#[derive(Default)]
pub(super) struct Encoder(pub(super) Vec<u8>);

impl Encoder {
    pub(super) fn u16(&mut self, number: u16) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(super) fn u128(&mut self, number: u128) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
    }
}

/// Takes them off again; `None` when the bytes do not have them.
pub(super) struct Decoder<'a>(pub(super) &'a [u8]);

impl<'a> Decoder<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.take().map(u128::from_le_bytes)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?).ok()
    }

    pub(super) fn bytes(&mut self) -> Option<Vec<u8>> {
        let len = self.u32()? as usize;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes.to_vec())
    }

    /// A count and that many items.
    pub(super) fn many<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()?;
        (0..count).map(|_| item(self)).collect()
    }
}

#[cfg(test)]
mod tests;
