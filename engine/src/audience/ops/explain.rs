//! How a predicate is answered: the program as a tree, with estimates, and with what each node did.

use super::resolve::{resolve, restrictions};
use super::{QueryContext, QueryError};
use crate::audience::plan::{Plan, describe, estimate};
use crate::audience::predicate::Predicate;
use crate::audience::scan::{Found, Scan, ScanStats};
use crate::audience::similar::SimilarStats;
use crate::bitmap::evaluate::{Evaluator, NodeRecord};
use crate::bitmap::program::Node;
use crate::lookalike::recall::Probed;
use crate::lookalike::seeds::Method;
use crate::store::Snapshot;
use std::collections::BTreeMap;
use std::fmt;

/// A node of an explained plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanNode {
    /// The operator: `and`, `or`, `and-not`, `xor`, `at-least`, `bitmap`, `range`, `activity`, `scan`, `similar`.
    pub operator: String,
    /// What it is of, in the language's words: `gender = 'f'`.
    pub detail: String,
    /// At most so many members, by the key directories.
    pub estimate: u64,
    /// What a run found; `None` without `analyze`.
    pub actual: Option<NodeStats>,
    /// What a scan came to; without `analyze` only the users it is restricted to, at most.
    pub scan: Option<ScanStats>,
    /// How users like others are searched for; what that came to with `analyze`.
    pub similar: Option<SimilarNode>,
    /// Operands, by rising estimate: the order they are evaluated in, chunk by chunk by their true size there.
    pub inputs: Vec<PlanNode>,
}

/// How users like others are searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimilarNode {
    /// Vectors are scanned in full precision, since that was asked for; else a byte a dimension, and full precision only where
    /// error bounds do not decide.
    pub exact: bool,
    /// How likeness is learned, if that was asked for; else whichever way finds hidden users of the seed best.
    pub method: Option<Method>,
    /// With `analyze`.
    pub stats: Option<SimilarStats>,
}

/// What a node did in a run, summed over shards. A node that several others use did it once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// Members found; of a node that was only asked about the candidates left by others, those among them.
    pub members: u64,
    /// Chunks evaluated.
    pub chunks_visited: u64,
    /// Chunks not read because another operand ruled them out, or because the node has nothing there.
    pub chunks_skipped: u64,
    /// Container bytes read or probed.
    pub bytes_touched: u64,
    /// Time in the node and its operands, by the `clock` given.
    pub nanoseconds: u64,
}

/// The plan of a predicate; with `analyze`, a monotonic clock in nanoseconds, it is run (on one thread) and measured.
///
/// # Errors
/// [`QueryError`].
pub fn explain(
    snapshot: &Snapshot,
    predicate: &Predicate,
    analyze: Option<fn() -> u64>,
    context: &QueryContext,
) -> Result<PlanNode, QueryError> {
    let (resolved, restricted);
    let plan = match analyze {
        Some(_) => {
            (resolved, restricted) = (resolve(snapshot, predicate, context)?, BTreeMap::new());
            Plan::new(snapshot, &resolved)?
        }
        None => {
            restricted = restrictions(snapshot, predicate, context)?;
            Plan::sketch(snapshot, predicate)?
        }
    };
    let mut records: Vec<NodeRecord> = Vec::new();
    let mut chunks = 0;
    if let Some(clock) = analyze {
        for shard in 0..snapshot.shards().len() {
            let program = plan.program(shard)?;
            let mut evaluator = Evaluator::new(&program);
            evaluator.record(clock);
            for chunk in evaluator.chunks() {
                context.check()?;
                evaluator.count(chunk);
                chunks += 1;
            }
            records.resize(program.nodes().len(), NodeRecord::default());
            for (sum, record) in records.iter_mut().zip(evaluator.records()) {
                sum.members += record.members;
                sum.chunks_visited += record.chunks_visited;
                sum.bytes_touched += record.bytes_touched;
                sum.nanoseconds += record.nanoseconds;
            }
        }
    }
    let program = plan.program(0)?;
    let tree =
        Tree { snapshot, nodes: program.nodes(), meaning: plan.meaning(), restricted, records: &records, chunks };
    Ok(tree.node(program.nodes().len() - 1))
}

struct Tree<'t> {
    snapshot: &'t Snapshot,
    nodes: &'t [Node<'t>],
    meaning: &'t [Predicate],
    restricted: BTreeMap<Scan, u64>,
    records: &'t [NodeRecord],
    chunks: u64,
}

