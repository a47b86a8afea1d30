//! `beluga movement NAME --from TIME`.

use super::Exit;
use super::output::{self, Output, Table};
use super::target::Target;
use crate::rest::v1::movement::{MOVEMENT_USERS_MAX, Movement, MovementAnswer, MovementParameters};

/// Tells who entered and who left a live audience between two moments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga movement vip --from 2026-11-01T00:00:00Z\n  beluga movement vip --from 2026-11-01T00:00:00Z --to 2026-11-08T00:00:00Z --users left\n\nAn audience is made live by PUT /v1/audiences/{name} with \"live\": true."
)]
pub(super) struct Arguments {
    /// The audience
    name: String,
    /// The begin, as 2026-11-20T10:00:00Z
    #[arg(long, value_name = "TIME")]
    from: String,
    /// The end; now if left out
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// List the users of this movement, all of them, instead of the days
    #[arg(long, value_enum)]
    users: Option<Movement>,
    #[command(flatten)]
    target: Target,
    /// How to write the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let mut parameters = MovementParameters {
        from: arguments.from.clone(),
        to: arguments.to.clone(),
        movement: arguments.users,
        limit: Some(if arguments.users.is_some() { MOVEMENT_USERS_MAX } else { 0 }),
        after: None,
    };
    let asker = arguments.target.asker()?;
    let mut answer = asker.movement(&arguments.name, &parameters)?;
    // All pages are of one time.
    parameters.to = Some(answer.to.clone());
    while let Some(after) = answer.next.take() {
        parameters.after = Some(after);
        let page = asker.movement(&arguments.name, &parameters)?;
        answer.users.extend(page.users);
        answer.next = page.next;
    }
    let grouped = output::grouped;
    let footer = format!(
        "{} entered, {} left, {} entered and left again, {} left and entered again, from {} to {}",
        grouped(answer.entered),
        grouped(answer.left),
        grouped(answer.passed),
        grouped(answer.returned),
        answer.from,
        answer.to
    );
    let table = |answer: &MovementAnswer| if arguments.users.is_some() { users(answer) } else { days(answer) };
    output::print(arguments.output, &answer, table, &footer)
}

fn users(answer: &MovementAnswer) -> Table {
    let rows = answer.users.iter().map(|user| vec![user.user_id.as_str().into(), user.movement.name().into()]);
    Table { columns: vec!["user_id", "movement"], rows: rows.collect() }
}

fn days(answer: &MovementAnswer) -> Table {
    let rows = answer.days.iter().map(|day| vec![day.day.as_str().into(), day.entered.into(), day.left.into()]);
    Table { columns: vec!["day", "entered", "left"], rows: rows.collect() }
}
