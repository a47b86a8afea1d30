//! `beluga demo`: the whole job on example data.
use super::Exit;
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}
pub(super) fn run(_: &Arguments) -> Result<(), Exit> {
    Ok(())
}
