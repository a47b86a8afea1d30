//! Predicate → one program per shard.
//!
//! Every shard's program has the same shape, node for node, so what nodes did can be added up over shards. Equal
//! subtrees become one node. Leaves are stacks of the shard's layers, by the table at [`crate::segment::Key`]. Every
//! result is within the universe: leaves of declared tags are by construction, lists and ids are intersected with it.

use super::predicate::Predicate;
use crate::bitmap::bsi::{NumberLayer, NumberRange};
use crate::bitmap::program::{Layer, LayerValue, Mask, Node, NodeId, Program};
use crate::bitmap::view::BitmapView;
use crate::catalog::{Catalog, TagType, Unit};
use crate::dictionary::{HashedId, hash_of};
use crate::error::ReadError;
use crate::ids::{TagId, shard_of};
use crate::segment::merge::number_view;
use crate::segment::{Key, Part, Segment};
use crate::store::{ShardSnapshot, Snapshot};
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::sync::Arc;

/// A predicate made ready for a snapshot.
#[derive(Debug)]
pub struct Plan<'s> {
    snapshot: &'s Snapshot,
    predicate: &'s Predicate,
    /// Serialised slots of the users named one by one: per list of ids, per shard.
    named: HashMap<&'s [String], Vec<Vec<u8>>>,
}

impl<'s> Plan<'s> {
    /// Looks up the users the predicate names; reads nothing else.
    ///
    /// # Errors
    /// [`ReadError`] if the dictionary is damaged.
    pub fn new(snapshot: &'s Snapshot, predicate: &'s Predicate) -> Result<Plan<'s>, ReadError> {
        let mut named = HashMap::new();
        collect_named(snapshot, predicate, &mut named)?;
        Ok(Plan { snapshot, predicate, named })
    }

    /// The program of one shard; its root is the predicate.
    ///
    /// # Errors
    /// [`ReadError`] if a posting is damaged.
    pub fn program(&self, shard: usize) -> Result<Program<'_>, ReadError> {
        Ok(self.explained_program(shard)?.0)
    }

    /// The program of one shard, with the predicate each node stands for.
    pub(super) fn explained_program(&self, shard: usize) -> Result<(Program<'_>, Vec<Predicate>), ReadError> {
        let mut builder = Builder {
            plan: self,
            shard,
            layers: self.snapshot.shards()[shard].layers(),
            program: Program::new(),
            meaning: Vec::new(),
            built: HashMap::new(),
        };
        let root = builder.node(self.predicate)?;
        if root.0 as usize + 1 != builder.meaning.len() {
            // The root is the last node; an equal one came earlier.
            builder.push(Node::And(vec![root]), self.predicate.clone());
        }
        Ok((builder.program, builder.meaning))
    }
}

fn collect_named<'s>(
    snapshot: &Snapshot,
    predicate: &'s Predicate,
    named: &mut HashMap<&'s [String], Vec<Vec<u8>>>,
) -> Result<(), ReadError> {
    match predicate {
        Predicate::Users(ids) if !named.contains_key(ids.as_slice()) => {
            named.insert(ids, look_up(snapshot, ids)?);
            Ok(())
        }
        Predicate::And(of) | Predicate::Or(of) | Predicate::AtLeast(_, of) => {
            of.iter().try_for_each(|operand| collect_named(snapshot, operand, named))
        }
        Predicate::Xor(a, b) => {
            collect_named(snapshot, a, named)?;
            collect_named(snapshot, b, named)
        }
        Predicate::Not(of) => collect_named(snapshot, of, named),
        _ => Ok(()),
    }
}

fn look_up(snapshot: &Snapshot, ids: &[String]) -> Result<Vec<Vec<u8>>, ReadError> {
    let shards = snapshot.shards();
    let mut of_shard: Vec<Vec<HashedId<'_>>> = vec![Vec::new(); shards.len()];
    for id in ids {
        let shard = shard_of(id.as_bytes(), shards.len() as u16);
        of_shard[usize::from(shard.0)].push((id.as_bytes(), hash_of(id.as_bytes())));
    }
    let slots: Result<Vec<_>, _> = shards.iter().zip(&of_shard).map(|(shard, ids)| shard.slots_of(ids)).collect();
    let slots = slots?;
    let serialized = slots.into_iter().map(|slots| {
        let mut bytes = Vec::new();
        slots
            .into_iter()
            .flatten()
            .collect::<RoaringBitmap>()
            .serialize_into(&mut bytes)
            .expect("memory does not fail");
        bytes
    });
    Ok(serialized.collect())
}

