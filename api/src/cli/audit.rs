//! `beluga audit`: whether an audit log is whole, and what it tells.

use super::Exit;
use super::output::grouped;
use super::target::refuse_missing;
use crate::audit::{FOLDER, Verified, verify};
use crate::error::{Failure, Kind};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

/// Verifies the audit log of a data directory, or shows its records; a server may run on it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Keep the last hash that `verify` prints elsewhere: with --has it tells later whether records were cut off since.\n  beluga audit verify --data ./beluga-data\n  beluga audit verify --data ./beluga-data --has 5f0c…\n  beluga audit show --data ./beluga-data | jq 'select(.outcome == \"refused\")'"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// The data directory
    #[arg(long, value_name = "DIR", global = true, default_value = "./beluga-data")]
    data: PathBuf,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Tell whether all records are there as they were written
    Verify {
        /// A hash that was printed before, of a record that must still be there
        #[arg(long, value_name = "HASH")]
        has: Option<String>,
    },
    /// Print the records, a line of JSON each, oldest first
    Show,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    refuse_missing(&arguments.data)?;
    let folder = arguments.data.join(FOLDER);
    if !folder.exists() {
        let failure = Failure::new(Kind::LocalFile, format!("{}: there is no audit log", folder.display()));
        return Err(failure.suggest("`beluga serve` writes one unless `audit` is off").into());
    }
    match &arguments.action {
        Action::Verify { has } => {
            let verified = verify(&folder, has.as_deref(), |_| {})?;
            tell(arguments, &verified)
        }
        Action::Show => {
            let mut out = BufWriter::new(std::io::stdout().lock());
            let mut written = Ok(());
            verify(&folder, None, |record| {
                if written.is_ok() {
                    let line = serde_json::to_writer(&mut out, record).map_err(std::io::Error::from);
                    written = line.and_then(|()| out.write_all(b"\n"));
                }
            })?;
            written?;
            Ok(out.flush()?)
        }
    }
}

fn tell(arguments: &Arguments, verified: &Verified) -> Result<(), Exit> {
    let Verified { files, records, removed, head, has_known, is_torn } = verified;
    println!(
        "{}: {} records in {} files{}{}",
        arguments.data.join(FOLDER).display(),
        grouped(*records),
        grouped(*files),
        if *removed > 0 { format!(", {} older ones were removed", grouped(*removed)) } else { String::new() },
        if *is_torn { ", and one that is not whole yet at the end" } else { "" }
    );
    println!("last hash: {head}");
    if *has_known {
        return Ok(());
    }
    let failure =
        Failure::new(Kind::Corrupt, "the record of the hash in --has is not there: the end of the log was cut off");
    Err(failure.suggest("compare with a backup of the folder `audit`").into())
}
