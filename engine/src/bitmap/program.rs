//! An expression over layered leaves, as a graph whose shared nodes are evaluated once a chunk.

use super::bsi::{NumberRange, NumberView};
use super::view::BitmapView;

/// Index of a node in its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// One layer of a leaf: the users it decides (`mask`, and always those of `value`), and which of them are in.
#[derive(Clone, Debug)]
pub struct Layer<'a> {
    /// The users this layer decides besides those in `value`.
    pub mask: Mask<'a>,
    /// The users in the set, as far as this layer decides.
    pub value: LayerValue<'a>,
}

/// The users a layer decides besides those in its value.
#[derive(Clone, Debug)]
pub enum Mask<'a> {
    /// All that no newer layer decided: the bottom layer.
    All,
    /// The union of these bitmaps (often one or none).
    Bitmaps(Vec<BitmapView<'a>>),
}

/// What a layer says.
#[derive(Clone, Debug)]
pub enum LayerValue<'a> {
    /// Nobody.
    Empty,
    /// These users.
    Bitmap(BitmapView<'a>),
    /// The users whose number is in the range. Those with a number out of it are decided by this layer too.
    InRange(NumberView<'a>, NumberRange),
}

/// Numbers of many users that add up: bit slices at their places.
#[derive(Clone, Debug, Default)]
pub struct SumOf<'a> {
    /// What is added, in any order.
    pub terms: Vec<Term<'a>>,
    /// The sums wanted; never holds 0, so that users in no term are out.
    pub range: NumberRange,
}

/// 2^`bit` for each of some users.
#[derive(Clone, Copy, Debug)]
pub struct Term<'a> {
    /// At most 126.
    pub bit: u8,
    /// Taken off instead of added.
    pub is_negative: bool,
    /// The users.
    pub users: BitmapView<'a>,
}

/// A node of a program.
#[derive(Clone, Debug)]
pub enum Node<'a> {
    /// `result |= value & open; open &= !(mask | value)`, walking layers newest first.
    Leaf(Vec<Layer<'a>>),
    /// Users whose sum is in the range.
    Sum(SumOf<'a>),
    /// Members of all of at least one operand.
    And(Vec<NodeId>),
    /// Members of any; no operands: nobody.
    Or(Vec<NodeId>),
    /// Members of the first and not of the second.
    AndNot(NodeId, NodeId),
    /// Members of exactly one.
    Xor(NodeId, NodeId),
    /// Members of at least `k` of the operands; an operand may be listed twice and then counts twice.
    AtLeast(u32, Vec<NodeId>),
}

impl Node<'_> {
    /// The operands, in order.
    pub fn operands(&self) -> Vec<NodeId> {
        match self {
            Node::Leaf(_) | Node::Sum(_) => Vec::new(),
            Node::And(of) | Node::Or(of) | Node::AtLeast(_, of) => of.clone(),
            Node::AndNot(a, b) | Node::Xor(a, b) => vec![*a, *b],
        }
    }
}

/// A graph of nodes; operands come before the nodes that use them, the root is last.
#[derive(Clone, Debug, Default)]
pub struct Program<'a> {
    nodes: Vec<Node<'a>>,
}

impl<'a> Program<'a> {
    /// A program without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node; the node added last is the root.
    ///
    /// # Panics
    /// If an operand is not there yet.
    pub fn push(&mut self, node: Node<'a>) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        assert!(node.operands().iter().all(|operand| *operand < id), "operands come before the nodes that use them");
        self.nodes.push(node);
        id
    }

    /// The nodes, operands first.
    pub fn nodes(&self) -> &[Node<'a>] {
        &self.nodes
    }
}
