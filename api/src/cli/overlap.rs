//! `beluga overlap NAME=EXPR…`.

use super::Exit;
use super::output::{self, Cell, Output, Table};
use super::target::{Target, about, named_expression};
use crate::error::escape_pointer;
use crate::rest::v1::overlap::{Named, OverlapAnswer, OverlapRequest, RegionAnswer};

/// Compares audiences pair by pair, or in every choice of a few.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga overlap \"women=gender = 'f'\" \"yoga=interest = 'yoga'\"\n  beluga overlap --regions \"women=gender = 'f'\" \"yoga=interest = 'yoga'\" \"young=age < 30\""
)]
pub(super) struct Arguments {
    /// A name and an expression for each audience
    #[arg(value_name = "NAME=EXPR", required = true)]
    audiences: Vec<String>,
    /// Tell the regions of a Venn diagram instead: who is in some of them and in no other; of at most 6
    #[arg(long)]
    regions: bool,
    #[command(flatten)]
    target: Target,
    /// How to write the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let mut named = Vec::new();
    for argument in &arguments.audiences {
        named.push(named_expression(argument)?);
    }
    let audiences = Named(named.iter().map(|(name, (_, r#where))| (name.clone(), r#where.clone())).collect());
    let result =
        arguments.target.asker()?.overlap(&OverlapRequest { audiences, regions: arguments.regions, timeout_ms: None });
    let answer = match result {
        Ok(answer) => answer,
        Err(failure) => {
            let meant =
                |name: &str| failure.pointer.as_deref() == Some(&*format!("/audiences/{}", escape_pointer(name)));
            let text = named.iter().find(|(name, _)| meant(name)).map(|(_, (text, _))| text.clone());
            about(&text.unwrap_or_default(), Err(failure))?
        }
    };
    let footer = format!("epoch {}, {}", answer.epoch, output::duration(answer.elapsed_us));
    let table = |answer: &OverlapAnswer| match &answer.regions {
        Some(regions) => region_table(regions, answer.below),
        None => table(answer),
    };
    output::print(arguments.output, &answer, table, &footer)
}

fn region_table(regions: &[RegionAnswer], below: Option<u64>) -> Table {
    let row = |region: &RegionAnswer| vec![Cell::Text(region.r#in.join(", ")), Cell::of_number(region.count, below)];
    Table { columns: vec!["only_in", "users"], rows: regions.iter().map(row).collect() }
}

fn table(answer: &OverlapAnswer) -> Table {
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for (i, a) in answer.audiences.iter().enumerate() {
        for (j, b) in answer.audiences.iter().enumerate().skip(i) {
            let (count, jaccard) = (answer.counts[i][j], answer.jaccard[i][j]);
            let (count, jaccard) = (Cell::of_number(count, answer.below), jaccard.map_or(Cell::Empty, Cell::from));
            rows.push(vec![a.as_str().into(), b.as_str().into(), count, jaccard]);
        }
    }
    Table { columns: vec!["a", "b", "users_in_both", "jaccard"], rows }
}
