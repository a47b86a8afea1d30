//! Predicate → one program per shard.
//!
//! Every shard's program has the same shape, node for node, so what nodes did can be added up over shards. Equal
//! subtrees become one node. Leaves are stacks of the shard's layers, by the table at [`crate::segment::Key`]. Every
//! result is within the universe: leaves of declared tags are by construction, lists and ids are intersected with it. Of a snapshot
//! that does not show everybody, the root takes off who is not shown.

mod activity;
mod scanned;
mod similar;

pub(crate) use activity::{activity_of, activity_postings, activity_values};

use super::predicate::{Did, Predicate};
use super::scan::{Found, Given};
use crate::bitmap::bsi::{NumberLayer, NumberRange};
use crate::bitmap::program::{Layer, LayerValue, Mask, Node, NodeId, Program};
use crate::bitmap::view::BitmapView;
use crate::catalog::{Catalog, TagType, Unit};
use crate::dictionary::{HashedId, hash_of};
use crate::error::ReadError;
use crate::ids::{TagId, shard_of};
use crate::segment::merge::number_view;
use crate::segment::{Key, Part, Segment};
use crate::store::{ShardSnapshot, Shown, Snapshot};
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::sync::Arc;

/// A predicate made ready for a snapshot.
#[derive(Debug)]
pub struct Plan<'s> {
    snapshot: &'s Snapshot,
    /// The nodes every shard's program has, operands first, the root last.
    shape: Vec<Shape>,
    /// The predicate each node stands for.
    meaning: Vec<Predicate>,
    /// Serialised slots of the users named one by one: per list of ids, per shard.
    named: Vec<Vec<Vec<u8>>>,
}

/// A node whatever the shard.
#[derive(Debug)]
enum Shape {
    Leaf(LeafOf),
    /// No leaf.
    Inner(Node<'static>),
}

/// Where a leaf's layers are found.
#[derive(Debug)]
enum LeafOf {
    Exists(TagId),
    Value {
        tag: TagId,
        is_set: bool,
        value: String,
    },
    InRange(TagId, NumberRange),
    Activity(Did),
    /// Index of a list of users named one by one.
    Named(usize),
    Given(Arc<Given>),
    /// Who is shown, or who is not: see [`Shown`].
    Shown,
    /// What a scan would find, of a plan that is only shown.
    Unread,
}

impl<'s> Plan<'s> {
    /// Looks up the users the predicate names; reads nothing else.
    ///
    /// # Panics
    /// If the predicate has scans or asks for similar users: [`super::ops::resolve`] comes first.
    ///
    /// # Errors
    /// [`ReadError`] if the dictionary is damaged.
    pub fn new(snapshot: &'s Snapshot, predicate: &Predicate) -> Result<Plan<'s>, ReadError> {
        assert!(!predicate.needs_scan(), "scans are resolved before a plan is made");
        Plan::sketch(snapshot, predicate)
    }

    /// The same to be shown, with scans that found nobody yet.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub(super) fn sketch(snapshot: &'s Snapshot, predicate: &Predicate) -> Result<Plan<'s>, ReadError> {
        let mut lists = Vec::new();
        collect_named(predicate, &mut lists);
        let named = lists.iter().map(|ids| look_up(snapshot, ids)).collect::<Result<_, _>>()?;
        let mut builder = Builder {
            catalog: snapshot.catalog(),
            lists,
            shape: Vec::new(),
            meaning: Vec::new(),
            built: HashMap::new(),
        };
        let root = builder.node(predicate);
        let root = builder.shown_of(root, predicate, snapshot);
        if root.0 as usize + 1 != builder.shape.len() {
            // The root is the last node; an equal one came earlier.
            builder.push(Shape::Inner(Node::And(vec![root])), predicate.clone());
        }
        Ok(Plan { snapshot, shape: builder.shape, meaning: builder.meaning, named })
    }

