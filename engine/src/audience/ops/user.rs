//! One user: the online look-up.

use super::resolve::resolve_all;
use super::{QueryContext, QueryError};
use crate::audience::plan::{Plan, exclusive, number_layers, value_layers};
use crate::audience::predicate::Predicate;
use crate::bitmap::bsi::NumberReader;
use crate::bitmap::evaluate::Evaluator;
use crate::bitmap::program::{Layer, Node, Program};
use crate::catalog::TagType;
use crate::ids::{Slot, TagId, shard_of};
use crate::segment::{Part, Segment};
use crate::store::{ShardSnapshot, Snapshot};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The value of one tag of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "one per tag type")]
pub enum UserValue {
    Set(Vec<String>),
    Enum(String),
    Flag(bool),
    Number(i64),
}

fn has(layers: Vec<Layer<'_>>, slot: Slot) -> bool {
    let mut program = Program::new();
    program.push(Node::Leaf(layers));
    Evaluator::new(&program).members((slot >> 16) as u16).contains(slot as u16)
}

/// The values some layer has of a tag.
fn values(layers: &[Arc<Segment>], tag: TagId) -> BTreeSet<&[u8]> {
    let parts = layers.iter().flat_map(|segment| segment.parts(tag));
    parts.filter_map(|(part, _)| if let Part::Value(value) = part { Some(value) } else { None }).collect()
}

/// The tags of one user that have a value (a flag always has one), by tag name; `None` if the user is not known.
///
/// Costs a look at every value of every tag.
///
/// # Errors
/// [`QueryError`].
pub fn user_tags(snapshot: &Snapshot, user_id: &str) -> Result<Option<Vec<(TagId, UserValue)>>, QueryError> {
    let Some((shard, slot)) = find(snapshot, user_id)? else { return Ok(None) };
    let layers = shard.layers();
    if !has(exclusive(layers, TagId::UNIVERSE, Part::Exists)?, slot) {
        return Ok(None);
    }
    let mut tags = Vec::new();
    for (_, tag) in snapshot.catalog().tags() {
        let is_set = tag.tag_type == TagType::Set;
        let mut own = Vec::new();
        if matches!(tag.tag_type, TagType::Set | TagType::Enum) {
            for value in values(layers, tag.id) {
                if has(value_layers(layers, is_set, tag.id, value)?, slot) {
                    own.push(String::from_utf8_lossy(value).into_owned());
                }
            }
        }
        let value = match tag.tag_type {
            TagType::Set => (!own.is_empty()).then_some(UserValue::Set(own)),
            TagType::Enum => own.pop().map(UserValue::Enum),
            TagType::Flag => Some(UserValue::Flag(has(exclusive(layers, tag.id, Part::Exists)?, slot))),
            TagType::Number(_) => {
                let reader = NumberReader::new(&number_layers(layers, tag.id)?);
                let found = reader.numbers((slot >> 16) as u16, &[(slot as u16).to_le_bytes()]);
                found.into_iter().next().flatten().map(UserValue::Number)
            }
        };
        tags.extend(value.map(|value| (tag.id, value)));
    }
    Ok(Some(tags))
}

/// Which of these uploaded lists the user is in, known or not.
///
/// # Errors
/// [`QueryError`].
pub fn user_lists<'l>(snapshot: &Snapshot, user_id: &str, lists: &[&'l str]) -> Result<Vec<&'l str>, QueryError> {
    let Some((shard, slot)) = find(snapshot, user_id)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for list in lists {
        if has(value_layers(shard.layers(), true, TagId::UPLOADS, list.as_bytes())?, slot) {
            found.push(*list);
        }
    }
    Ok(found)
}

/// Which of the predicates the user fits, in their order. A scan or search for similar users that several have runs once, and events
/// are searched of this user only.
///
/// # Errors
/// [`QueryError`] as soon as one of them cannot be answered.
pub fn user_fits(
    snapshot: &Snapshot,
    user_id: &str,
    predicates: &[Predicate],
    context: &QueryContext,
) -> Result<Vec<bool>, QueryError> {
    let Some((shard, slot)) = place(snapshot, user_id)? else { return Ok(vec![false; predicates.len()]) };
    let user = Predicate::Users(vec![user_id.to_owned()]);
    let alone = |predicate: &Predicate| Predicate::And(vec![user.clone(), predicate.clone()]);
    let mut predicates: Vec<Predicate> = predicates.iter().map(alone).collect();
    resolve_all(snapshot, &mut predicates, context)?;
    let fits = |predicate: &Predicate| {
        context.check()?;
        let plan = Plan::new(snapshot, predicate)?;
        let program = plan.program(shard)?;
        Ok(Evaluator::new(&program).members((slot >> 16) as u16).contains(slot as u16))
    };
    predicates.iter().map(fits).collect()
}

/// The shard of a user, and the slot there.
fn place(snapshot: &Snapshot, user_id: &str) -> Result<Option<(usize, Slot)>, QueryError> {
    let shard = usize::from(shard_of(user_id.as_bytes(), snapshot.shards().len() as u16).0);
    Ok(snapshot.shards()[shard].slot_of(user_id.as_bytes())?.map(|slot| (shard, slot)))
}

pub(super) fn find<'s>(snapshot: &'s Snapshot, user_id: &str) -> Result<Option<(&'s ShardSnapshot, Slot)>, QueryError> {
    Ok(place(snapshot, user_id)?.map(|(shard, slot)| (&snapshot.shards()[shard], slot)))
}
