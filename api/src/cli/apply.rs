//! `beluga apply -f catalog.yaml`.

use super::Exit;
use super::target::Target;
use crate::error::{Failure, Kind};
use crate::rest::v1::catalog::{CatalogDocument, ChangeKind, PutParameters};
use engine::audience::suggest::closest;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// Brings the catalog to what a file says: shows the difference, refuses unsafe changes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example of a file:\n  tags:\n    gender:    { type: enum }\n    age:       { type: number }              # decimal: { type: number, scale: 2 }; time: { type: number, unit: timestamp }\n    interest:  { type: set }\n    is_member: { type: flag }\n  facts:\n    purchase:\n      columns: { category: string, amount: { decimal: [12, 2] } }   # also integer, float, boolean, timestamp, json\n      activity: { dimensions: [category], measures: [amount] }\n      retention: 400 days\n      time_zone: Asia/Shanghai\n  sources:\n    purchases: { kafka: { brokers: \"127.0.0.1:9092\", topic: purchases }, into: purchase }\n  sinks:\n    crm: { webhook: { url: \"https://crm.example/hook\" }, audiences: all }\n\nExamples:\n  beluga apply -f catalog.yaml --dry-run\n  beluga apply -f catalog.yaml\n  beluga apply -f catalog.yaml --data ./beluga-data     # makes the directory if there is none"
)]
pub(super) struct Arguments {
    /// The catalog, YAML or JSON; `-` reads standard input
    #[arg(long, short, value_name = "FILE")]
    file: PathBuf,
    /// Only show the difference
    #[arg(long)]
    dry_run: bool,
    /// Drop tags, facts, sources and sinks that the file does not have, with all their data
    #[arg(long)]
    allow_drop: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let document: CatalogDocument = read_yaml(&arguments.file)?;
    let parameters = PutParameters { dry_run: arguments.dry_run, allow_drop: arguments.allow_drop };
    let answer = arguments.target.asker_or_new()?.put_catalog(&document, parameters)?;
    for change in &answer.changes {
        let sign = match change.change {
            ChangeKind::Add => '+',
            ChangeKind::Alter => '~',
            ChangeKind::Drop => '-',
        };
        let name = |prefix: &str, name: &Option<String>| name.as_ref().map(|name| format!("{prefix}{name}"));
        let what = name("fact ", &change.fact).or_else(|| name("source ", &change.source));
        let what = what.or_else(|| name("space ", &change.space)).or_else(|| name("sink ", &change.sink));
        println!("{sign} {}: {}", what.or_else(|| name("", &change.tag)).unwrap_or_default(), change.r#type);
    }
    let counts = [
        (answer.tags.len(), "tags"),
        (answer.facts.len(), "facts"),
        (answer.sources.len(), "sources"),
        (answer.sinks.len(), "sinks"),
    ];
    let there_are: Vec<String> = counts
        .into_iter()
        .filter(|(count, what)| *count > 0 || *what == "tags")
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let there_are = there_are.join(", ");
    match (answer.changes.len(), answer.applied) {
        (0, _) => eprintln!("the catalog is so already: {there_are}"),
        (count, true) => eprintln!("{count} changes made; {there_are}"),
        (count, false) => eprintln!("{count} changes; a dry run, nothing was changed"),
    }
    Ok(())
}

/// Reads a file of this command line's own: YAML, of which JSON is a part.
///
/// # Errors
/// [`Exit`] that names the file, the place and a suggestion.
pub(super) fn read_yaml<T: DeserializeOwned>(path: &Path) -> Result<T, Exit> {
    let text =
        if path == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let text = text.map_err(|error| Failure::new(Kind::LocalFile, format!("{}: read: {error}", path.display())))?;
    let deserializer = serde_yaml_ng::Deserializer::from_str(&text);
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        // The error's own text begins with the path to the field.
        let inner = error.inner().to_string();
        let at = error.path().to_string();
        let place = if at == "." || inner.starts_with(&at) { String::new() } else { format!("{at}: ") };
        let failure = Failure::new(Kind::InvalidCatalog, format!("{}: {place}{inner}", path.display()));
        let mut quoted = inner.split('`').skip(1).step_by(2);
        let meant = quoted.next().filter(|_| inner.contains("unknown ")).and_then(|written| closest(written, quoted));
        match meant {
            Some(name) => failure.suggest(format!("did you mean `{name}`?")).into(),
            None => failure.into(),
        }
    })
}
