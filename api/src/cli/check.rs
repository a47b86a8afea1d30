//! `beluga check --data DIR`.

use super::Exit;
use super::output::grouped;
use super::target::refuse_missing;
use crate::access::Access;
use crate::audit::{FOLDER, verify};
use crate::error::{Failure, Kind};
use engine::store::{self, CheckReport};
use engine::vfs::Vfs;
use engine::vfs::real::RealVfs;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{ErrorKind, IsTerminal};
use std::path::PathBuf;

/// Verifies every checksum and invariant of a data directory that no server has open.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Ends with 0 if all is sound, 1 if anything is wrong; changes nothing.\n\nExample:\n  beluga check --data ./beluga-data"
)]
pub(super) struct Arguments {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let data = &arguments.data;
    refuse_missing(data)?;
    let _lock = match RealVfs.lock(&data.join("LOCK")) {
        Ok(lock) => Some(lock),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            let failure = Failure::new(Kind::InUse, format!("{}: in use by another process", data.display()));
            return Err(failure.suggest("stop the server, then check").into());
        }
        // A directory that cannot be written to, such as a mounted backup, has no writer to keep away.
        Err(_) => None,
    };
    let bar = ProgressBar::hidden();
    if std::io::stderr().is_terminal() {
        bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        bar.set_style(
            ProgressStyle::with_template("{spinner} {bytes} read, {bytes_per_sec}").expect("a valid template"),
        );
    }
    let mut report = store::check(&RealVfs, data, |bytes| bar.inc(bytes));
    let access = Access::default().open(data).err();
    let audit = data.join(FOLDER);
    let audit = audit.exists().then(|| verify(&audit, None, |_| {}).err()).flatten();
    report.problems.extend(access.into_iter().chain(audit).map(|failure| failure.detail));
    bar.finish_and_clear();
    tell(arguments, &report)
}

fn tell(arguments: &Arguments, report: &CheckReport) -> Result<(), Exit> {
    println!(
        "{}: {} files, {} bytes, {} users, {} log records behind the newest checkpoint",
        arguments.data.display(),
        grouped(report.files),
        grouped(report.bytes),
        grouped(report.users),
        grouped(report.log_records)
    );
    if report.problems.is_empty() {
        println!("sound");
        return Ok(());
    }
    for problem in &report.problems {
        eprintln!("- {problem}");
    }
    let failure = Failure::new(Kind::Corrupt, format!("{} things are wrong", report.problems.len()));
    Err(failure.suggest("restore the named files from a backup").into())
}
