use super::super::recovery::Record;
use super::super::wal::Kind;
use super::*;
use crate::vfs::memory::MemoryVfs;

fn manifest() -> Manifest {
    let mut catalog = Catalog::default();
    catalog.declare("gender", TagType::Enum).expect("a good name");
    catalog.declare_source("clicks", "{}".to_owned()).expect("a good name");
    catalog.declare_sink("out", "{}".to_owned()).expect("a good name");
    let shards = vec![
        ShardFiles { slot_count: 7, segments: vec![(FileId(3), 99)], ..ShardFiles::default() },
        ShardFiles::default(),
    ];
    Manifest { epoch: 4, position: 5, next_file: 6, catalog: Arc::new(catalog), shards, ..Manifest::default() }
}

fn with_spaces() -> Manifest {
    let mut manifest = manifest();
    let catalog = Arc::make_mut(&mut manifest.catalog);
    catalog.declare_space("taste", 64, Metric::Cosine).expect("a good name");
    catalog.declare_space("words", 4096, Metric::L2).expect("a good name");
    manifest
}

/// What reading a file of these bytes and this version gives.
fn read_bytes(bytes: &[u8], version: u32) -> Result<Manifest, ReadError> {
    let vfs = MemoryVfs::default();
    let at = Path::new("/data/00000000000000000001.manifest");
    vfs.create_folder(Path::new("/data")).expect("a folder");
    let mut writer = SealedWriter::new(vfs.create(at).expect("a file"), KIND, version);
    writer.append(bytes).expect("written");
    writer.finish().expect("synced");
    read_from(&vfs, at)
}

#[test]
fn what_was_written_is_read() {
    let with_erasures = Manifest { erasures: Some(FileId(12)), ..with_spaces() };
    for manifest in [manifest(), with_spaces(), with_erasures] {
        assert_eq!(read_bytes(&manifest.encode(), VERSION).expect("good"), manifest);
    }
}

#[test]
fn one_of_before_there_were_spaces_is_read() {
    let now = manifest().encode();
    // No erasures.
    let bytes = &now[..now.len() - 8];
    let (before, count) = bytes.split_at(bytes.len() - 4);
    assert_eq!((count, &now[bytes.len()..]), (&[0; 4][..], &[0; 8][..]));
    assert_eq!(read_bytes(before, 4).expect("good"), manifest());
    let error = read_bytes(before, 3).expect_err("too old");
    assert!(error.to_string().contains("format version 3, this program reads 4 to 8"), "{error}");
    for version in 5..=7 {
        assert_eq!(read_bytes(bytes, version).expect("good"), manifest());
    }
    assert!(read_bytes(&now, 9).is_err());
}

#[test]
fn a_catalog_of_the_log_may_have_spaces_or_be_of_before() {
    let catalog = with_spaces().catalog;
    let mut bytes = Encoder::default();
    encode_catalog(&catalog, &mut bytes);
    let without = Catalog::clone(&catalog).with_spaces([]);
    let read = |bytes: &[u8]| match Record::decode(Kind::Catalog, bytes) {
        Some(Record::Catalog(catalog)) => Some(catalog),
        _ => None,
    };
    assert_eq!(read(&bytes.0), Some(without));
    encode_spaces(&catalog, &mut bytes);
    assert_eq!(read(&bytes.0).as_ref(), Some(&*catalog));
    assert_eq!(read(&bytes.0[..bytes.0.len() - 1]), None);
    bytes.0.push(0);
    assert_eq!(read(&bytes.0), None);
}

#[test]
fn spaces_that_cannot_be_are_refused() {
    let good = with_spaces().encode();
    // The last space comes before the file of erasures: name, id, dimension, metric.
    let end = good.len() - 8;
    let (metric, dimension, id) = (end - 1, end - 3, end - 7);
    for (at, bytes) in [(metric, &[3][..]), (dimension, &[1, 0]), (dimension, &[1, 16]), (id, &[0; 4]), (id, &[255; 4])]
    {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        assert!(read_bytes(&bad, VERSION).is_err(), "{bytes:?} at {at}");
    }
}
