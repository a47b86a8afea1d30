//! `beluga tenant`: who shares a server.

use super::Exit;
use super::output::{self, Output, Table};
use super::target::Target;
use crate::access::tenants::{Limits, Owned};
use crate::privacy::{Epsilon, Privacy};
use crate::rest::v1::expression::Where;
use crate::rest::v1::tenants::{TenantAnswer, TenantRequest};
use std::num::NonZeroU32;

/// Makes, lists and removes the tenants of a server.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A tenant's tokens see the users of its filter, the shared catalog and what is its own:\n  beluga tenant set acme --where \"advertiser = 'acme'\" --own-tags acme_value\n  beluga tenant set acme --where \"advertiser = 'acme'\" --min-users 100 --noise 0.1 --answers 1000\n  beluga token create acme.reports --tenant acme --scope query"
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
    /// All tenants; what is shown when nothing else is asked for
    List,
    /// Make a tenant, or say anew what it is
    Set {
        /// What to call it
        name: String,
        /// The users that it sees; TRUE for everybody
        #[arg(long, value_name = "EXPR")]
        r#where: String,
        /// Tags that only it sees, and it alone writes to
        #[arg(long, value_name = "TAG", value_delimiter = ',')]
        own_tags: Vec<String>,
        /// The same of facts
        #[arg(long, value_name = "FACT", value_delimiter = ',')]
        own_facts: Vec<String>,
        /// The same of vector spaces
        #[arg(long, value_name = "SPACE", value_delimiter = ',')]
        own_spaces: Vec<String>,
        /// Calls in a second, over all its tokens
        #[arg(long, value_name = "N")]
        calls_per_second: Option<NonZeroU32>,
        /// Questions that are answered at a time
        #[arg(long, value_name = "N")]
        concurrent_queries: Option<NonZeroU32>,
        /// Tell it no number of fewer users, nor of a difference by so few: from 2 to 100,000
        #[arg(long, value_name = "N")]
        min_users: Option<u32>,
        /// Noise on each number: the epsilon of one answer, less being more noise; 0 for none
        #[arg(long, value_name = "EPSILON", requires = "min_users")]
        noise: Option<f64>,
        /// How many different answers it may be given within a period
        #[arg(long, value_name = "N", requires = "min_users")]
        answers: Option<u32>,
        /// The period, in hours
        #[arg(long, value_name = "N", requires = "min_users")]
        every_hours: Option<u32>,
        /// What all its tokens are for: it sees the users who agreed to this purpose alone
        #[arg(long)]
        purpose: Option<String>,
        /// For people
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Remove a tenant that has no tokens and no audiences any more
    Remove {
        /// The tenant
        name: String,
    },
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let server = arguments.target.server("tenants")?;
    match arguments.action.as_ref().unwrap_or(&Action::List) {
        Action::List => {
            let answers = server.tenants()?;
            let footer = output::counted(answers.len(), "tenant");
            output::print(arguments.output, &answers, |answers| table(answers), &footer)
        }
        Action::Set {
            name,
            r#where,
            own_tags,
            own_facts,
            own_spaces,
            calls_per_second,
            concurrent_queries,
            min_users,
            noise,
            answers,
            every_hours,
            purpose,
            description,
        } => {
            let privacy = min_users.map(|min_users| {
                let policy = Privacy::of(min_users);
                Privacy {
                    noise: noise.map_or(policy.noise, Epsilon),
                    answers: answers.unwrap_or(policy.answers),
                    every_hours: every_hours.unwrap_or(policy.every_hours),
                    ..policy
                }
            });
            let set = |names: &[String]| names.iter().cloned().collect();
            let request = TenantRequest {
                r#where: Where::from(r#where.as_str()),
                owns: Owned { tags: set(own_tags), facts: set(own_facts), spaces: set(own_spaces) },
                limits: Limits { calls_per_second: *calls_per_second, concurrent_queries: *concurrent_queries },
                privacy,
                purpose: purpose.clone(),
                description: description.clone(),
            };
            let answer = server.put_tenant(name, &request)?;
            output::print(arguments.output, &[answer], |answers| table(answers), "")
        }
        Action::Remove { name } => {
            server.delete_tenant(name)?;
            eprintln!("{name}: removed");
            Ok(())
        }
    }
}

fn table(answers: &[TenantAnswer]) -> Table {
    let row = |answer: &TenantAnswer| {
        let owns = answer.owns.all().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ");
        vec![
            answer.name.as_str().into(),
            answer.r#where.as_str().into(),
            owns.as_str().into(),
            answer.description.as_str().into(),
            answer.changed_at.as_str().into(),
        ]
    };
    let columns = vec!["tenant", "where", "owns", "description", "changed_at"];
    Table { columns, rows: answers.iter().map(row).collect() }
}
