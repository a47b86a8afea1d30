//! Runs a program a chunk at a time.
//!
//! Before a chunk is evaluated, an upper bound of every node's members is taken from the containers' cardinalities,
//! which touches no container. Then:
//!
//! * a node whose bound is zero is never looked at;
//! * an AND begins with its smallest operand; while few candidates are left, the other operands, whatever they are, are only
//!   asked about these candidates (`sift`); while there are many, it works on whole words;
//! * what is only counted is not made: the last step of the root counts straight over two containers;
//! * a node that several others use is evaluated once a chunk.

use super::kernels;
use super::program::{Node, NodeId, Program};
use super::scratch::{CHUNK_LEN, ChunkSet, Pool, Value, and_into, and_not_into, or_into, remove_all, xor_into};
use super::stack::{SPARSE_LEN_MAX, Stack, sift_set};
use super::view::{BitmapView, Container, Le16, Words};

/// What a node did, over all chunks evaluated while recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeRecord {
    /// Members found; of a node that was only asked about candidates, those among them.
    pub members: u64,
    /// Chunks in which the node was evaluated or asked.
    pub chunks_visited: u64,
    /// Container bytes read or probed (leaves only).
    pub bytes_touched: u64,
    /// Time in the node and its operands.
    pub nanoseconds: u64,
}

/// Evaluates one program, chunk by chunk, with scratch memory of its own; one per thread.
#[derive(Debug)]
pub struct Evaluator<'p, 'a> {
    program: &'p Program<'a>,
    /// Layers of the leaves, by node.
    stacks: Vec<Option<Stack<'a>>>,
    /// Whether several nodes use this one.
    shared: Vec<bool>,
    scratch: Scratch<'a>,
}

#[derive(Debug)]
struct Scratch<'a> {
    pool: Pool,
    /// Upper bounds of this chunk, by node.
    bounds: Vec<u32>,
    /// Results of shared nodes in this chunk.
    kept: Vec<Option<Value<'a>>>,
    root: Option<Value<'a>>,
    recorder: Option<Recorder>,
}

#[derive(Debug)]
struct Recorder {
    clock: fn() -> u64,
    nodes: Vec<NodeRecord>,
}

impl<'a> Scratch<'a> {
    /// The set behind a value.
    fn set<'s>(&'s self, value: &'s Value<'a>) -> ChunkSet<'s> {
        match value {
            Value::Borrowed(set) => *set,
            Value::Array(array) if array.is_empty() => ChunkSet::Empty,
            Value::Array(array) => ChunkSet::Some(Container::Array(array)),
            Value::Words(words) => ChunkSet::Some(Container::Words(words)),
            Value::Shared(node) => self.set(self.kept[*node].as_ref().expect("a shared result is kept for its chunk")),
        }
    }

    /// An array of the value's positions that may be changed.
    fn into_array(&mut self, value: Value<'a>) -> Vec<Le16> {
        match value {
            Value::Array(array) => array,
            Value::Borrowed(set) => self.pool.array_from(set),
            value => {
                let mut pool = std::mem::take(&mut self.pool);
                let array = pool.array_from(self.set(&value));
                self.pool = pool;
                self.pool.give(value);
                array
            }
        }
    }

    /// Words of the value's positions that may be changed.
    fn into_words(&mut self, value: Value<'a>) -> Box<Words> {
        match value {
            Value::Words(words) => words,
            Value::Borrowed(set) => self.pool.words_of(set),
            value => {
                let mut pool = std::mem::take(&mut self.pool);
                let words = pool.words_of(self.set(&value));
                self.pool = pool;
                self.pool.give(value);
                words
            }
        }
    }

    /// Changes `words` by the set behind `value`, whose memory is taken back.
    fn combine(&mut self, words: &mut Words, value: Value<'a>, change: fn(&mut Words, ChunkSet<'_>)) {
        change(words, self.set(&value));
        self.pool.give(value);
    }
}

