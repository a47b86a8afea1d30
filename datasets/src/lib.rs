//! Data sets to try, prove and measure Beluga with: a generated ad population, and readers of public ones.
//!
//! Every data set gives a catalog and users; [`DataSet`] is the list of them, [`load`] opens a public one.
//! No data is committed here: the head of each module says where its publisher offers the file.

pub mod population;
pub mod questions;
pub mod user;

pub use questions::{Question, sample_questions};
pub use user::{User, Value};

use engine::catalog::{Catalog, TagType};
use std::path::{Path, PathBuf};

/// The data sets by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the data sets' own")]
pub enum DataSet {
    /// Generated; see [`population`].
    Population,
    OnlineRetail,
    UciAdult,
    UciBank,
    CompleteJourney,
    Msweb,
}

impl DataSet {
    /// All of them.
    pub const ALL: [DataSet; 6] = [
        DataSet::Population,
        DataSet::OnlineRetail,
        DataSet::UciAdult,
        DataSet::UciBank,
        DataSet::CompleteJourney,
        DataSet::Msweb,
    ];

    /// The name on the command line: `online-retail`.
    pub fn name(self) -> &'static str {
        match self {
            DataSet::Population => "population",
            DataSet::OnlineRetail => "online-retail",
            DataSet::UciAdult => "uci-adult",
            DataSet::UciBank => "uci-bank",
            DataSet::CompleteJourney => "complete-journey",
            DataSet::Msweb => "msweb",
        }
    }

    /// The data set of this name.
    pub fn by_name(name: &str) -> Option<DataSet> {
        DataSet::ALL.into_iter().find(|set| set.name() == name)
    }

    /// Its tags, in the order of [`User::values`].
    pub fn tags(self) -> &'static [(&'static str, TagType)] {
        todo!()
    }

    /// Its tags as a new catalog.
    pub fn catalog(self) -> Catalog {
        let mut catalog = Catalog::default();
        for (name, tag_type) in self.tags() {
            catalog.declare(name, *tag_type).expect("tag lists are checked by a test");
        }
        catalog
    }

    /// Its tags as the text of a `catalog.yaml`.
    pub fn catalog_yaml(self) -> String {
        todo!()
    }
}

/// A public data set, read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Which one.
    pub data_set: DataSet,
    /// Its users.
    pub users: Vec<User>,
    /// Records that belong to no user or were unusable: a reason and how many.
    pub skipped: Vec<(&'static str, u64)>,
}

/// Why a public file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct LoadError {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong, and where to get the file.
    pub what: String,
}

/// Reads a public data set from its file, or from a folder that holds it (as published, gzipped or zipped).
///
/// # Errors
/// [`LoadError`] if the file is absent or not what its publisher offers.
pub fn load(data_set: DataSet, path: &Path) -> Result<Loaded, LoadError> {
    let _ = (data_set, path);
    todo!()
}

/// The folder with the public data sets: the environment's `BELUGA_DATA`, or `../shared/data` beside the
/// workspace's root; `None` if there is none.
pub fn data_folder() -> Option<PathBuf> {
    todo!()
}
