//! The object store that Delta's log and files go through: a local folder, durably.
//!
//! `object_store`'s own local store never syncs (0.13; 0.14 can), so a power cut may take a commit that was acknowledged, or
//! leave it torn, which no reader of the table gets over. Here every write goes through [`Disk`]; reads and
//! listings are those of another store of the same files: the local one, or a simulation's. Nothing outside the root can be reached, so that a SQL session which is given this store
//! for `file://` sees facts and nothing else.

use super::disk::{Disk, Taken};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// A local folder whose files are durable once they are written. Locations are absolute paths.
#[derive(Clone, Debug)]
pub(super) struct DurableLocalStore {
    reads: Arc<dyn ObjectStore>,
    disk: Arc<Disk>,
}

impl DurableLocalStore {
    /// Writes to `disk`, and asks `reads` for what is on it.
    pub(super) fn new(disk: Arc<Disk>, reads: Arc<dyn ObjectStore>) -> Self {
        DurableLocalStore { reads, disk }
    }

    fn path(&self, location: &Path) -> Result<PathBuf> {
        let path = path_of(location)?;
        if !path.starts_with(self.disk.root()) {
            return Err(outside(location));
        }
        Ok(path)
    }

    fn check(&self, prefix: Option<&Path>) -> Result<()> {
        let prefix = prefix.cloned().unwrap_or_default();
        let root = Path::from_absolute_path(self.disk.root())?;
        if prefix.prefix_matches(&root) { Ok(()) } else { Err(outside(&prefix)) }
    }

    async fn write(&self, location: &Path, payload: PutPayload, taken: Taken) -> Result<PutResult> {
        let path = self.path(location)?;
        self.blocking(location, move |disk| {
            disk.write(&path, payload.iter().map(|bytes| bytes.as_ref()), taken)?;
            Ok(PutResult { e_tag: None, version: None })
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        location: &Path,
        work: impl FnOnce(&Disk) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let disk = Arc::clone(&self.disk);
        let done = tokio::task::spawn_blocking(move || work(&disk)).await;
        done.map_err(io::Error::other).flatten().map_err(|error| named(location, error))
    }
}

/// The file a location stands for.
pub(super) fn path_of(location: &Path) -> Result<PathBuf> {
    // Knows of no folder and looks at no file.
    LocalFileSystem::new().path_to_filesystem(location)
}

fn outside(location: &Path) -> Error {
    let path = location.to_string();
    Error::PermissionDenied { path, source: "it is outside the folder of facts".into() }
}

pub(super) fn named(location: &Path, error: io::Error) -> Error {
    let path = location.to_string();
    match error.kind() {
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: error.into() },
        io::ErrorKind::NotFound => Error::NotFound { path, source: error.into() },
        _ => Error::Generic { store: "facts", source: format!("{path}: {error}").into() },
    }
}

impl fmt::Display for DurableLocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableLocalStore({})", self.disk.root().display())
    }
}

#[async_trait]
impl ObjectStore for DurableLocalStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let taken = match options.mode {
            PutMode::Create => Taken::Refuse,
            PutMode::Overwrite => Taken::Replace,
            PutMode::Update(_) => return Err(unsupported("a conditional update")),
        };
        self.write(location, payload, taken).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.path(location)?;
        Ok(Box::new(Upload { store: self.clone(), location: location.clone(), parts: Vec::new() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.path(location)?;
        self.reads.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.path(location)?;
        self.reads.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let remove = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                let path = store.path(&location)?;
                store.blocking(&location, move |disk| disk.remove(&path)).await?;
                Ok(location)
            }
        };
        locations.then(remove).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.check(prefix) {
            Ok(()) => self.reads.list(prefix),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.check(prefix) {
            Ok(()) => self.reads.list_with_offset(prefix, offset),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.check(prefix)?;
        self.reads.list_with_delimiter(prefix).await
    }

    /// Copies by writing anew: what is copied here is small.
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let content = self.get_opts(from, GetOptions::default()).await?.bytes().await?;
        let taken = match options.mode {
            CopyMode::Create => Taken::Refuse,
            CopyMode::Overwrite => Taken::Replace,
        };
        self.write(to, content.into(), taken).await?;
        Ok(())
    }
}

fn unsupported(what: &str) -> Error {
    Error::NotSupported { source: format!("{what} is not something the folder of facts can do").into() }
}

/// A file that comes in parts, kept until it is complete: only checkpoints of the log come so, and they are small.
#[derive(Debug)]
struct Upload {
    store: DurableLocalStore,
    location: Path,
    parts: Vec<Bytes>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.extend(data);
        Box::pin(async { Ok(()) })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let payload: PutPayload = std::mem::take(&mut self.parts).into_iter().collect();
        self.store.write(&self.location, payload, Taken::Replace).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
    }
}