impl<'p, 'a> Evaluator<'p, 'a> {
    /// An evaluator of `program`.
    ///
    /// # Panics
    /// If the program has no node.
    pub fn new(program: &'p Program<'a>) -> Self {
        let count = program.nodes().len();
        assert!(count > 0, "a program has a root");
        let mut uses = vec![0u32; count];
        for node in program.nodes() {
            node.operands().iter().for_each(|operand| uses[operand.0 as usize] += 1);
        }
        let stack = |node: &Node<'a>| match node {
            Node::Leaf(layers) => Some(Stack::new(layers)),
            _ => None,
        };
        Evaluator {
            program,
            stacks: program.nodes().iter().map(stack).collect(),
            // A plain leaf costs nothing to evaluate again.
            shared: program
                .nodes()
                .iter()
                .zip(uses)
                .map(|(node, uses)| uses > 1 && !matches!(node, Node::Leaf(layers) if layers.len() == 1))
                .collect(),
            scratch: Scratch {
                pool: Pool::default(),
                bounds: vec![0; count],
                kept: (0..count).map(|_| None).collect(),
                root: None,
                recorder: None,
            },
        }
    }

    /// Records from now on what each node does; `clock` is monotonic, in nanoseconds.
    pub fn record(&mut self, clock: fn() -> u64) {
        let nodes = vec![NodeRecord::default(); self.program.nodes().len()];
        self.scratch.recorder = Some(Recorder { clock, nodes });
    }

    /// What each node did since [`Evaluator::record`]; empty without it.
    pub fn records(&self) -> &[NodeRecord] {
        self.scratch.recorder.as_ref().map_or(&[], |recorder| &recorder.nodes)
    }

    /// Rising chunks outside of which the root has no members.
    pub fn chunks(&self) -> Vec<u16> {
        let mut of_node: Vec<Vec<u16>> = Vec::with_capacity(self.stacks.len());
        for (node, stack) in self.program.nodes().iter().zip(&self.stacks) {
            let union = |ids: &[NodeId]| ids.iter().flat_map(|id| of_node[id.0 as usize].iter().copied()).collect();
            let mut chunks: Vec<u16> = match node {
                Node::Leaf(_) => stack.as_ref().map(Stack::chunks).unwrap_or_default(),
                Node::And(of) => {
                    let mut rest = of.iter().map(|id| &of_node[id.0 as usize]);
                    let mut common = rest.next().cloned().unwrap_or_default();
                    rest.for_each(|other| common.retain(|chunk| other.binary_search(chunk).is_ok()));
                    common
                }
                Node::Or(of) | Node::AtLeast(_, of) => union(of),
                Node::AndNot(a, _) => of_node[a.0 as usize].clone(),
                Node::Xor(a, b) => union(&[*a, *b]),
            };
            chunks.sort_unstable();
            chunks.dedup();
            of_node.push(chunks);
        }
        of_node.pop().unwrap_or_default()
    }

    /// Members of the root in all chunks.
    pub fn count_all(&mut self) -> u64 {
        if self.scratch.recorder.is_none()
            && let Some(count) = self.count_pair()
        {
            return count;
        }
        self.chunks().into_iter().map(|chunk| u64::from(self.count(chunk))).sum()
    }

    /// Two plain bitmaps are counted by one walk over their containers.
    fn count_pair(&self) -> Option<u64> {
        let (root, operands) = self.program.nodes().split_last()?;
        let plain = |id: &NodeId| self.stacks[id.0 as usize].as_ref()?.plain();
        let (a, b) = match root {
            Node::Leaf(_) => return Some(self.stacks[operands.len()].as_ref()?.plain()?.len()),
            Node::And(of) | Node::Or(of) if of.len() == 2 => (plain(&of[0])?, plain(&of[1])?),
            Node::AndNot(a, b) | Node::Xor(a, b) => (plain(a)?, plain(b)?),
            _ => return None,
        };
        Some(match root {
            Node::And(_) => common_len(a, b),
            Node::Or(_) => a.len() + b.len() - common_len(a, b),
            Node::AndNot(_, _) => a.len() - common_len(a, b),
            _ => a.len() + b.len() - 2 * common_len(a, b),
        })
    }

    /// Members of the root in this chunk, counted without making the set where that can be avoided.
    pub fn count(&mut self, chunk: u16) -> u32 {
        let root = self.begin(chunk);
        let graph = Graph { program: self.program, stacks: &self.stacks, shared: &self.shared, chunk };
        graph.count(&mut self.scratch, root)
    }

    /// Members of the root in this chunk.
    pub fn members(&mut self, chunk: u16) -> ChunkSet<'_> {
        let root = self.begin(chunk);
        let graph = Graph { program: self.program, stacks: &self.stacks, shared: &self.shared, chunk };
        let value = graph.evaluate(&mut self.scratch, root);
        self.scratch.root = Some(value);
        self.scratch.root.as_ref().map_or(ChunkSet::Empty, |value| self.scratch.set(value))
    }

    /// Forgets the last chunk and takes the bounds of this one; answers the root.
    fn begin(&mut self, chunk: u16) -> NodeId {
        let scratch = &mut self.scratch;
        for value in scratch.kept.iter_mut().chain([&mut scratch.root]).filter_map(Option::take) {
            scratch.pool.give(value);
        }
        for (index, node) in self.program.nodes().iter().enumerate() {
            let of = |id: &NodeId| scratch.bounds[id.0 as usize];
            scratch.bounds[index] = match node {
                Node::Leaf(_) => self.stacks[index].as_ref().map_or(0, |stack| stack.bound(chunk)),
                Node::And(operands) => operands.iter().map(of).min().unwrap_or(0),
                Node::Or(operands) => operands.iter().map(of).sum::<u32>().min(CHUNK_LEN),
                Node::AndNot(a, _) => of(a),
                Node::Xor(a, b) => (of(a) + of(b)).min(CHUNK_LEN),
                Node::AtLeast(k, operands) => {
                    let total: u64 = operands.iter().map(|id| u64::from(of(id))).sum();
                    (total / u64::from((*k).max(1))).min(CHUNK_LEN.into()) as u32
                }
            };
        }
        NodeId(self.program.nodes().len() as u32 - 1)
    }
}

