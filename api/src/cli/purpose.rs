//! `beluga purpose`: what users agreed to.

use super::Exit;
use super::output::{self, Output, Table};
use super::target::Target;
use crate::rest::v1::expression::Where;
use crate::rest::v1::purposes::{PurposeAnswer, PurposeRequest};

/// Makes, lists and removes the purposes of a server.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Who asks for a purpose sees the users who agreed to it, and nobody else:\n  beluga purpose set ads --where ads_consent\n  beluga token create ads.reports --scope query --purpose ads\n  beluga tenant set acme --where \"advertiser = 'acme'\" --purpose ads"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    target: Target,
    /// How to write the answer
    #[arg(long, short, value_enum, default_value_t, global = true)]
    output: Output,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// All purposes; what is shown when nothing else is asked for
    List,
    /// Make a purpose, or say anew who agreed
    Set {
        /// What to call it
        name: String,
        /// The users who agreed
        #[arg(long, value_name = "EXPR")]
        r#where: String,
        /// For people
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Remove a purpose that no token and no tenant has any more
    Remove {
        /// The purpose
        name: String,
    },
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let server = arguments.target.server("purposes")?;
    match arguments.action.as_ref().unwrap_or(&Action::List) {
        Action::List => {
            let answers = server.purposes()?;
            let footer = output::counted(answers.len(), "purpose");
            output::print(arguments.output, &answers, |answers| table(answers), &footer)
        }
        Action::Set { name, r#where, description } => {
            let request = PurposeRequest { r#where: Where::from(r#where.as_str()), description: description.clone() };
            let answer = server.put_purpose(name, &request)?;
            output::print(arguments.output, &[answer], |answers| table(answers), "")
        }
        Action::Remove { name } => {
            server.delete_purpose(name)?;
            eprintln!("{name}: removed");
            Ok(())
        }
    }
}

fn table(answers: &[PurposeAnswer]) -> Table {
    let row = |answer: &PurposeAnswer| {
        let PurposeAnswer { name, r#where, description, changed_at, .. } = answer;
        [name, r#where, description, changed_at].map(|text| text.as_str().into()).to_vec()
    };
    Table { columns: vec!["purpose", "where", "description", "changed_at"], rows: answers.iter().map(row).collect() }
}
