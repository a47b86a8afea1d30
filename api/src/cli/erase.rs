//! `beluga erase`: users leave for good.

use super::Exit;
use super::output::{self, Output, Table};
use super::target::Target;
use crate::rest::v1::erasures::{ErasureAnswer, UserIds};
use std::path::PathBuf;

/// Erases users: they are in no answer from then on, what is sent of them is passed over, and their bytes leave the disk.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga erase u17 u18\n  beluga erase --file ids.txt          # an id a line; - is standard input\n  beluga erase                         # the erasures, and how far they are\n  beluga erase --admit u17             # let the id in again; what was erased stays so\n  beluga erase --again OLD/erased/00000000000000000042.erased --data DIR   # what a restored backup does not know\nA server removes bytes within its setting `erase_within_ms`; with --data DIR they are gone when the command ends."
)]
pub(super) struct Arguments {
    /// Ids of users
    ids: Vec<String>,
    /// A file of more, an id a line; `-` for standard input
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Let them in again instead
    #[arg(long, conflicts_with = "again")]
    admit: bool,
    /// After a restore: erase again whom this file of the newer directory's `erased` folder has
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ids", "file"])]
    again: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
    /// How to write the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let ids = ids(arguments)?;
    let erasures = arguments.target.erasures()?;
    if let Some(file) = &arguments.again {
        return tell(arguments, &erasures.erase_again(file)?);
    }
    if ids.all().is_empty() {
        if arguments.admit {
            return Err(Exit::Usage("--admit: name ids, or a --file of them".to_owned()));
        }
        let answers = erasures.list()?;
        let footer = output::counted(answers.len(), "erasure");
        return output::print(arguments.output, &answers, |answers| table(answers), &footer);
    }
    if arguments.admit {
        let admitted = erasures.admit(&ids)?;
        eprintln!("{admitted} of {} ids were erased, and are let in again", ids.all().len());
        return Ok(());
    }
    tell(arguments, &erasures.erase(&ids)?)
}

fn tell(arguments: &Arguments, answer: &ErasureAnswer) -> Result<(), Exit> {
    let footer = match &answer.clean_at {
        Some(_) => "gone from every file".to_owned(),
        None => format!("gone from every answer, and from every file by {}", answer.clean_by),
    };
    output::print(arguments.output, answer, |answer| table(std::slice::from_ref(answer)), &footer)
}

fn ids(arguments: &Arguments) -> Result<UserIds, Exit> {
    let mut ids = UserIds::default();
    arguments.ids.iter().try_for_each(|id| ids.push(id))?;
    let Some(file) = &arguments.file else { return Ok(ids) };
    let read =
        if file.as_os_str() == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    let text = read.map_err(|error| Exit::Usage(format!("{}: {error}", file.display())))?;
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|line| !line.is_empty());
    lines.into_iter().try_for_each(|id| ids.push(id))?;
    Ok(ids)
}

fn table(answers: &[ErasureAnswer]) -> Table {
    let row = |answer: &ErasureAnswer| {
        vec![
            answer.id.as_str().into(),
            answer.users.into(),
            answer.at.as_str().into(),
            answer.clean_by.as_str().into(),
            answer.clean_at.as_deref().into(),
        ]
    };
    Table { columns: vec!["erasure", "users", "at", "clean_by", "clean_at"], rows: answers.iter().map(row).collect() }
}
