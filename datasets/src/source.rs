//! Finding a public file where a user put it, and opening it as it was published: plain, gzipped, in a zip, or in a zip
//! inside a zip, as some publishers offer it.

use crate::LoadError;
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

/// The largest member of a zip that is unpacked into memory; the largest published one has 24 MB.
const MEMBER_BYTES_MAX: u64 = 512 << 20;

/// A file that was found.
pub(crate) struct Found {
    /// Where, for messages.
    pub(crate) path: PathBuf,
    pub(crate) content: Content,
}

/// What a file holds, by its first bytes.
pub(crate) enum Content {
    /// Text, unpacked.
    Text(Box<dyn BufRead>),
    /// An Excel workbook.
    Workbook(Vec<u8>),
}

impl Found {
    /// The text, for data sets that are never workbooks.
    pub(crate) fn text(self) -> Result<Box<dyn BufRead>, LoadError> {
        match self.content {
            Content::Text(text) => Ok(text),
            Content::Workbook(_) => {
                Err(LoadError { path: self.path, what: "is an Excel workbook, not text".to_owned() })
            }
        }
    }
}

/// Opens the first of `names` that is at `path`: the file itself whatever its name, a zip that holds it, or a folder that
/// holds it (plain, `.gz`, or in a zip). `publisher` says where to get it.
pub(crate) fn open(path: &Path, names: &[&str], publisher: &str) -> Result<Found, LoadError> {
    let fail = |path: &Path, what: String| LoadError { path: path.to_owned(), what };
    if !path.is_dir() {
        let found = open_file(path, names).map_err(|error| fail(path, format!("{error}; get it from {publisher}")))?;
        return found.ok_or_else(|| fail(path, format!("holds no {}; get it from {publisher}", names.join(" or "))));
    }
    for name in names {
        for candidate in [path.join(name), path.join(format!("{name}.gz"))] {
            if candidate.is_file() {
                let found = open_file(&candidate, names).map_err(|error| fail(&candidate, error.to_string()))?;
                if let Some(found) = found {
                    return Ok(found);
                }
            }
        }
    }
    for archive in zips_in(path).map_err(|error| fail(path, error.to_string()))? {
        if let Some(found) = open_file(&archive, names).map_err(|error| fail(&archive, error.to_string()))? {
            return Ok(found);
        }
    }
    Err(fail(path, format!("holds no {} (plain, .gz or in a .zip); get it from {publisher}", names.join(" or "))))
}

fn zips_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut zips = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "zip") {
            zips.push(path);
        }
    }
    zips.sort();
    Ok(zips)
}

fn open_file(path: &Path, names: &[&str]) -> io::Result<Option<Found>> {
    let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
    let content = match file.fill_buf()? {
        [0x1f, 0x8b, ..] => Some(Content::Text(Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(file))))),
        [b'P', b'K', 3, 4, ..] => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            in_zip(bytes, names, true)?
        }
        _ => Some(Content::Text(Box::new(file))),
    };
    Ok(content.map(|content| Found { path: path.to_owned(), content }))
}

/// The first of `names` in a zip; a workbook is itself a zip.
fn in_zip(bytes: Vec<u8>, names: &[&str], look_deeper: bool) -> io::Result<Option<Content>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(&bytes)).map_err(io::Error::other)?;
    let members: Vec<String> = archive.file_names().map(str::to_owned).collect();
    if members.iter().any(|member| member == "xl/workbook.xml") {
        return Ok(Some(Content::Workbook(bytes)));
    }
    let base = |member: &str| member.rsplit('/').next().unwrap_or(member).to_owned();
    for name in names {
        if let Some(member) = members.iter().find(|member| base(member) == *name) {
            let unpacked = unpack(&mut archive, member)?;
            return Ok(Some(match unpacked.get(..4) {
                Some([b'P', b'K', 3, 4]) => Content::Workbook(unpacked),
                _ => Content::Text(Box::new(Cursor::new(unpacked))),
            }));
        }
    }
    if !look_deeper {
        return Ok(None);
    }
    for member in members.iter().filter(|member| member.ends_with(".zip")) {
        if let Some(found) = in_zip(unpack(&mut archive, member)?, names, false)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn unpack(archive: &mut zip::ZipArchive<Cursor<&Vec<u8>>>, member: &str) -> io::Result<Vec<u8>> {
    let member = archive.by_name(member).map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    if member.take(MEMBER_BYTES_MAX + 1).read_to_end(&mut bytes)? as u64 > MEMBER_BYTES_MAX {
        return Err(io::Error::other(format!("a member of the zip has more than {MEMBER_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in members {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).expect("started");
            writer.write_all(bytes).expect("written");
        }
        writer.finish().expect("finished").into_inner()
    }

    fn read(path: &Path) -> Result<String, LoadError> {
        let mut text = String::new();
        open(path, &["a.data"], "example.org")?.text()?.read_to_string(&mut text).expect("text");
        Ok(text)
    }

    #[test]
    fn opens_every_published_form() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        assert!(read(folder.path()).expect_err("nothing there").to_string().contains("get it from example.org"));
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(b"content").expect("packed");
        std::fs::write(at("any.gz"), gz.finish().expect("packed")).expect("written");
        std::fs::write(at("plain.txt"), "content").expect("written");
        let inner = zip_of(&[("folder/a.data", b"content")]);
        std::fs::write(at("inner.zip"), &inner).expect("written");
        std::fs::write(at("outer.zip"), zip_of(&[("x", b"1"), ("inner.zip", &inner)])).expect("written");
        for name in ["any.gz", "plain.txt", "inner.zip", "outer.zip", ""] {
            assert_eq!(read(&at(name)).expect(name), "content");
        }
        std::fs::write(at("other.zip"), zip_of(&[("x", b"1")])).expect("written");
        assert!(read(&at("other.zip")).is_err());
    }
}
