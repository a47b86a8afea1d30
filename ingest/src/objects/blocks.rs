//! The columns of an object, block by block.
//!
//! A reader of Parquet goes through each of its columns from front to back, a page of one and then of the next. So the
//! parts of the object that are wanted are cut into blocks, and as many are kept as there are columns to be in the middle of.
//! Blocks are large where columns are few; what lies between wanted parts is not asked for.

use super::Handle;
use bytes::{Buf, Bytes};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// What blocks take together, unless there are so many columns that the smallest ones take more.
const KEPT_BYTES: u64 = 32 << 20;
const BLOCK_BYTES_MIN: u64 = 64 << 10;
const BLOCK_BYTES_MAX: u64 = 4 << 20;
/// Blocks kept beside one for each column.
const SPARE_BLOCKS: u64 = 2;
/// Wanted parts with no more between them are asked for as one.
const GAP_BYTES_MAX: u64 = 32 << 10;

#[derive(Clone)]
pub(crate) struct ObjectBlocks(Arc<Inner>);

struct Inner {
    object: Handle,
    /// Where blocks begin anew: rising, from 0 to the size.
    bounds: Vec<u64>,
    block_bytes: u64,
    kept_max: usize,
    /// Those used last in front.
    kept: Mutex<VecDeque<(u64, Bytes)>>,
}

impl ObjectBlocks {
    /// To read the footer with: one block at the end.
    pub(super) fn of_footer(object: Handle) -> ObjectBlocks {
        let tail = object.size_bytes().saturating_sub(BLOCK_BYTES_MIN);
        ObjectBlocks::new(object, [tail], BLOCK_BYTES_MIN, 2)
    }

    /// To read these parts with, of so many columns.
    pub(super) fn of_parts(&self, mut parts: Vec<Range<u64>>, column_count: usize) -> ObjectBlocks {
        parts.sort_unstable_by_key(|part| part.start);
        let mut merged: Vec<Range<u64>> = Vec::new();
        for part in parts {
            match merged.last_mut() {
                Some(last) if part.start <= last.end.saturating_add(GAP_BYTES_MAX) => last.end = last.end.max(part.end),
                _ => merged.push(part),
            }
        }
        let block_count = column_count as u64 + SPARE_BLOCKS;
        let block_bytes = (KEPT_BYTES / block_count).clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX);
        let kept_max = block_count.max(KEPT_BYTES / block_bytes) as usize;
        let bounds = merged.into_iter().flat_map(|part| [part.start, part.end]);
        ObjectBlocks::new(self.0.object.clone(), bounds, block_bytes, kept_max)
    }

    fn new(object: Handle, bounds: impl IntoIterator<Item = u64>, block_bytes: u64, kept_max: usize) -> ObjectBlocks {
        let size = object.size_bytes();
        let mut bounds: Vec<u64> = bounds.into_iter().filter(|bound| *bound < size).chain([0, size]).collect();
        bounds.sort_unstable();
        bounds.dedup();
        ObjectBlocks(Arc::new(Inner { object, bounds, block_bytes, kept_max, kept: Mutex::default() }))
    }
}

impl Inner {
    /// The block with this byte, which is inside the object.
    fn range_at(&self, position: u64) -> Range<u64> {
        let behind = self.bounds.partition_point(|bound| *bound <= position);
        let (begin, end) = (self.bounds[behind - 1], self.bounds[behind]);
        let begin = begin + (position - begin) / self.block_bytes * self.block_bytes;
        begin..end.min(begin + self.block_bytes)
    }

    /// What is in that block from the byte on.
    fn from(&self, position: u64) -> io::Result<Bytes> {
        let range = self.range_at(position);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let block = match kept.iter().position(|(begin, _)| *begin == range.start) {
            Some(place) => kept.remove(place).map(|(_, block)| block),
            None => None,
        };
        let block = match block {
            Some(block) => block,
            None => self.object.get(range.clone())?,
        };
        kept.push_front((range.start, block.clone()));
        kept.truncate(self.kept_max);
        Ok(block.slice((position - range.start) as usize..))
    }
}

impl Length for ObjectBlocks {
    fn len(&self) -> u64 {
        self.0.object.size_bytes()
    }
}

impl ChunkReader for ObjectBlocks {
    type T = BlockReader;

    fn get_read(&self, start: u64) -> Result<BlockReader> {
        Ok(BlockReader { blocks: self.clone(), position: start, rest: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.len()) {
            let size = self.len();
            return Err(ParquetError::EOF(format!("{length} bytes at {start} of an object of {size} bytes")));
        }
        if length == 0 {
            return Ok(Bytes::new());
        }
        let mut first = self.0.from(start)?;
        if first.len() >= length {
            return Ok(first.split_to(length));
        }
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&first);
        while bytes.len() < length {
            let more = self.0.from(start + bytes.len() as u64)?;
            bytes.extend_from_slice(&more[..more.len().min(length - bytes.len())]);
        }
        Ok(bytes.into())
    }
}

pub(crate) struct BlockReader {
    blocks: ObjectBlocks,
    /// Of the byte behind `rest`.
    position: u64,
    rest: Bytes,
}

impl Read for BlockReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            if self.position >= self.blocks.len() {
                return Ok(0);
            }
            self.rest = self.blocks.0.from(self.position)?;
            self.position += self.rest.len() as u64;
        }
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest[..count]);
        self.rest.advance(count);
        Ok(count)
    }
}
