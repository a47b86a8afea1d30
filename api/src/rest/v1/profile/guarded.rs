//! A profile under a privacy policy: each cell is a set of users of its own, told as any other. Values that no number is told of are not named,
//! and there is nothing of what is worked out from exact numbers.

use super::{
    PROFILE_VALUES_DEFAULT, PROFILE_VALUES_MAX, ProfileAnswer, ProfileRequest, TagAnswer, ValueAnswer, ValueOrder,
    index, share, tags, type_name,
};
use crate::error::{Failure, Kind};
use crate::privacy::{Asked, Guard, Told, Users, both, refused};
use crate::queries::Running;
use crate::rest::v1::expression::{Bound, Where};
use engine::audience::ops::{self, QueryContext, TagProfile};
use engine::audience::predicate::Predicate;
use engine::catalog::{Tag, TagType};
use engine::store::Snapshot;

/// A value of a tag in the audience and in the baseline.
struct Cell {
    tag: usize,
    value: String,
    asked: [Asked; 2],
}

/// Answers under a privacy policy.
///
/// # Errors
/// [`Kind::TooFewUsers`] if audience or baseline are few; [`Kind::PrivacyBudget`]; as [`super::answer`].
pub(super) fn guarded(
    snapshot: &Snapshot,
    request: &ProfileRequest,
    context: &QueryContext,
    guard: &Guard,
    running: &Running,
) -> Result<ProfileAnswer, Failure> {
    let values_max = check(request)?;
    // Which cells there are depends on the users.
    guard.check_left(running)?;
    let by = told_tags(snapshot, request)?;
    let audience = request.r#where.bind(snapshot, "/where")?;
    let against = request.against.clone().unwrap_or_else(|| Where::from("TRUE")).bind(snapshot, "/against")?;
    let bound = [&audience, &against];
    let [own, baseline] = bound.map(|bound| guard.users(snapshot, &bound.predicate, context));
    let whole = [own?, baseline?];
    let cells = cells(snapshot, &by, bound, &whole, context, guard)?;
    let mut sets: Vec<Asked> = whole.iter().zip(bound).map(|(users, bound)| guard.asked(users, &bound.text)).collect();
    sets.extend(cells.iter().flat_map(|cell| cell.asked.clone()));
    let told: Vec<Option<u64>> = guard.tell(&sets, context, running)?.into_iter().map(Told::number).collect();
    let size = |at: usize, pointer: &str| {
        let few = || Failure::new(Kind::TooFewUsers, format!("these are fewer than {} users", guard.few())).at(pointer);
        told[at].ok_or_else(|| few().suggest("ask something wider"))
    };
    let (count, baseline_count) = (size(0, "/where")?, size(1, "/against")?);
    let mut answers: Vec<TagAnswer> = by.iter().map(|(name, tag)| empty(name, tag)).collect();
    for (cell, told) in cells.into_iter().zip(told[2..].chunks_exact(2)) {
        let (Some(own), Some(baseline)) = (told[0], told[1]) else { continue };
        let value = value(cell.value, [own, baseline], [count, baseline_count]);
        answers[cell.tag].values.get_or_insert_default().push(value);
    }
    for answer in &mut answers {
        let values = answer.values.get_or_insert_default();
        values.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
        answer.more_values = Some(values.len().saturating_sub(values_max));
        values.truncate(values_max);
    }
    Ok(ProfileAnswer {
        count,
        baseline_count,
        // Numbers with noise may say that more are in the audience.
        rest_count: baseline_count.saturating_sub(count),
        tags: answers,
        distinguishing: None,
        epoch: snapshot.epoch().0,
        // How long it took tells how many they are.
        elapsed_us: 0,
    })
}