struct Builder<'p, 's> {
    plan: &'p Plan<'s>,
    shard: usize,
    layers: &'p [Arc<Segment>],
    program: Program<'p>,
    meaning: Vec<Predicate>,
    built: HashMap<Predicate, NodeId>,
}

impl<'p> Builder<'p, '_> {
    fn push(&mut self, node: Node<'p>, meaning: Predicate) -> NodeId {
        self.meaning.push(meaning);
        self.program.push(node)
    }

    fn node(&mut self, predicate: &Predicate) -> Result<NodeId, ReadError> {
        if let Some(built) = self.built.get(predicate) {
            return Ok(*built);
        }
        let node = self.make(predicate)?;
        let id = self.push(node, predicate.clone());
        self.built.insert(predicate.clone(), id);
        Ok(id)
    }

    fn nodes(&mut self, of: &[Predicate]) -> Result<Vec<NodeId>, ReadError> {
        of.iter().map(|operand| self.node(operand)).collect()
    }

    fn make(&mut self, predicate: &Predicate) -> Result<Node<'p>, ReadError> {
        Ok(match predicate {
            Predicate::All => Node::Leaf(exclusive(self.layers, TagId::UNIVERSE, Part::Exists)?),
            Predicate::Nobody => Node::Or(Vec::new()),
            Predicate::Flag(tag) | Predicate::Known(tag) => Node::Leaf(exclusive(self.layers, *tag, Part::Exists)?),
            Predicate::HasAny(tag, values) => match values.as_slice() {
                [value] => Node::Leaf(value_layers(self.layers, self.is_set(*tag), *tag, value.as_bytes())?),
                values => {
                    let one = |value: &String| Predicate::HasAny(*tag, vec![value.clone()]);
                    Node::Or(values.iter().map(|value| self.node(&one(value))).collect::<Result<_, _>>()?)
                }
            },
            Predicate::InRange(tag, range) => Node::Leaf(range_layers(self.layers, *tag, *range)?),
            Predicate::Listed(list) => {
                let leaf = value_layers(self.layers, true, TagId::UPLOADS, list.as_bytes())?;
                self.known_of(leaf, predicate)?
            }
            Predicate::Users(ids) => {
                let plan = self.plan;
                let bytes = plan.named.get(ids.as_slice()).map(|shards| shards[self.shard].as_slice());
                let value = bytes.map_or(LayerValue::Empty, |bytes| LayerValue::Bitmap(BitmapView::trusted(bytes)));
                self.known_of(vec![Layer { mask: Mask::All, value }], predicate)?
            }
            Predicate::And(of) => self.and(of)?,
            Predicate::Or(of) => Node::Or(self.nodes(of)?),
            Predicate::Xor(a, b) => Node::Xor(self.node(a)?, self.node(b)?),
            Predicate::AtLeast(k, of) => Node::AtLeast(*k, self.nodes(of)?),
            Predicate::Not(of) => Node::AndNot(self.node(&Predicate::All)?, self.node(of)?),
        })
    }

    /// What is excluded is taken off what is left, instead of taken from everybody first.
    fn and(&mut self, of: &[Predicate]) -> Result<Node<'p>, ReadError> {
        let (excluded, wanted): (Vec<&Predicate>, Vec<&Predicate>) =
            of.iter().partition(|operand| matches!(operand, Predicate::Not(_)));
        let wanted: Vec<Predicate> = wanted.into_iter().cloned().collect();
        let excluded: Vec<Predicate> = excluded.into_iter().cloned().map(Predicate::negate).collect();
        if excluded.is_empty() {
            return Ok(Node::And(self.nodes(&wanted)?));
        }
        let wanted = match wanted.len() {
            0 => self.node(&Predicate::All)?,
            1 => self.node(&wanted[0])?,
            _ => self.node(&Predicate::And(wanted))?,
        };
        let excluded = match excluded.len() {
            1 => self.node(&excluded[0])?,
            _ => self.node(&Predicate::Or(excluded))?,
        };
        Ok(Node::AndNot(wanted, excluded))
    }

    /// The known users of a leaf that may name others.
    fn known_of(&mut self, leaf: Vec<Layer<'p>>, meaning: &Predicate) -> Result<Node<'p>, ReadError> {
        let leaf = self.push(Node::Leaf(leaf), meaning.clone());
        Ok(Node::And(vec![leaf, self.node(&Predicate::All)?]))
    }

    fn is_set(&self, tag: TagId) -> bool {
        self.plan.snapshot.catalog().tags().any(|(_, known)| known.id == tag && known.tag_type == TagType::Set)
    }
}

