//! What is on a simulated disk, for the Delta library and DataFusion to read.
//!
//! Only reading: writes go through [`super::disk::Disk`], on whatever disk. Listings are those of `object_store`'s own local
//! store: files below a folder, in any order, without those that are being written.

use super::store::{named, path_of};
use async_trait::async_trait;
use engine::vfs::{Metadata, Vfs};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// The files of a [`Vfs`], to be read. Locations are absolute paths.
#[derive(Debug)]
pub(super) struct VfsStore(Arc<dyn Vfs>);

impl VfsStore {
    pub(super) fn new(vfs: Arc<dyn Vfs>) -> Self {
        VfsStore(vfs)
    }

    fn meta(&self, location: &Path) -> Result<ObjectMeta> {
        let found = self.0.metadata(&path_of(location)?).map_err(|error| named(location, error))?;
        match found.is_folder {
            true => Err(named(location, io::ErrorKind::NotFound.into())),
            false => Ok(object(location.clone(), found)),
        }
    }

    /// Files below a folder, and the folders right in it.
    fn children(&self, folder: &Path) -> Result<ListResult> {
        let mut found = ListResult { common_prefixes: Vec::new(), objects: Vec::new() };
        let path = path_of(folder)?;
        let failed = |error| named(folder, error);
        for name in self.0.list(&path).map_err(failed)? {
            if name.rsplit_once('#').is_some_and(|(_, digits)| digits.bytes().all(|byte| byte.is_ascii_digit())) {
                continue;
            }
            let metadata = self.0.metadata(&path.join(&name)).map_err(failed)?;
            let location = Path::from_absolute_path(path.join(&name))?;
            match metadata.is_folder {
                true => found.common_prefixes.push(location),
                false => found.objects.push(object(location, metadata)),
            }
        }
        Ok(found)
    }

    fn below(&self, folder: &Path, found: &mut Vec<ObjectMeta>) -> Result<()> {
        let children = self.children(folder)?;
        found.extend(children.objects);
        children.common_prefixes.iter().try_for_each(|folder| self.below(folder, found))
    }
}

fn object(location: Path, metadata: Metadata) -> ObjectMeta {
    let since = Duration::from_millis(metadata.modified_ms.max(0).cast_unsigned());
    let last_modified = (UNIX_EPOCH + since).into();
    ObjectMeta { location, last_modified, size: metadata.size_bytes, e_tag: None, version: None }
}

fn read_only() -> Error {
    Error::NotSupported { source: "these files are only read here".into() }
}

impl fmt::Display for VfsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VfsStore({:?})", self.0)
    }
}

#[async_trait]
impl ObjectStore for VfsStore {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(read_only())
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(read_only())
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let meta = self.meta(location)?;
        options.check_preconditions(&meta)?;
        let bytes = self.0.read(&path_of(location)?).map_err(|error| named(location, error))?;
        let bytes = bytes::Bytes::from(bytes);
        let range = match options.range {
            None => 0..meta.size,
            Some(range) => range.as_range(meta.size).map_err(|error| named(location, io::Error::other(error)))?,
        };
        let part = bytes.slice(range.start as usize..range.end as usize);
        let payload = GetResultPayload::Stream(stream::iter([Ok(part)]).boxed());
        Ok(GetResult { payload, meta, range, attributes: Default::default() })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        locations.map(|_| Err(read_only())).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let mut found = Vec::new();
        match self.below(&prefix.cloned().unwrap_or_default(), &mut found) {
            Ok(()) => stream::iter(found.into_iter().map(Ok)).boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.children(&prefix.cloned().unwrap_or_default())
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(read_only())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::vfs::real::RealVfs;
    use futures::TryStreamExt;
    use object_store::local::LocalFileSystem;
    use object_store::{GetRange, ObjectStoreExt};

    /// What a store says of a folder: files below it and in it, folders in it, and contents.
    async fn told(store: &dyn ObjectStore, folder: &Path) -> Vec<String> {
        let shown =
            |meta: &ObjectMeta| format!("{} {} {}", meta.location, meta.size, meta.last_modified.timestamp_millis());
        let mut below: Vec<ObjectMeta> = store.list(Some(folder)).try_collect().await.expect("lists");
        below.sort_by(|a, b| a.location.cmp(&b.location));
        let mut told: Vec<String> = below.iter().map(shown).collect();
        let here = store.list_with_delimiter(Some(folder)).await.expect("lists");
        let mut inside: Vec<String> = here.objects.iter().map(shown).collect();
        inside.extend(here.common_prefixes.iter().map(ToString::to_string));
        inside.sort();
        told.extend(inside);
        if let Some(last) = below.get(1) {
            let mut behind: Vec<ObjectMeta> =
                store.list_with_offset(Some(folder), &last.location).try_collect().await.expect("lists");
            behind.sort_by(|a, b| a.location.cmp(&b.location));
            told.extend(behind.iter().map(shown));
        }
        for file in &below {
            told.push(shown(&store.head(&file.location).await.expect("is there")));
            for range in [None, Some(GetRange::Bounded(1..4)), Some(GetRange::Offset(2)), Some(GetRange::Suffix(3))] {
                let options = GetOptions { range, ..GetOptions::default() };
                told.push(match store.get_opts(&file.location, options).await {
                    Ok(found) => format!("{:?} {:?}", found.range.clone(), found.bytes().await.expect("reads")),
                    Err(_) => "refused".to_owned(),
                });
            }
        }
        told
    }

    #[tokio::test]
    async fn it_tells_what_the_local_store_tells() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        for (name, content) in [
            ("a/one", "content of one"),
            ("a/b/two", "2"),
            ("a/b/tw", ""),
            ("a/three#00000000000000000001", "being written"),
            ("a/day=2024-05-01/four.parquet", "four"),
            ("a b", "with a blank"),
        ] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("is made");
            std::fs::write(path, content).expect("is written");
        }
        let (ours, local) = (VfsStore::new(Arc::new(RealVfs)), LocalFileSystem::new());
        for name in ["", "a", "a/b", "a/day=2024-05-01", "nowhere"] {
            let folder = Path::from_absolute_path(root.join(name)).expect("a path");
            assert_eq!(told(&ours, &folder).await, told(&local, &folder).await, "{name}");
        }
        let missing = Path::from_absolute_path(root.join("a/none")).expect("a path");
        let folder = Path::from_absolute_path(root.join("a/b")).expect("a path");
        for location in [missing, folder] {
            let (found, expected) = (ours.head(&location).await, local.head(&location).await);
            assert!(matches!(found, Err(Error::NotFound { .. })), "{found:?}");
            assert!(expected.is_err());
        }
        let put = ours.put(&Path::from("x"), PutPayload::default()).await;
        assert!(matches!(put, Err(Error::NotSupported { .. })), "{put:?}");
    }
}