/// What is worked out from exact numbers is not told.
fn check(request: &ProfileRequest) -> Result<usize, Failure> {
    if !request.distinguish.is_none() {
        return Err(refused("`distinguish`").at("/distinguish").suggest("leave it out"));
    }
    if request.order == ValueOrder::Distinction {
        return Err(refused("the order by distinction").at("/order").suggest("leave `order` out"));
    }
    let values_max = request.values.unwrap_or(PROFILE_VALUES_DEFAULT);
    match values_max > PROFILE_VALUES_MAX {
        true => Err(Failure::field("/values", format!("at most {PROFILE_VALUES_MAX} values of a tag are listed"))),
        false => Ok(values_max),
    }
}

/// The tags that are asked about; all that have values if none is named.
fn told_tags<'s>(snapshot: &'s Snapshot, request: &'s ProfileRequest) -> Result<Vec<(&'s str, &'s Tag)>, Failure> {
    let is_number = |tag: &Tag| matches!(tag.tag_type, TagType::Number(_));
    let mut by = tags(snapshot, request.by.as_deref())?;
    if let Some(at) = by.iter().position(|(_, tag)| is_number(tag)).filter(|_| request.by.is_some()) {
        let what = format!("the profile of `{}`, which is a number,", by[at].0);
        return Err(refused(&what).at(format!("/by/{at}")).suggest("count ranges of it"));
    }
    by.retain(|(_, tag)| !is_number(tag));
    Ok(by)
}

/// All cells of which a number may be told.
fn cells(
    snapshot: &Snapshot,
    by: &[(&str, &Tag)],
    [audience, against]: [&Bound; 2],
    whole: &[Users; 2],
    context: &QueryContext,
    guard: &Guard,
) -> Result<Vec<Cell>, Failure> {
    let ids: Vec<_> = by.iter().map(|(_, tag)| tag.id).collect();
    let profile = ops::profile(snapshot, &audience.predicate, &ids, &against.predicate, context)?;
    let mut cells = Vec::new();
    for (at, ((name, tag), (_, profile))) in by.iter().zip(profile.tags).enumerate() {
        let TagProfile::Values { values, .. } = profile else { continue };
        // Nothing is told of fewer by whatever line, so that nothing is told by leaving them out here. Where one of the two is not so few
        // both are asked about: else the one would decide whether the other is written down.
        let least = u64::from(guard.min_users());
        let mut values: Vec<_> =
            values.into_iter().filter(|value| value.count.max(value.baseline_count) >= least).collect();
        // What is told first may decide what is told next: in an order that tells nothing.
        values.sort_by(|a, b| a.value.cmp(&b.value));
        for value in values {
            let of_value = match (tag.tag_type, value.value.as_str()) {
                (TagType::Flag, "true") => Predicate::Flag(tag.id),
                (TagType::Flag, _) => Predicate::Flag(tag.id).negate(),
                _ => Predicate::HasAny(tag.id, vec![value.value.clone()]),
            };
            let users = ops::slots(snapshot, &of_value, context)?;
            let asked = [(&whole[0], audience), (&whole[1], against)].map(|(whole, bound)| {
                guard.asked(&both(&users, whole), &format!("{name} = {:?} AND ({})", value.value, bound.text))
            });
            cells.push(Cell { tag: at, value: value.value, asked });
        }
    }
    Ok(cells)
}

fn empty(name: &str, tag: &Tag) -> TagAnswer {
    TagAnswer {
        tag: name.to_owned(),
        r#type: type_name(tag.tag_type).to_owned(),
        unknown: None,
        baseline_unknown: None,
        values: None,
        more_values: None,
        number: None,
    }
}

fn value(value: String, [count, baseline_count]: [u64; 2], [size, baseline_size]: [u64; 2]) -> ValueAnswer {
    let (share, baseline_share) = (share(count, size), share(baseline_count, baseline_size));
    ValueAnswer {
        value,
        count,
        share,
        baseline_count,
        baseline_share,
        index: index(share, baseline_share),
        p_value: None,
        q_value: None,
        distinction: None,
    }
}