/// The posting of a key, if the segment has it.
fn posting<'p>(segment: &'p Segment, key: Key<'_>) -> Result<Option<BitmapView<'p>>, ReadError> {
    Ok(segment.posting(key)?.map(|posting| posting.bitmap))
}

/// Makes a stack of what `layer` finds in each segment: a value, and masks (which the bottom does not need).
fn stack<'p, V>(
    layers: &'p [Arc<Segment>],
    mut layer: impl FnMut(&'p Segment, bool) -> Result<(Option<V>, Vec<BitmapView<'p>>), ReadError>,
) -> Result<Vec<(Mask<'p>, Option<V>)>, ReadError> {
    let mut stack = Vec::with_capacity(layers.len());
    for (index, segment) in layers.iter().enumerate() {
        let bottom = index + 1 == layers.len();
        let (value, masks) = layer(segment, bottom)?;
        if bottom {
            stack.push((Mask::All, value));
        } else if value.is_some() || !masks.is_empty() {
            stack.push((Mask::Bitmaps(masks), value));
        }
    }
    Ok(stack)
}

fn bitmap_layers<'p>(stack: Vec<(Mask<'p>, Option<BitmapView<'p>>)>) -> Vec<Layer<'p>> {
    let value = |value: Option<BitmapView<'p>>| value.map_or(LayerValue::Empty, LayerValue::Bitmap);
    stack.into_iter().map(|(mask, of)| Layer { mask, value: value(of) }).collect()
}

/// The layers of a part that is decided by whoever was touched: see [`Key`].
pub(super) fn exclusive<'p>(
    layers: &'p [Arc<Segment>],
    tag: TagId,
    part: Part<'_>,
) -> Result<Vec<Layer<'p>>, ReadError> {
    let stack = stack(layers, |segment, bottom| {
        let touched = if bottom { None } else { posting(segment, Key { tag, part: Part::Touched })? };
        Ok((posting(segment, Key { tag, part })?, touched.into_iter().collect()))
    })?;
    Ok(bitmap_layers(stack))
}

/// The layers of one value of an `enum` or a `set`.
pub(super) fn value_layers<'p>(
    layers: &'p [Arc<Segment>],
    is_set: bool,
    tag: TagId,
    value: &[u8],
) -> Result<Vec<Layer<'p>>, ReadError> {
    if !is_set {
        return exclusive(layers, tag, Part::Value(value));
    }
    let stack = stack(layers, |segment, bottom| {
        let mut masks = Vec::new();
        if !bottom {
            masks.extend(posting(segment, Key { tag, part: Part::Removed(value) })?);
            masks.extend(posting(segment, Key { tag, part: Part::Touched })?);
        }
        Ok((posting(segment, Key { tag, part: Part::Value(value) })?, masks))
    })?;
    Ok(bitmap_layers(stack))
}

/// The layers of a number tag.
pub(super) fn number_layers(layers: &[Arc<Segment>], tag: TagId) -> Result<Vec<NumberLayer<'_>>, ReadError> {
    let stack = stack(layers, |segment, bottom| {
        let numbers = number_view(segment, tag)?;
        let touched = if bottom { None } else { posting(segment, Key { tag, part: Part::Touched })? };
        // Where nobody's number was unset, those who have one are all who were touched, and hide what is below as well.
        let has_unset =
            |touched: &BitmapView<'_>| numbers.as_ref().is_none_or(|view| view.exists.len() != touched.len());
        Ok((numbers.clone(), touched.filter(has_unset).into_iter().collect()))
    })?;
    Ok(stack.into_iter().map(|(mask, numbers)| NumberLayer { mask, numbers }).collect())
}

/// The layers of the users whose number is in a range.
pub(super) fn range_layers(
    layers: &[Arc<Segment>],
    tag: TagId,
    range: NumberRange,
) -> Result<Vec<Layer<'_>>, ReadError> {
    Ok(range_of(&number_layers(layers, tag)?, range))
}

/// The same of number layers at hand.
pub(super) fn range_of<'p>(numbers: &[NumberLayer<'p>], range: NumberRange) -> Vec<Layer<'p>> {
    let value = |numbers: &NumberLayer<'p>| match &numbers.numbers {
        Some(numbers) => LayerValue::InRange(numbers.clone(), range),
        None => LayerValue::Empty,
    };
    numbers.iter().map(|layer| Layer { mask: layer.mask.clone(), value: value(layer) }).collect()
}

