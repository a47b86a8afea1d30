//! `POST /v1/explain`: how a question is answered, as tree and as text.

use super::count::elapsed_us;
use super::expression::Where;
use super::lookalike::CellsAnswer;
use crate::error::Failure;
use crate::queries::Asks;
use crate::rest::asker::Asker;
use crate::rest::body::JsonBody;
use crate::rest::router::Answer;
use crate::state::AppState;
use axum::Json;
use axum::extract::State;
use engine::audience::ops::{self, NodeStats, PlanNode, QueryContext};
use engine::audience::scan::ScanStats;
use engine::audience::similar::SimilarStats;
use engine::store::Snapshot;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;
use std::time::Instant;

/// What to explain.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"where": "gender = 'f' AND age < 30", "analyze": true}))]
pub struct ExplainRequest {
    /// The question.
    pub r#where: Where,
    /// Run it as well, and measure.
    #[serde(default)]
    pub analyze: bool,
    /// Longest time, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A plan.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExplainAnswer {
    /// The question in canonical form.
    pub r#where: String,
    /// The plan's root.
    pub plan: Node,
    /// The same for people.
    pub text: String,
    /// Number of the view that was asked.
    pub epoch: u64,
    /// Time of the query itself, in microseconds.
    pub elapsed_us: u64,
}

/// A node of a plan.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Node {
    /// `and`, `or`, `leaf`, …
    pub operator: String,
    /// What it is of.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Estimated members.
    pub estimate: u64,
    /// What a run found; only with `analyze`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual: Option<Actual>,
    /// Of a search of events that no index covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<ScanNode>,
    /// Of users like others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similar: Option<SimilarNode>,
    /// Operands, in the order they are evaluated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(no_recursion)]
    pub inputs: Vec<Node>,
}

/// A search of a fact's events.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ScanNode {
    /// Users whose events are searched, those that everything else leaves; nothing: all. Without `analyze`, the most there
    /// can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users_within: Option<u64>,
    /// What was read; only with `analyze`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<ScanRead>,
}

/// What a search read.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ScanRead {
    /// Rows that the conditions left.
    pub rows: u64,
    /// Files of the fact's table that were opened; the others were ruled out by day, time or user.
    pub files: u64,
    /// Rows searched that are not in the table yet.
    pub recent_rows: u64,
    /// Time, in microseconds.
    pub elapsed_us: u64,
}

/// How users like others are found.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SimilarNode {
    /// How likeness is learned, as the audience language writes it; nothing: whichever way finds hidden users of the seed best,
    /// which is known with `analyze`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The method was asked for.
    pub method_is_asked: bool,
    /// All vectors are scanned in full precision, as asked; else a byte a dimension is, and full precision where that does not decide.
    pub exact: bool,
    /// What that came to; only with `analyze`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<SimilarFound>,
    /// The same for people.
    pub text: String,
}

/// What a search for users like others came to.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SimilarFound {
    /// Users of the seed.
    pub seed_users: u64,
    /// Those of them with a vector.
    pub seed_with_vector: u64,
    /// Users there were to choose from: with a vector, and fitting.
    pub candidates: u64,
    /// Vectors that were scored in full precision.
    pub rescored: u64,
    /// How often all candidates were scanned; not at all if cells were looked into.
    pub passes: u64,
    /// How they were looked into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cells: Option<CellsAnswer>,
}

/// What a node did in a run.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Actual {
    /// Members.
    pub members: u64,
    /// Chunks of 65,536 users evaluated.
    pub chunks_visited: u64,
    /// Chunks that another operand ruled out.
    pub chunks_skipped: u64,
    /// Bytes of bitmaps read.
    pub bytes_touched: u64,
    /// Time in the node and its operands, in microseconds, summed over threads.
    pub elapsed_us: f64,
}

impl From<PlanNode> for Node {
    fn from(node: PlanNode) -> Node {
        Node {
            operator: node.operator,
            detail: node.detail,
            scan: node.scan.map(|stats| ScanNode::of(stats, node.actual.is_some())),
            similar: node.similar.map(SimilarNode::from),
            estimate: node.estimate,
            actual: node.actual.map(Actual::from),
            inputs: node.inputs.into_iter().map(Node::from).collect(),
        }
    }
}

impl ScanNode {
    fn of(stats: ScanStats, is_run: bool) -> ScanNode {
        let ScanStats { rows_read: rows, files, recent_rows, users_within, microseconds: elapsed_us } = stats;
        ScanNode { users_within, read: is_run.then_some(ScanRead { rows, files, recent_rows, elapsed_us }) }
    }
}

impl From<ops::SimilarNode> for SimilarNode {
    fn from(node: ops::SimilarNode) -> SimilarNode {
        let method = node.method.or(node.stats.map(|stats| stats.method));
        SimilarNode {
            method: method.map(|method| method.to_string()),
            method_is_asked: node.method.is_some(),
            exact: node.exact,
            found: node.stats.map(SimilarFound::from),
            text: node.to_string(),
        }
    }
}