    /// The program of one shard; its root is the predicate.
    ///
    /// # Errors
    /// [`ReadError`] if a posting is damaged.
    pub fn program(&self, shard: usize) -> Result<Program<'_>, ReadError> {
        let layers = self.snapshot.shards()[shard].layers();
        let mut program = Program::new();
        for node in &self.shape {
            program.push(match node {
                Shape::Inner(node) => node.clone(),
                Shape::Leaf(LeafOf::Exists(tag)) => Node::Leaf(exclusive(layers, *tag, Part::Exists)?),
                Shape::Leaf(LeafOf::Value { tag, is_set, value }) => {
                    Node::Leaf(value_layers(layers, *is_set, *tag, value.as_bytes())?)
                }
                Shape::Leaf(LeafOf::InRange(tag, range)) => Node::Leaf(range_layers(layers, *tag, *range)?),
                Shape::Leaf(LeafOf::Activity(did)) => Node::Sum(activity::sum_of(layers, did)?),
                Shape::Leaf(LeafOf::Named(list)) => given_leaf(&self.named[*list][shard]),
                Shape::Leaf(LeafOf::Given(given)) => given_leaf(&given.slots[shard]),
                Shape::Leaf(LeafOf::Shown) => match self.snapshot.shards()[shard].shown() {
                    Shown::Only(users) | Shown::Without(users) => given_leaf(users),
                    Shown::All => unreachable!("shards of a snapshot are of one kind"),
                },
                Shape::Leaf(LeafOf::Unread) => Node::Leaf(vec![Layer { mask: Mask::All, value: LayerValue::Empty }]),
            });
        }
        Ok(program)
    }

    /// The predicate each node of the programs stands for.
    pub(super) fn meaning(&self) -> &[Predicate] {
        &self.meaning
    }
}

/// A leaf of slots that we serialised.
fn given_leaf(slots: &[u8]) -> Node<'_> {
    Node::Leaf(vec![Layer { mask: Mask::All, value: LayerValue::Bitmap(BitmapView::trusted(slots)) }])
}

fn collect_named<'p>(predicate: &'p Predicate, lists: &mut Vec<&'p [String]>) {
    match predicate {
        Predicate::Users(ids) if !lists.contains(&ids.as_slice()) => lists.push(ids),
        Predicate::And(of) | Predicate::Or(of) | Predicate::AtLeast(_, of) => {
            of.iter().for_each(|operand| collect_named(operand, lists));
        }
        Predicate::Xor(a, b) => {
            collect_named(a, lists);
            collect_named(b, lists);
        }
        Predicate::Not(of) => collect_named(of, lists),
        _ => {}
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

struct Builder<'b> {
    catalog: &'b Catalog,
    lists: Vec<&'b [String]>,
    shape: Vec<Shape>,
    meaning: Vec<Predicate>,
    built: HashMap<Predicate, NodeId>,
}