/// At most how many users a predicate has, from the key directories alone; no posting is read.
pub(super) fn estimate(shards: &[ShardSnapshot], predicate: &Predicate) -> u64 {
    let of = |predicate: &Predicate| estimate(shards, predicate);
    let key = |key: Key<'_>| -> u64 {
        shards.iter().flat_map(|shard| shard.layers()).map(|segment| segment.cardinality(key)).sum()
    };
    let all = || key(Key { tag: TagId::UNIVERSE, part: Part::Exists });
    match predicate {
        Predicate::All => all(),
        Predicate::Nobody => 0,
        Predicate::HasAny(tag, values) => {
            values.iter().map(|value| key(Key { tag: *tag, part: Part::Value(value.as_bytes()) })).sum()
        }
        Predicate::Flag(tag) | Predicate::Known(tag) | Predicate::InRange(tag, _) => {
            key(Key { tag: *tag, part: Part::Exists })
        }
        Predicate::Listed(list) => key(Key { tag: TagId::UPLOADS, part: Part::Value(list.as_bytes()) }),
        Predicate::Users(ids) => ids.len() as u64,
        Predicate::And(operands) => operands.iter().map(of).min().unwrap_or(0),
        Predicate::Or(operands) => operands.iter().map(of).sum::<u64>().min(all()),
        Predicate::Xor(a, b) => (of(a) + of(b)).min(all()),
        Predicate::AtLeast(k, operands) => operands.iter().map(of).sum::<u64>() / u64::from((*k).max(1)),
        Predicate::Not(_) => all(),
    }
}

/// A predicate in the words of the audience language.
pub fn describe(predicate: &Predicate, catalog: &Catalog) -> String {
    let name = |tag: TagId| catalog.name_of(tag).map_or_else(|| format!("tag {tag}"), str::to_owned);
    let quoted = |text: &String| format!("'{}'", text.replace('\'', "''"));
    let joined = |of: &[Predicate], word: &str| {
        of.iter().map(|operand| describe(operand, catalog)).collect::<Vec<_>>().join(word)
    };
    match predicate {
        Predicate::All => "TRUE".to_owned(),
        Predicate::Nobody => "FALSE".to_owned(),
        Predicate::HasAny(tag, values) => match values.as_slice() {
            [value] => format!("{} = {}", name(*tag), quoted(value)),
            values => format!("{} IN ({})", name(*tag), values.iter().map(quoted).collect::<Vec<_>>().join(", ")),
        },
        Predicate::Flag(tag) => name(*tag),
        Predicate::Known(tag) => format!("{} IS NOT NULL", name(*tag)),
        Predicate::InRange(tag, range) => describe_range(&name(*tag), unit_of(catalog, *tag), *range),
        Predicate::Listed(list) => format!("uploaded list {list}"),
        Predicate::Users(ids) => format!("user_id IN ({} ids)", ids.len()),
        Predicate::And(of) => format!("({})", joined(of, " AND ")),
        Predicate::Or(of) => format!("({})", joined(of, " OR ")),
        Predicate::Xor(a, b) => format!("({} XOR {})", describe(a, catalog), describe(b, catalog)),
        Predicate::AtLeast(k, of) => format!("at_least({k}, {})", joined(of, ", ")),
        Predicate::Not(of) => format!("NOT {}", describe(of, catalog)),
    }
}

fn unit_of(catalog: &Catalog, tag: TagId) -> Unit {
    let known = catalog.tags().find(|(_, known)| known.id == tag);
    match known.map(|(_, known)| known.tag_type) {
        Some(TagType::Number(unit)) => unit,
        _ => Unit::Integer,
    }
}

fn describe_range(name: &str, unit: Unit, range: NumberRange) -> String {
    let number = |number: i64| match unit {
        Unit::Integer => number.to_string(),
        Unit::Decimal { scale } => decimal_text(number, scale),
        Unit::Timestamp => format!("{number} µs"),
    };
    match (range.min, range.max) {
        (i64::MIN, max) => format!("{name} <= {}", number(max)),
        (min, i64::MAX) => format!("{name} >= {}", number(min)),
        (min, max) if min == max => format!("{name} = {}", number(min)),
        (min, max) => format!("{name} BETWEEN {} AND {}", number(min), number(max)),
    }
}

/// A scaled integer as decimal text: `decimal_text(-1250, 2)` is `-12.50`.
pub fn decimal_text(number: i64, scale: u8) -> String {
    if scale == 0 {
        return number.to_string();
    }
    let digits = format!("{:0width$}", number.unsigned_abs(), width = usize::from(scale) + 1);
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
    format!("{}{whole}.{fraction}", if number < 0 { "-" } else { "" })
}