/// Slots in both bitmaps.
pub fn common_len(a: BitmapView<'_>, b: BitmapView<'_>) -> u64 {
    let (mut i, mut j, mut found) = (0, 0, 0);
    let (a_count, b_count) = (a.container_count(), b.container_count());
    while i < a_count && j < b_count {
        let (a_key, b_key) = (a.key(i), b.key(j));
        if a_key == b_key {
            found += u64::from(kernels::common_count(a.container(i), b.container(j)));
        }
        i += usize::from(a_key <= b_key);
        j += usize::from(b_key <= a_key);
    }
    found
}

/// The program at one chunk.
struct Graph<'e, 'a> {
    program: &'e Program<'a>,
    stacks: &'e [Option<Stack<'a>>],
    shared: &'e [bool],
    chunk: u16,
}

impl<'a> Graph<'_, 'a> {
    fn node(&self, id: NodeId) -> &Node<'a> {
        &self.program.nodes()[id.0 as usize]
    }

    fn stack(&self, id: NodeId) -> &Stack<'a> {
        self.stacks[id.0 as usize].as_ref().expect("a leaf has layers")
    }

    /// Operands by rising bound.
    fn ordered(&self, scratch: &Scratch<'a>, operands: &[NodeId]) -> Vec<NodeId> {
        let mut ordered = operands.to_vec();
        ordered.sort_by_key(|id| scratch.bounds[id.0 as usize]);
        ordered
    }

    fn count(&self, scratch: &mut Scratch<'a>, id: NodeId) -> u32 {
        let bound = |scratch: &Scratch<'a>, id: NodeId| scratch.bounds[id.0 as usize];
        if bound(scratch, id) == 0 {
            return 0;
        }
        let begun = self.begin_record(scratch, id);
        let count = match self.node(id) {
            Node::And(operands) if operands.len() > 1 && bound(scratch, id) > SPARSE_LEN_MAX => {
                let mut ordered = self.ordered(scratch, operands);
                let last = ordered.pop().expect("more than one operand");
                let rest = self.and(scratch, &ordered);
                self.count_common(scratch, rest, last)
            }
            Node::AndNot(a, b) => {
                let a = self.evaluate(scratch, *a);
                let all = scratch.set(&a).len();
                all - self.count_common(scratch, a, *b)
            }
            Node::Or(operands) if operands.len() == 2 => {
                let (a, b) = (self.evaluate(scratch, operands[0]), self.evaluate(scratch, operands[1]));
                let (x, y) = (scratch.set(&a), scratch.set(&b));
                let count = x.len() + y.len() - x.common_count(&y);
                scratch.pool.give(a);
                scratch.pool.give(b);
                count
            }
            Node::Leaf(_) => match self.stack(id).plain() {
                Some(_) => self.stack(id).bound(self.chunk),
                None => self.evaluate_len(scratch, id),
            },
            _ => self.evaluate_len(scratch, id),
        };
        self.end_record(scratch, id, begun, count);
        count
    }

    fn evaluate_len(&self, scratch: &mut Scratch<'a>, id: NodeId) -> u32 {
        let value = self.compute(scratch, id);
        let len = scratch.set(&value).len();
        scratch.pool.give(value);
        len
    }

    /// `|value ∩ node|`; takes the value's memory back.
    fn count_common(&self, scratch: &mut Scratch<'a>, value: Value<'a>, id: NodeId) -> u32 {
        let set = scratch.set(&value);
        let sparse = matches!(set, ChunkSet::Some(Container::Array(array)) if array.len() <= SPARSE_LEN_MAX as usize);
        let count = if set.is_empty_now() || scratch.bounds[id.0 as usize] == 0 {
            0
        } else if sparse && !matches!(self.node(id), Node::Leaf(_)) {
            let mut candidates = scratch.into_array(value);
            self.sift(scratch, id, &mut candidates);
            let count = candidates.len() as u32;
            scratch.pool.give_array(candidates);
            return count;
        } else {
            let other = self.evaluate(scratch, id);
            let count = scratch.set(&value).common_count(&scratch.set(&other));
            scratch.pool.give(other);
            count
        };
        scratch.pool.give(value);
        count
    }

    /// The members of a node; kept if several nodes use it.
    fn evaluate(&self, scratch: &mut Scratch<'a>, id: NodeId) -> Value<'a> {
        let index = id.0 as usize;
        if scratch.bounds[index] == 0 {
            return Value::Borrowed(ChunkSet::Empty);
        }
        if scratch.kept[index].is_some() {
            return Value::Shared(index);
        }
        let begun = self.begin_record(scratch, id);
        let value = self.compute(scratch, id);
        if begun.is_some() {
            let members = scratch.set(&value).len();
            self.end_record(scratch, id, begun, members);
        }
        if self.shared[index] {
            scratch.kept[index] = Some(value);
            return Value::Shared(index);
        }
        value
    }

    fn compute(&self, scratch: &mut Scratch<'a>, id: NodeId) -> Value<'a> {
        match self.node(id) {
            Node::Leaf(_) => self.stack(id).evaluate(&mut scratch.pool, self.chunk),
            Node::And(operands) => {
                let ordered = self.ordered(scratch, operands);
                self.and(scratch, &ordered)
            }
            Node::Or(operands) => self.or(scratch, id, operands),
            Node::AndNot(a, b) => self.and_not(scratch, *a, *b),
            Node::Xor(a, b) => {
                let a = self.evaluate(scratch, *a);
                let mut words = scratch.into_words(a);
                let b = self.evaluate(scratch, *b);
                scratch.combine(&mut words, b, xor_into);
                Value::Words(words)
            }
            Node::AtLeast(k, operands) => self.at_least(scratch, *k, operands),
        }
    }

    /// The intersection of operands in rising order of bound.
    fn and(&self, scratch: &mut Scratch<'a>, ordered: &[NodeId]) -> Value<'a> {
        let Some((first, rest)) = ordered.split_first() else { return Value::Borrowed(ChunkSet::Empty) };
        let mut value = self.evaluate(scratch, *first);
        for (index, id) in rest.iter().enumerate() {
            let set = scratch.set(&value);
            if set.is_empty_now() {
                return value;
            }
            if let ChunkSet::Some(Container::Array(array)) = set
                && array.len() <= SPARSE_LEN_MAX as usize
            {
                return self.sift_all(scratch, value, &rest[index..]);
            }
            value = self.and_dense(scratch, value, *id);
        }
        value
    }

    /// Asks the operands in turn about the few candidates left.
    fn sift_all(&self, scratch: &mut Scratch<'a>, value: Value<'a>, operands: &[NodeId]) -> Value<'a> {
        let mut candidates = scratch.into_array(value);
        for id in operands {
            if candidates.is_empty() {
                break;
            }
            self.sift(scratch, *id, &mut candidates);
        }
        Value::Array(candidates)
    }

    /// One step of an intersection whose candidates are many; becomes an array when few are left.
    fn and_dense(&self, scratch: &mut Scratch<'a>, value: Value<'a>, id: NodeId) -> Value<'a> {
        let other = self.evaluate(scratch, id);
        let (words, left) = match (scratch.set(&value), scratch.set(&other)) {
            (_, ChunkSet::Full) => {
                scratch.pool.give(other);
                return value;
            }
            (ChunkSet::Full, _) => {
                scratch.pool.give(value);
                return other;
            }
            (ChunkSet::Some(Container::Array(_)), _) => {
                let mut array = scratch.into_array(value);
                let mut pool = std::mem::take(&mut scratch.pool);
                sift_set(&mut pool, &mut array, scratch.set(&other));
                scratch.pool = pool;
                scratch.pool.give(other);
                return Value::Array(array);
            }
            (ChunkSet::Some(Container::Words(_)), ChunkSet::Some(Container::Words(_))) => {
                self.and_words(scratch, value, other)
            }
            _ => {
                let mut words = scratch.into_words(value);
                scratch.combine(&mut words, other, and_into);
                let left = kernels::count(&words);
                (words, left)
            }
        };
        if left <= SPARSE_LEN_MAX {
            let array = scratch.pool.array_from(ChunkSet::Some(Container::Words(&words)));
            scratch.pool.give_words(words);
            return Value::Array(array);
        }
        Value::Words(words)
    }

    /// `value & other`, both words; answers how many are left.
    fn and_words(&self, scratch: &mut Scratch<'a>, value: Value<'a>, other: Value<'a>) -> (Box<Words>, u32) {
        let (mut words, left);
        if let Value::Words(own) = value {
            words = own;
            let ChunkSet::Some(Container::Words(b)) = scratch.set(&other) else { unreachable!("other is words") };
            left = kernels::and_assign(&mut words, b);
        } else {
            words = scratch.pool.words_unspecified();
            let (a, b) = (scratch.set(&value), scratch.set(&other));
            let (ChunkSet::Some(Container::Words(a)), ChunkSet::Some(Container::Words(b))) = (a, b) else {
                unreachable!("both are words")
            };
            left = kernels::and_into(&mut words, a, b);
        }
        scratch.pool.give(other);
        (words, left)
    }

    fn or(&self, scratch: &mut Scratch<'a>, id: NodeId, operands: &[NodeId]) -> Value<'a> {
        let mut present = operands.iter().filter(|id| scratch.bounds[id.0 as usize] > 0);
        let (first, more) = (present.next(), present.next().is_some());
        match first {
            None => return Value::Borrowed(ChunkSet::Empty),
            Some(only) if !more => return self.evaluate(scratch, *only),
            Some(_) => {}
        }
        if scratch.bounds[id.0 as usize] <= SPARSE_LEN_MAX {
            let mut union = scratch.pool.array();
            for id in operands {
                let value = self.evaluate(scratch, *id);
                union.extend(scratch.set(&value).iter().map(u16::to_le_bytes));
                scratch.pool.give(value);
            }
            union.sort_unstable_by_key(|position| u16::from_le_bytes(*position));
            union.dedup();
            return Value::Array(union);
        }
        let mut words = scratch.pool.words();
        for id in operands {
            let value = self.evaluate(scratch, *id);
            if matches!(scratch.set(&value), ChunkSet::Full) {
                scratch.pool.give_words(words);
                return value;
            }
            scratch.combine(&mut words, value, or_into);
        }
        Value::Words(words)
    }

    fn and_not(&self, scratch: &mut Scratch<'a>, a: NodeId, b: NodeId) -> Value<'a> {
        let value = self.evaluate(scratch, a);
        let set = scratch.set(&value);
        if scratch.bounds[b.0 as usize] == 0 || set.is_empty_now() {
            return value;
        }
        if let ChunkSet::Some(Container::Array(array)) = set
            && array.len() <= SPARSE_LEN_MAX as usize
        {
            let mut rest = scratch.into_array(value);
            let mut out = scratch.pool.array_of(&rest);
            self.sift(scratch, b, &mut out);
            remove_all(&mut rest, &out);
            scratch.pool.give_array(out);
            return Value::Array(rest);
        }
        let mut words = scratch.into_words(value);
        let other = self.evaluate(scratch, b);
        scratch.combine(&mut words, other, and_not_into);
        Value::Words(words)
    }

    /// Counts members in bit-sliced counters: plane `i` holds bit `i` of each position's count.
    fn at_least(&self, scratch: &mut Scratch<'a>, k: u32, operands: &[NodeId]) -> Value<'a> {
        if k == 0 {
            return Value::Borrowed(ChunkSet::Full);
        }
        let mut planes: Vec<Box<Words>> = Vec::new();
        for id in operands {
            let value = self.evaluate(scratch, *id);
            let array = match scratch.set(&value) {
                ChunkSet::Empty => continue,
                ChunkSet::Some(Container::Array(array)) => Some(array),
                _ => None,
            };
            if let Some(array) = array {
                for position in array {
                    count_one(&mut planes, u16::from_le_bytes(*position));
                }
                scratch.pool.give(value);
                continue;
            }
            let mut carry = scratch.into_words(value);
            let mut left = true;
            for plane in &mut planes {
                left = kernels::add_carry(plane, &mut carry);
                if !left {
                    break;
                }
            }
            if left {
                planes.push(carry);
            } else {
                scratch.pool.give_words(carry);
            }
        }
        let mut words = scratch.pool.words_unspecified();
        words.fill([0xff; 8]);
        let slices: Vec<Option<&Words>> = planes.iter().map(|plane| Some(&**plane)).collect();
        let enough = if u64::from(k) >> planes.len() > 0 {
            super::bsi::Bounds::Nobody
        } else {
            super::bsi::Bounds::Between { low: Some(k.into()), high: None }
        };
        enough.restrict(&mut words, &slices);
        planes.into_iter().for_each(|plane| scratch.pool.give_words(plane));
        Value::Words(words)
    }

    /// Keeps of the rising `candidates` those that are members of the node.
    fn sift(&self, scratch: &mut Scratch<'a>, id: NodeId, candidates: &mut Vec<Le16>) {
        let index = id.0 as usize;
        if scratch.bounds[index] == 0 || candidates.is_empty() {
            return candidates.clear();
        }
        if let Some(kept) = &scratch.kept[index] {
            let mut pool = std::mem::take(&mut scratch.pool);
            sift_set(&mut pool, candidates, scratch.set(kept));
            scratch.pool = pool;
            return;
        }
        let begun = self.begin_record(scratch, id);
        match self.node(id) {
            Node::Leaf(_) => self.stack(id).sift(&mut scratch.pool, self.chunk, candidates),
            Node::And(operands) => {
                for id in self.ordered(scratch, operands) {
                    self.sift(scratch, id, candidates);
                }
            }
            Node::Or(operands) => self.sift_or(scratch, operands, candidates),
            Node::AndNot(a, b) => {
                self.sift(scratch, *a, candidates);
                let out = self.sifted(scratch, *b, candidates);
                remove_all(candidates, &out);
                scratch.pool.give_array(out);
            }
            Node::Xor(a, b) => {
                let a = self.sifted(scratch, *a, candidates);
                let b = self.sifted(scratch, *b, candidates);
                candidates.retain(|position| {
                    let within = |array: &[Le16]| {
                        array.binary_search_by_key(&u16::from_le_bytes(*position), |p| u16::from_le_bytes(*p)).is_ok()
                    };
                    within(&a) != within(&b)
                });
                scratch.pool.give_array(a);
                scratch.pool.give_array(b);
            }
            Node::AtLeast(k, operands) => self.sift_at_least(scratch, *k, operands, candidates),
        }
        let members = candidates.len() as u32;
        self.end_record(scratch, id, begun, members);
    }

    /// The candidates that are members, leaving `candidates` as they are.
    fn sifted(&self, scratch: &mut Scratch<'a>, id: NodeId, candidates: &[Le16]) -> Vec<Le16> {
        let mut members = scratch.pool.array_of(candidates);
        self.sift(scratch, id, &mut members);
        members
    }

    /// Operands in falling order of bound, each asked only about those nobody has claimed yet.
    fn sift_or(&self, scratch: &mut Scratch<'a>, operands: &[NodeId], candidates: &mut Vec<Le16>) {
        let mut open = std::mem::replace(candidates, scratch.pool.array());
        for id in self.ordered(scratch, operands).into_iter().rev() {
            if open.is_empty() || scratch.bounds[id.0 as usize] == 0 {
                break;
            }
            let members = self.sifted(scratch, id, &open);
            remove_all(&mut open, &members);
            candidates.extend_from_slice(&members);
            scratch.pool.give_array(members);
        }
        scratch.pool.give_array(open);
        candidates.sort_unstable_by_key(|position| u16::from_le_bytes(*position));
    }

    fn sift_at_least(&self, scratch: &mut Scratch<'a>, k: u32, operands: &[NodeId], candidates: &mut Vec<Le16>) {
        let mut counts = vec![0u32; candidates.len()];
        for id in operands {
            let members = self.sifted(scratch, *id, candidates);
            let mut at = 0;
            for position in &members {
                while candidates[at] != *position {
                    at += 1;
                }
                counts[at] += 1;
            }
            scratch.pool.give_array(members);
        }
        let mut counts = counts.iter();
        candidates.retain(|_| counts.next().is_some_and(|count| *count >= k));
    }

    fn begin_record(&self, scratch: &Scratch<'a>, _id: NodeId) -> Option<u64> {
        scratch.recorder.as_ref().map(|recorder| (recorder.clock)())
    }

    fn end_record(&self, scratch: &mut Scratch<'a>, id: NodeId, begun: Option<u64>, members: u32) {
        let (Some(begun), Some(recorder)) = (begun, &mut scratch.recorder) else { return };
        let now = (recorder.clock)();
        let record = &mut recorder.nodes[id.0 as usize];
        record.members += u64::from(members);
        record.chunks_visited += 1;
        record.nanoseconds += now.saturating_sub(begun);
        if let Some(stack) = &self.stacks[id.0 as usize] {
            record.bytes_touched += stack.size_bytes(self.chunk);
        }
    }
}

/// Adds one to the count of one position.
fn count_one(planes: &mut Vec<Box<Words>>, position: u16) {
    for plane in planes.iter_mut() {
        if kernels::bit(plane, position) == 0 {
            return kernels::set_bit(plane, position);
        }
        kernels::clear_bit(plane, position);
    }
    let mut plane = Box::new([[0; 8]; 1024]);
    kernels::set_bit(&mut plane, position);
    planes.push(plane);
}

impl ChunkSet<'_> {
    /// Whether it is known to be empty without counting.
    fn is_empty_now(&self) -> bool {
        matches!(self, ChunkSet::Empty) || matches!(self, ChunkSet::Some(Container::Array([])))
    }
}