impl Builder<'_> {
    fn push(&mut self, node: Shape, meaning: Predicate) -> NodeId {
        self.meaning.push(meaning);
        self.shape.push(node);
        NodeId(self.shape.len() as u32 - 1)
    }

    fn node(&mut self, predicate: &Predicate) -> NodeId {
        if let Some(built) = self.built.get(predicate) {
            return *built;
        }
        let node = self.make(predicate);
        let id = self.push(node, predicate.clone());
        self.built.insert(predicate.clone(), id);
        id
    }

    /// Those of a node's users that the snapshot shows.
    fn shown_of(&mut self, root: NodeId, predicate: &Predicate, snapshot: &Snapshot) -> NodeId {
        let Some(shown) = snapshot.shards().first().map(ShardSnapshot::shown) else { return root };
        let mut leaf = || self.push(Shape::Leaf(LeafOf::Shown), Predicate::All);
        let node = match shown {
            Shown::All => return root,
            Shown::Only(_) => Node::And(vec![root, leaf()]),
            Shown::Without(_) => Node::AndNot(root, leaf()),
        };
        self.push(Shape::Inner(node), predicate.clone())
    }

    fn nodes(&mut self, of: &[Predicate]) -> Vec<NodeId> {
        of.iter().map(|operand| self.node(operand)).collect()
    }

    fn make(&mut self, predicate: &Predicate) -> Shape {
        Shape::Inner(match predicate {
            Predicate::All => return Shape::Leaf(LeafOf::Exists(TagId::UNIVERSE)),
            Predicate::Flag(tag) | Predicate::Known(tag) => return Shape::Leaf(LeafOf::Exists(*tag)),
            Predicate::InRange(tag, range) => return Shape::Leaf(LeafOf::InRange(*tag, *range)),
            Predicate::Did(did) => return Shape::Leaf(LeafOf::Activity(did.clone())),
            Predicate::Scan(_) | Predicate::Similar(_) => return Shape::Leaf(LeafOf::Unread),
            Predicate::Given(given) => self.known_of(LeafOf::Given(Arc::clone(given)), predicate),
            Predicate::HasAny(tag, values) => match values.as_slice() {
                [value] => {
                    let is_set = self.is_set(*tag);
                    return Shape::Leaf(LeafOf::Value { tag: *tag, is_set, value: value.clone() });
                }
                values => {
                    let one = |value: &String| Predicate::HasAny(*tag, vec![value.clone()]);
                    Node::Or(values.iter().map(|value| self.node(&one(value))).collect())
                }
            },
            Predicate::Listed(list) => {
                let leaf = LeafOf::Value { tag: TagId::UPLOADS, is_set: true, value: list.clone() };
                self.known_of(leaf, predicate)
            }
            Predicate::Users(ids) => {
                let list = self.lists.iter().position(|list| list == ids).expect("collected before");
                self.known_of(LeafOf::Named(list), predicate)
            }
            Predicate::Nobody => Node::Or(Vec::new()),
            Predicate::And(of) => self.and(of),
            Predicate::Or(of) => Node::Or(self.nodes(of)),
            Predicate::Xor(a, b) => Node::Xor(self.node(a), self.node(b)),
            Predicate::AtLeast(k, of) => Node::AtLeast(*k, self.nodes(of)),
            Predicate::Not(of) => Node::AndNot(self.node(&Predicate::All), self.node(of)),
        })
    }

    /// What is excluded is taken off what is left, instead of taken from everybody first.
    fn and(&mut self, of: &[Predicate]) -> Node<'static> {
        let (excluded, wanted): (Vec<&Predicate>, Vec<&Predicate>) =
            of.iter().partition(|operand| matches!(operand, Predicate::Not(_)));
        let wanted: Vec<Predicate> = wanted.into_iter().cloned().collect();
        let excluded: Vec<Predicate> = excluded.into_iter().cloned().map(Predicate::negate).collect();
        if excluded.is_empty() {
            return Node::And(self.nodes(&wanted));
        }
        let wanted = match wanted.len() {
            0 => self.node(&Predicate::All),
            1 => self.node(&wanted[0]),
            _ => self.node(&Predicate::And(wanted)),
        };
        let excluded = match excluded.len() {
            1 => self.node(&excluded[0]),
            _ => self.node(&Predicate::Or(excluded)),
        };
        Node::AndNot(wanted, excluded)
    }

    /// The known users of a leaf that may name others.
    fn known_of(&mut self, leaf: LeafOf, meaning: &Predicate) -> Node<'static> {
        let leaf = self.push(Shape::Leaf(leaf), meaning.clone());
        Node::And(vec![leaf, self.node(&Predicate::All)])
    }

    fn is_set(&self, tag: TagId) -> bool {
        self.catalog.tags().any(|(_, known)| known.id == tag && known.tag_type == TagType::Set)
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
        Predicate::Did(did) => {
            let layers = shards.iter().flat_map(|shard| shard.layers());
            layers.map(|segment| activity::estimate(segment, did)).sum::<u64>().min(all())
        }
        // Whoever fits has some event in the time; the rows are not looked at.
        Predicate::Scan(scan) => of(&Predicate::Did(scan.superset())),
        Predicate::Similar(similar) => similar.extent.at_most(of(&similar.within)),
        Predicate::Given(given) => given.count(),
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
        Predicate::Did(did) => activity::describe(did, catalog),
        Predicate::Scan(scan) => scanned::describe(scan, catalog),
        Predicate::Similar(similar) => similar::describe_similar(similar, catalog),
        Predicate::Given(given) => match &given.by {
            Some(Found::Scan(scan, _)) => scanned::describe(scan, catalog),
            Some(Found::Similar(similar, _)) => similar::describe_similar(similar, catalog),
            None => format!("{} given users", given.count()),
        },
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
