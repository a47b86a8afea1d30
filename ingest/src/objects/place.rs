//! Files here and objects elsewhere, under one face.

use super::blocks::{BlockReader, ObjectBlocks};
use super::reader::ObjectReader;
use super::{Handle, Object, ObjectError, ObjectFiles, is_object_name};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, Length};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What opens files, and stops whoever waits for one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Opener {
    objects: Option<Arc<dyn ObjectFiles>>,
    stop: Arc<AtomicBool>,
}

impl Opener {
    pub(crate) fn new(objects: Option<Arc<dyn ObjectFiles>>) -> Opener {
        Opener { objects, stop: Arc::default() }
    }

    /// The stores, if there are any.
    pub(crate) fn objects(&self) -> Option<&Arc<dyn ObjectFiles>> {
        self.objects.as_ref()
    }

    /// Set, it ends every wait for a store.
    pub(crate) fn stop(&self) -> &Arc<AtomicBool> {
        &self.stop
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn end_waits(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Where a file of the machine is, or an object as it was listed.
    pub(crate) fn place(&self, object: Object) -> Place {
        match &self.objects {
            Some(files) if is_object_name(&object.name) => {
                Place::Object(Handle::new(Arc::clone(files), object, Arc::clone(&self.stop)))
            }
            _ => Place::Local(PathBuf::from(&*object.name)),
        }
    }
}

/// Where a file is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Local(PathBuf),
    Object(Handle),
}

impl Place {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Place::Local(path) => path,
            Place::Object(handle) => Path::new(&*handle.object.name),
        }
    }

    /// Its bytes from the begin on.
    pub(crate) fn open(&self) -> io::Result<FileBytes> {
        Ok(match self {
            Place::Local(path) => FileBytes::Local(File::open(path)?),
            Place::Object(handle) => FileBytes::Object(Box::new(ObjectReader::new(handle.clone()))),
        })
    }

    /// Has the first bytes come while something else is done, if it is an object.
    pub(crate) fn ask_ahead(&self) {
        if let Place::Object(handle) = self {
            handle.ask_ahead();
        }
    }

    /// Its columns; first its footer.
    pub(crate) fn open_columns(&self) -> io::Result<ColumnBytes> {
        Ok(match self {
            Place::Local(path) => ColumnBytes::Local(File::open(path)?),
            Place::Object(handle) => ColumnBytes::Object(ObjectBlocks::of_footer(handle.clone())),
        })
    }

    /// Why an object could not be read, where that was said since it was opened.
    pub(crate) fn trouble(&self) -> Option<ObjectError> {
        match self {
            Place::Local(_) => None,
            Place::Object(handle) => handle.trouble(),
        }
    }
}

/// A file's bytes.
pub(crate) enum FileBytes {
    Local(File),
    Object(Box<ObjectReader>),
}

impl FileBytes {
    pub(crate) fn size_bytes(&self) -> io::Result<u64> {
        match self {
            FileBytes::Local(file) => Ok(file.metadata()?.len()),
            FileBytes::Object(object) => Ok(object.size_bytes()),
        }
    }
}

impl Read for FileBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            FileBytes::Local(file) => file.read(buffer),
            FileBytes::Object(object) => object.read(buffer),
        }
    }
}

impl Seek for FileBytes {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            FileBytes::Local(file) => file.seek(to),
            FileBytes::Object(object) => object.seek(to),
        }
    }
}

/// A file's bytes for who reads it by columns.
pub(crate) enum ColumnBytes {
    Local(File),
    Object(ObjectBlocks),
}

impl ColumnBytes {
    /// For these columns of these row groups. Damage in the footer may make this panic as it does the library's own readers:
    /// call it where that is caught.
    pub(crate) fn for_columns(
        self,
        footer: &ParquetMetaData,
        groups: &[usize],
        columns: &ProjectionMask,
    ) -> ColumnBytes {
        let ColumnBytes::Object(blocks) = &self else { return self };
        let mut parts = Vec::new();
        let mut column_count = 0;
        for group in groups {
            let chunks = footer.row_group(*group).columns().iter().enumerate();
            let wanted = chunks.filter(|(leaf, _)| columns.leaf_included(*leaf)).map(|(_, chunk)| chunk.byte_range());
            let before = parts.len();
            parts.extend(wanted.map(|(begin, length)| begin..begin.saturating_add(length)));
            column_count = column_count.max(parts.len() - before);
        }
        ColumnBytes::Object(blocks.of_parts(parts, column_count))
    }
}

pub(crate) enum ColumnReader {
    Local(BufReader<File>),
    Object(BlockReader),
}

impl Read for ColumnReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            ColumnReader::Local(file) => file.read(buffer),
            ColumnReader::Object(object) => object.read(buffer),
        }
    }
}

impl Length for ColumnBytes {
    fn len(&self) -> u64 {
        match self {
            ColumnBytes::Local(file) => file.len(),
            ColumnBytes::Object(blocks) => blocks.len(),
        }
    }
}

impl ChunkReader for ColumnBytes {
    type T = ColumnReader;

    fn get_read(&self, start: u64) -> ParquetResult<ColumnReader> {
        Ok(match self {
            ColumnBytes::Local(file) => ColumnReader::Local(file.get_read(start)?),
            ColumnBytes::Object(blocks) => ColumnReader::Object(blocks.get_read(start)?),
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        match self {
            ColumnBytes::Local(file) => file.get_bytes(start, length),
            ColumnBytes::Object(blocks) => blocks.get_bytes(start, length),
        }
    }
}
