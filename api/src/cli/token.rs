//! `beluga token`: who may call a server.

use super::Exit;
use super::output::{self, Output, Table};
use super::target::Target;
use crate::access::Scope;
use crate::error::{Failure, Kind};
use crate::rest::v1::tokens::{TokenAnswer, TokenRequest};
use jiff::{Span, Timestamp, tz::TimeZone};

/// Makes, lists and revokes the tokens of a server.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The first token closes the server: from then on every call needs one. Commands take theirs from the environment:\n  export BELUGA_TOKEN=$(beluga token create operator --scope query,export,ingest,admin)\n  beluga token create dashboards --scope query --expires 90d\n  beluga token\n  beluga token revoke dashboards\nBefore a server was started, or when the last token is lost:\n  beluga token create operator --scope admin --data DIR"
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
    /// All tokens; what is shown when nothing else is asked for
    List,
    /// Make a token; its text goes to standard output, once
    Create {
        /// What to call it
        name: String,
        /// What it may be used for
        #[arg(long, value_enum, value_delimiter = ',', required = true)]
        scope: Vec<Scope>,
        /// Whose it is; the operator's without it
        #[arg(long)]
        tenant: Option<String>,
        /// What for: it shows the users who agreed to this purpose alone
        #[arg(long)]
        purpose: Option<String>,
        /// Ends so long from now, as in 90d or 12h; never without it
        #[arg(long, value_name = "SPAN")]
        expires: Option<String>,
    },
    /// End a token, at once
    Revoke {
        /// The token
        name: String,
    },
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let mut tokens = arguments.target.tokens()?;
    match arguments.action.as_ref().unwrap_or(&Action::List) {
        Action::List => {
            let answers = tokens.list()?;
            let footer = output::counted(answers.len(), "token");
            output::print(arguments.output, &answers, |answers| table(answers), &footer)
        }
        Action::Create { name, scope, tenant, purpose, expires } => {
            let expires_at = expires.as_deref().map(end_of).transpose()?;
            let scopes = scope.iter().copied().collect();
            let (name, tenant, purpose) = (name.clone(), tenant.clone(), purpose.clone());
            let request = TokenRequest { name, scopes, tenant, purpose, expires_at };
            let made = tokens.create(request)?;
            match arguments.output {
                Output::Json => output::print(Output::Json, &made, |_| table(&[]), ""),
                _ => {
                    println!("{}", made.token);
                    eprintln!("keep it: it is not shown again");
                    Ok(())
                }
            }
        }
        Action::Revoke { name } => {
            tokens.revoke(name)?;
            eprintln!("{name}: revoked");
            Ok(())
        }
    }
}

/// So long from now, in RFC 3339.
fn end_of(span: &str) -> Result<String, Failure> {
    let wrong = |why: jiff::Error| {
        Failure::new(Kind::InvalidField, format!("--expires `{span}`: {why}")).suggest("write a span, as in 90d or 12h")
    };
    let span: Span = span.parse().map_err(wrong)?;
    let end = Timestamp::now().to_zoned(TimeZone::UTC).checked_add(span).map_err(wrong)?;
    Ok(end.timestamp().to_string())
}

fn table(answers: &[TokenAnswer]) -> Table {
    let scopes = |answer: &TokenAnswer| answer.scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>().join(", ");
    let row = |answer: &TokenAnswer| {
        vec![
            answer.name.as_str().into(),
            scopes(answer).as_str().into(),
            answer.tenant.as_deref().into(),
            answer.purpose.as_deref().into(),
            answer.created_at.as_str().into(),
            answer.expires_at.as_deref().into(),
        ]
    };
    Table {
        columns: vec!["token", "scopes", "tenant", "purpose", "created_at", "expires_at"],
        rows: answers.iter().map(row).collect(),
    }
}