impl From<SimilarStats> for SimilarFound {
    fn from(stats: SimilarStats) -> SimilarFound {
        let SimilarStats {
            method: _,
            was_tried: _,
            seed_users,
            seed_with_vector,
            candidates,
            rescored,
            passes,
            probed,
        } = stats;
        let cells = probed.map(CellsAnswer::from);
        SimilarFound { seed_users, seed_with_vector, candidates, rescored, passes: passes.into(), cells }
    }
}

impl From<NodeStats> for Actual {
    fn from(stats: NodeStats) -> Actual {
        let NodeStats { members, chunks_visited, chunks_skipped, bytes_touched, nanoseconds } = stats;
        Actual { members, chunks_visited, chunks_skipped, bytes_touched, elapsed_us: nanoseconds as f64 / 1000.0 }
    }
}

/// Answers on a snapshot.
///
/// # Errors
/// [`Failure`] for the client.
pub fn answer(snapshot: &Snapshot, request: &ExplainRequest, context: &QueryContext) -> Result<ExplainAnswer, Failure> {
    let started = Instant::now();
    let bound = request.r#where.bind(snapshot, "/where")?;
    let clock: Option<fn() -> u64> = request.analyze.then_some(monotonic_nanoseconds);
    let plan = Node::from(ops::explain(snapshot, &bound.predicate, clock, context)?);
    let mut text = String::new();
    print(&plan, "", "", &mut text);
    let epoch = snapshot.epoch().0;
    Ok(ExplainAnswer { r#where: bound.text, plan, text, epoch, elapsed_us: elapsed_us(started) })
}

fn monotonic_nanoseconds() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_nanos() as u64
}

/// A line a node, operands below with a line to them.
fn print(node: &Node, first: &str, rest: &str, out: &mut String) {
    out.push_str(first);
    out.push_str(&node.operator);
    if !node.detail.is_empty() {
        out.push_str(&format!(" {}", node.detail));
    }
    out.push_str(&format!("  (estimate {}", node.estimate));
    if let Some(actual) = &node.actual {
        out.push_str(&format!(
            ", found {} in {:.1} µs, chunks {} visited {} skipped, {} bytes",
            actual.members, actual.elapsed_us, actual.chunks_visited, actual.chunks_skipped, actual.bytes_touched
        ));
    }
    if let Some(scan) = &node.scan {
        match scan.users_within {
            Some(users) => out.push_str(&format!(", among {users} users")),
            None => out.push_str(", among all users"),
        }
        if let Some(read) = &scan.read {
            let ScanRead { rows, files, recent_rows, elapsed_us } = read;
            out.push_str(&format!(": {rows} rows of {files} files, {recent_rows} recent rows, {elapsed_us} µs"));
        }
    }
    if let Some(similar) = &node.similar {
        out.push_str(&format!("; {}", similar.text));
    }
    out.push_str(")\n");
    for (index, input) in node.inputs.iter().enumerate() {
        let is_last = index + 1 == node.inputs.len();
        let (branch, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        print(input, &format!("{rest}{branch}"), &format!("{rest}{below}"), out);
    }
}

/// Explains how a question is answered.
#[utoipa::path(post, path = "/v1/explain", operation_id = "explain", tag = "questions", request_body = ExplainRequest,
    responses((status = 200, body = ExplainAnswer)))]
pub(in crate::rest) async fn post(
    State(state): State<AppState>,
    asker: Asker,
    JsonBody(request): JsonBody<ExplainRequest>,
) -> Answer<ExplainAnswer> {
    let (text, timeout_ms) = (request.r#where.told(), request.timeout_ms);
    let answered = asker.ask(&state, Asks::Explain, text, timeout_ms, move |snapshot, context, running| {
        let answer = answer(snapshot, &request, context)?;
        running.add_rows(1);
        Ok(answer)
    });
    answered.await.map(Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_a_tree() {
        let leaf = |detail: &str| Node {
            operator: "leaf".into(),
            detail: detail.into(),
            estimate: 2,
            actual: None,
            scan: None,
            similar: None,
            inputs: Vec::new(),
        };
        let or = Node { operator: "or".into(), inputs: vec![leaf("a"), leaf("b")], ..leaf("") };
        let and = Node { operator: "and".into(), inputs: vec![or, leaf("c")], ..leaf("") };
        let mut text = String::new();
        print(&and, "", "", &mut text);
        let expected = "and  (estimate 2)\n├─ or  (estimate 2)\n│  ├─ leaf a  (estimate 2)\n│  └─ leaf b  (estimate 2)\n└─ leaf c  (estimate 2)\n";
        assert_eq!(text, expected);
    }
}
