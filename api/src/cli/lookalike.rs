//! `beluga lookalike --space SPACE --seed EXPR`.

use super::Exit;
use super::output::{self, Cell, Output, Table};
use super::profile::distinguishing;
use super::target::{Target, about, expression};
use crate::rest::v1::distinguish::Distinguish;
use crate::rest::v1::expression::Where;
use crate::rest::v1::lookalike::{LOOKALIKE_USERS_DEFAULT, LearnedBy, LookalikeAnswer, LookalikeRequest};
use serde_json::Number;

/// Finds the users most like others.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  beluga lookalike --space taste --seed \"in_audience('vip')\" --size 1000 --within ads_consent\n  beluga lookalike --space taste --seed \"did('purchase', count >= 5)\" --share 0.02 --holdout --save-as like_buyers\n  beluga lookalike --space taste --seed \"in_audience('vip')\" --share 0.1 --distinguish --scores-to taste_score"
)]
pub(super) struct Arguments {
    /// The vector space
    #[arg(long, value_name = "NAME")]
    space: String,
    /// Like whom; `-` reads it from standard input
    #[arg(long, value_name = "EXPR")]
    seed: String,
    /// How many users
    #[arg(long, value_name = "N", required_unless_present = "share", conflicts_with = "share")]
    size: Option<Number>,
    /// Which share of those there are to choose from: 0.02 are the most similar 2 %
    #[arg(long, value_name = "SHARE")]
    share: Option<Number>,
    /// Those behind so many, or behind such a share
    #[arg(long, value_name = "N")]
    after: Option<Number>,
    /// Of these users only
    #[arg(long, value_name = "EXPR")]
    within: Option<String>,
    /// But not these
    #[arg(long, value_name = "EXPR")]
    exclude: Option<String>,
    /// Users of the seed may be found, too
    #[arg(long)]
    include_seed: bool,
    /// How likeness is learned; whichever way finds hidden users of the seed best if neither this nor --prototypes is said
    #[arg(long, value_enum, conflicts_with = "prototypes")]
    method: Option<LearnedBy>,
    /// Likeness to the nearest of so many centres
    #[arg(long, value_name = "N")]
    prototypes: Option<usize>,
    /// A number tag by which users of the seed count for more
    #[arg(long, value_name = "TAG")]
    weights: Option<String>,
    /// Scan all vectors in full precision
    #[arg(long)]
    exact: bool,
    /// Hide a tenth of the seed and tell how well it is found
    #[arg(long)]
    holdout: bool,
    /// Tell what share of a scan in full precision was found
    #[arg(long)]
    recall: bool,
    /// How many users to tell
    #[arg(long, value_name = "N", default_value_t = LOOKALIKE_USERS_DEFAULT)]
    limit: usize,
    /// Tell what most distinguishes the users found from all others (of --within), N things at most, instead of who they are
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "20")]
    distinguish: Option<usize>,
    /// Keep the score of every user found in this number tag, which has digits behind the point
    #[arg(long, value_name = "TAG")]
    scores_to: Option<String>,
    /// Keep the question as an audience
    #[arg(long, value_name = "NAME")]
    save_as: Option<String>,
    #[command(flatten)]
    target: Target,
    /// How to write the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
    /// Longest time, in milliseconds
    #[arg(long, value_name = "N")]
    timeout_ms: Option<u64>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let given = [Some(&arguments.seed), arguments.within.as_ref(), arguments.exclude.as_ref()];
    if given.into_iter().flatten().filter(|text| *text == "-").count() > 1 {
        return Err(Exit::Usage("`-` reads standard input, which has one expression: write it once".to_owned()));
    }
    let (seed_text, seed) = expression(&arguments.seed)?;
    let other = |text: &Option<String>| -> Result<Option<(String, Where)>, Exit> {
        text.as_deref().map(expression).transpose()
    };
    let (within, exclude) = (other(&arguments.within)?, other(&arguments.exclude)?);
    let request = LookalikeRequest {
        space: arguments.space.clone(),
        seed: Some(seed),
        vectors: None,
        size: arguments.size.clone(),
        share: arguments.share.clone(),
        after: arguments.after.clone(),
        within: within.as_ref().map(|(_, of)| of.clone()),
        exclude: exclude.as_ref().map(|(_, of)| of.clone()),
        include_seed: arguments.include_seed,
        method: arguments.method,
        prototypes: arguments.prototypes,
        weights: arguments.weights.clone(),
        exact: arguments.exact,
        holdout: arguments.holdout,
        recall: arguments.recall,
        limit: Some(arguments.limit),
        distinguish: Distinguish(arguments.distinguish.unwrap_or(0)),
        scores_to: arguments.scores_to.clone(),
        save_as: arguments.save_as.clone(),
        timeout_ms: arguments.timeout_ms,
    };
    let answer = match arguments.target.asker()?.lookalike(&request) {
        Ok(answer) => answer,
        Err(failure) => {
            let meant = match failure.pointer.as_deref() {
                Some("/within") => within.map(|(text, _)| text),
                Some("/exclude") => exclude.map(|(text, _)| text),
                Some("/seed") => Some(seed_text),
                _ => None,
            };
            about(&meant.unwrap_or_default(), Err(failure))?
        }
    };
    let table = |answer: &LookalikeAnswer| {
        answer.distinguishing.as_ref().map_or_else(|| table(answer), |list| distinguishing(list))
    };
    output::print(arguments.output, &answer, table, &footer(&answer))
}

fn table(answer: &LookalikeAnswer) -> Table {
    let row = |user: &crate::rest::v1::lookalike::Scored| -> Vec<Cell> {
        vec![user.user_id.as_str().into(), f64::from(user.score).into()]
    };
    Table { columns: vec!["user_id", "score"], rows: answer.users.iter().map(row).collect() }
}

fn footer(answer: &LookalikeAnswer) -> String {
    let mut told = match (answer.candidates, answer.seed_with_vector, answer.seed_users) {
        (Some(candidates), Some(with_vector), Some(users)) => format!(
            "{} of {candidates} candidates, like {with_vector} of {users} users with a vector, {}",
            answer.count, answer.method
        ),
        _ => format!("{} users, {}", answer.count, answer.method),
    };
    if answer.count < answer.wanted {
        told.push_str(&format!("; {} were asked for", answer.wanted));
    }
    if let Some(recall) = answer.recall {
        told.push_str(&format!("; recall {recall:.4}"));
    }
    if let Some(holdout) = &answer.holdout {
        let (found, hidden) = (holdout.found, holdout.hidden);
        told.push_str(&format!("; {found} of {hidden} hidden users found, AUC {:.3}", holdout.area_under_curve));
        if let Some(lift) = holdout.lift {
            told.push_str(&format!(", lift {lift:.1}"));
        }
    }
    if let Some(scores) = &answer.scores {
        let (written, unset) = (output::grouped(scores.written), output::grouped(scores.unset));
        told.push_str(&format!("\n{written} scores are in `{}`, {unset} older ones are gone", scores.tag));
    }
    format!("{told}\nepoch {}, {}", answer.epoch, output::duration(answer.elapsed_us))
}
