//! Data sets to try, prove and measure Beluga with: a generated ad population, and readers of public ones.
//!
//! Every data set gives tags and users; [`DataSet`] is the list of them, [`load`] opens a public one. No data is committed
//! here: the head of each module says where its publisher offers the file.

pub mod complete_journey;
pub mod msweb;
pub mod online_retail;
pub mod population;
pub mod questions;
pub mod roaring_sets;
pub mod uci_adult;
pub mod uci_bank;
pub mod user;

mod random;
mod source;

pub use population::Population;
pub use questions::{LikenessQuestion, Question, event_questions, likeness_question, sample_questions};
pub use roaring_sets::{ROARING_SETS, load_roaring_sets};
pub use user::{BatchFiller, User, Value, write_ndjson_line};

use engine::catalog::{Catalog, Fact, TagType, Unit};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The name of the fact of those data sets that have events.
pub const PURCHASE: &str = "purchase";

/// The data sets by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataSet {
    /// Generated; see [`population`].
    Population,
    /// See [`online_retail`].
    OnlineRetail,
    /// See [`uci_adult`].
    UciAdult,
    /// See [`uci_bank`].
    UciBank,
    /// See [`complete_journey`].
    CompleteJourney,
    /// See [`msweb`].
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

    /// The name on the command line: `online-retail`. Also the name of its folder in [`data_folder`].
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
        match self {
            DataSet::Population => &population::TAGS,
            DataSet::OnlineRetail => &online_retail::TAGS,
            DataSet::UciAdult => &uci_adult::TAGS,
            DataSet::UciBank => &uci_bank::TAGS,
            DataSet::CompleteJourney => &complete_journey::TAGS,
            DataSet::Msweb => &msweb::TAGS,
        }
    }

    /// The fact [`PURCHASE`], if it has events.
    fn fact(self) -> Option<Fact> {
        match self {
            DataSet::Population => Some(population::purchases::fact()),
            DataSet::OnlineRetail => Some(online_retail::fact()),
            _ => None,
        }
    }

    /// Its tags and its fact as a new catalog.
    pub fn catalog(self) -> Catalog {
        let mut catalog = Catalog::default();
        for (name, tag_type) in self.tags() {
            catalog.declare(name, *tag_type).expect("a test declares every list");
        }
        if let Some(fact) = self.fact() {
            catalog.declare_fact(PURCHASE, fact).expect("a test declares every list");
        }
        catalog
    }

    /// Its tags as the text of a `catalog.yaml`.
    pub fn catalog_yaml(self) -> String {
        let width = self.tags().iter().map(|tag| tag.0.len()).max().unwrap_or(0) + 1;
        let mut text = String::from("tags:\n");
        for (name, tag_type) in self.tags() {
            let declared = match tag_type {
                TagType::Set => "{ type: set }".to_owned(),
                TagType::Enum => "{ type: enum }".to_owned(),
                TagType::Flag => "{ type: flag }".to_owned(),
                TagType::Number(Unit::Integer) => "{ type: number }".to_owned(),
                TagType::Number(Unit::Decimal { scale }) => format!("{{ type: number, scale: {scale} }}"),
                TagType::Number(Unit::Timestamp) => "{ type: number, unit: timestamp }".to_owned(),
            };
            writeln!(text, "  {:width$} {declared}", format!("{name}:")).expect("writing to a string does not fail");
        }
        text
    }
}

/// A public data set, read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Which one.
    pub data_set: DataSet,
    /// Its users.
    pub users: Vec<User>,
    /// Its events in order of time, as lines of `POST /v1/facts/purchase`.
    pub events: Vec<String>,
    /// Records that belong to no user: what they are and how many.
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
/// [`LoadError`] if the file is absent or not what its publisher offers; also for the generated population, which has
/// no file.
pub fn load(data_set: DataSet, path: &Path) -> Result<Loaded, LoadError> {
    match data_set {
        DataSet::Population => Err(LoadError {
            path: path.to_owned(),
            what: "the population is generated, not read from a file".to_owned(),
        }),
        DataSet::OnlineRetail => online_retail::load(path),
        DataSet::UciAdult => uci_adult::load(path),
        DataSet::UciBank => uci_bank::load(path),
        DataSet::CompleteJourney => complete_journey::load(path),
        DataSet::Msweb => msweb::load(path),
    }
}

/// The folder with the public data sets, one folder each (`online-retail`, `uci-adult`, …, `roaring-realdata`): the
/// environment's `BELUGA_DATASETS`, or `../shared/data` beside the folder of the workspace; `None` if there is none.
pub fn data_folder() -> Option<PathBuf> {
    let beside_workspace = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let folder = std::env::var_os("BELUGA_DATASETS").map_or_else(beside_workspace, PathBuf::from);
    folder.is_dir().then_some(folder)
}

/// For tests and benchmarks on public data: a file or folder below [`data_folder`]. Without it, says on standard error
/// what is skipped and how to get it.
///
/// # Panics
/// If the environment says `CI` and the data is not there: there the tests must run.
pub fn public_data(name: &str) -> Option<PathBuf> {
    let path = data_folder().map(|folder| folder.join(name)).filter(|path| path.exists());
    if path.is_none() {
        let what = format!(
            "skipped: no {name} in $BELUGA_DATASETS or ../shared/data; the modules of the package `datasets` say where to get it"
        );
        assert!(std::env::var_os("CI").is_none(), "{what}");
        eprintln!("{what}");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for set in DataSet::ALL {
            assert_eq!(DataSet::by_name(set.name()), Some(set));
            assert_eq!(set.catalog().tags().len(), set.tags().len());
        }
    }

    #[test]
    fn catalogs_are_printed() {
        assert_eq!(DataSet::Msweb.catalog_yaml(), "tags:\n  area:   { type: set }\n  visits: { type: number }\n");
        assert!(DataSet::Population.catalog_yaml().contains("  spend:          { type: number, scale: 2 }\n"));
    }
}
