//! Rules of the house that a compiler does not know: who may use whom, what the engine must not know, and links that
//! lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Package, and the packages of ours it may use.
const MAY_USE: [(&str, &[&str]); 6] = [
    ("engine", &[]),
    ("engine-sql", &["engine"]),
    ("datasets", &["engine"]),
    ("ingest", &["engine"]),
    ("api", &["engine", "engine-sql", "ingest", "datasets"]),
    ("benches", &["engine", "engine-sql", "datasets", "ingest"]),
];

/// What the engine must not know, by the crate that would bring it.
const NOT_IN_ENGINE: [&str; 8] = ["tokio", "datafusion", "arrow", "parquet", "axum", "reqwest", "serde_json", "jiff"];

/// Inside the engine: a module, and the modules it must not know.
const NOT_IN_MODULE: [(&str, &[&str]); 5] = [
    ("bitmap", &["segment", "store", "audience", "catalog", "vfs"]),
    ("lookalike", &["segment", "store", "audience", "catalog", "vfs"]),
    ("vfs", &["bitmap", "segment", "store", "audience", "catalog"]),
    ("segment", &["store", "audience"]),
    ("dictionary", &["segment", "store", "audience", "bitmap"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names in the `[dependencies]` table of a manifest.
fn dependencies(package: &str) -> BTreeSet<String> {
    let folder = if package == "engine-sql" { "engine/sql" } else { package };
    let manifest = read(&root().join(folder).join("Cargo.toml"));
    let table = manifest.lines().skip_while(|line| line.trim() != "[dependencies]").skip(1);
    let entries = table.take_while(|line| !line.starts_with('['));
    entries
        .filter_map(|line| line.split(['.', '=', ' ']).next())
        .map(str::to_owned)
        .filter(|name| !name.is_empty())
        .collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("folder entry").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn packages_use_only_whom_they_may() {
    let ours: BTreeSet<String> = MAY_USE.iter().map(|(package, _)| (*package).to_owned()).collect();
    for (package, allowed) in MAY_USE {
        for used in dependencies(package).intersection(&ours) {
            assert!(allowed.contains(&used.as_str()), "{package} must not use {used}; see ARCHITECTURE.md");
        }
    }
    let known = dependencies("engine");
    assert!(known.contains("roaring"), "the manifest was not understood: {known:?}");
    for name in NOT_IN_ENGINE {
        assert!(!known.contains(name), "engine must not know {name}; see ARCHITECTURE.md");
    }
}

#[test]
fn modules_of_the_engine_know_only_what_they_may() {
    for (module, forbidden) in NOT_IN_MODULE {
        for file in rust_files(&root().join("engine/src").join(module)) {
            let text = read(&file);
            for other in forbidden {
                assert!(!text.contains(&format!("crate::{other}::")), "{} must not use {other}", file.display());
            }
        }
    }
    // Tests beside the code may look at the environment and read published test vectors.
    let is_test = |file: &Path| file.file_name().is_some_and(|name| name == "vectors.rs");
    for file in rust_files(&root().join("engine/src")).into_iter().filter(|file| !is_test(file)) {
        let text = read(&file);
        for clock in ["SystemTime::now", "Instant::now", "std::env::"] {
            assert!(!text.contains(clock), "{}: the engine has no clock and no environment: {clock}", file.display());
        }
        let touches_files = text.contains("std::fs") && !file.components().any(|part| part.as_os_str() == "vfs");
        assert!(!touches_files, "{}: only vfs touches files", file.display());
    }
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let guides = [
        "docs/bitmaps.md",
        "docs/language.md",
        "docs/live.md",
        "docs/load.md",
        "docs/lookalike.md",
        "docs/operate.md",
        "docs/spaces.md",
        "docs/sql.md",
        "docs/streams.md",
        "docs/vectors-from-behaviour.md",
    ];
    let others = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md", "benches/README.md"];
    for document in others.into_iter().chain(guides) {
        let path = root().join(document);
        let folder = path.parent().expect("a document stands in a folder");
        let text = read(&path);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") {
                assert!(folder.join(target).exists(), "{document}: {link} leads nowhere");
            }
        }
    }
}