impl Tree<'_> {
    fn node(&self, index: usize) -> PlanNode {
        let meaning = &self.meaning[index];
        let scan = match meaning {
            Predicate::Scan(scan) => {
                Some(ScanStats { users_within: self.restricted.get(scan).copied(), ..ScanStats::default() })
            }
            Predicate::Given(given) => match &given.by {
                Some(Found::Scan(_, stats)) => Some(*stats),
                _ => None,
            },
            _ => None,
        };
        let similar = similar_node(meaning).filter(|_| matches!(self.nodes[index], Node::Leaf(_)));
        let operator = match &self.nodes[index] {
            Node::Leaf(_) if matches!(meaning, Predicate::InRange(_, _)) => "range",
            Node::Leaf(_) if scan.is_some() => "scan",
            Node::Leaf(_) if similar.is_some() => "similar",
            Node::Leaf(_) => "bitmap",
            Node::Sum(_) => "activity",
            Node::And(_) => "and",
            Node::Or(_) => "or",
            Node::AndNot(_, _) => "and-not",
            Node::Xor(_, _) => "xor",
            Node::AtLeast(_, _) => "at-least",
        };
        let detail = match (&self.nodes[index], meaning) {
            (Node::Leaf(_), Predicate::All) => "everybody".to_owned(),
            (Node::Leaf(_) | Node::Sum(_), leaf) => describe(leaf, self.snapshot.catalog()),
            (_, Predicate::AtLeast(k, _)) => format!("{k} of {}", self.nodes[index].operands().len()),
            _ => String::new(),
        };
        let mut inputs: Vec<PlanNode> =
            self.nodes[index].operands().iter().map(|operand| self.node(operand.0 as usize)).collect();
        if matches!(self.nodes[index], Node::And(_)) {
            inputs.sort_by_key(|input| input.estimate);
        }
        PlanNode {
            operator: operator.to_owned(),
            detail,
            scan: scan.filter(|_| matches!(self.nodes[index], Node::Leaf(_))),
            similar,
            estimate: estimate(self.snapshot.shards(), meaning),
            actual: self.records.get(index).map(|record| NodeStats {
                members: record.members,
                chunks_visited: record.chunks_visited,
                chunks_skipped: self.chunks.saturating_sub(record.chunks_visited),
                bytes_touched: record.bytes_touched,
                nanoseconds: record.nanoseconds,
            }),
            inputs,
        }
    }
}

fn similar_node(meaning: &Predicate) -> Option<SimilarNode> {
    let (similar, stats) = match meaning {
        Predicate::Similar(similar) => (similar, None),
        Predicate::Given(given) => match &given.by {
            Some(Found::Similar(similar, stats)) => (similar, Some(*stats)),
            _ => return None,
        },
        _ => return None,
    };
    Some(SimilarNode { exact: similar.exact, method: similar.method, stats })
}

impl fmt::Display for SimilarNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.stats.map(|stats| stats.method), self.method) {
            (None, None) => f.write_str("the method that finds hidden users of the seed best")?,
            (Some(method), None) if self.stats.is_some_and(|stats| stats.was_tried) => {
                write!(f, "{method}, which found hidden users of the seed best")?;
            }
            (Some(method), None) => write!(f, "{method}: the seed is too small to hide some and try others")?,
            (_, Some(method)) => write!(f, "{method} as asked")?,
        }
        let Some(stats) = &self.stats else {
            return f.write_str(match self.exact {
                true => "; all vectors in full precision as asked",
                false => "; by cells, if few of many candidates are wanted, else by a scan",
            });
        };
        match (self.exact, stats.probed) {
            (true, _) => f.write_str("; all vectors in full precision as asked")?,
            (false, Some(Probed { cells, of, vectors })) => write!(
                f,
                "; {cells} of {of} cells and {vectors} vectors looked into, since few of many candidates are wanted"
            )?,
            (false, None) => write!(
                f,
                "; {} passes over a byte a dimension, which costs less than looking into cells, and full precision where that does not decide",
                stats.passes
            )?,
        }
        let SimilarStats { seed_users, seed_with_vector, candidates, rescored, .. } = stats;
        write!(
            f,
            "; {seed_with_vector} of {seed_users} users of the seed have a vector, {candidates} candidates, {rescored} vectors in full precision"
        )
    }
}

impl fmt::Display for PlanNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

impl PlanNode {
    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        write!(f, "{:indent$}{}", "", self.operator, indent = depth * 2)?;
        if !self.detail.is_empty() {
            write!(f, " {}", self.detail)?;
        }
        write!(f, "  (estimate {}", self.estimate)?;
        if let Some(actual) = &self.actual {
            write!(
                f,
                "; members {}, chunks {} visited, {} skipped, {} bytes, {} µs",
                actual.members,
                actual.chunks_visited,
                actual.chunks_skipped,
                actual.bytes_touched,
                actual.nanoseconds / 1_000
            )?;
        }
        if let Some(scan) = &self.scan {
            match scan.users_within {
                Some(users) => write!(f, "; among {users} users")?,
                None => write!(f, "; among all users")?,
            }
            if self.actual.is_some() {
                let ScanStats { rows_read, files, recent_rows, microseconds, .. } = scan;
                write!(f, ", {rows_read} rows of {files} files, {recent_rows} recent rows, {microseconds} µs")?;
            }
        }
        if let Some(similar) = &self.similar {
            write!(f, "; {similar}")?;
        }
        writeln!(f, ")")?;
        self.inputs.iter().try_for_each(|input| input.write(f, depth + 1))
    }
}
