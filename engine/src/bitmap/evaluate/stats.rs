//! What an evaluation did, node by node; only when asked to record.

/// What a node did, over all chunks evaluated while recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeRecord {
    /// Members found; of a node that was only asked about candidates, those among them.
    pub members: u64,
    /// Chunks in which the node was evaluated or asked.
    pub chunks_visited: u64,
    /// Chunks evaluated in which the node was neither, because it has nobody there or other operands left nobody.
    pub chunks_skipped: u64,
    /// Bytes of the containers consulted (leaves only); probing a few candidates reads less of them.
    pub bytes_touched: u64,
    /// Time in the node and its operands.
    pub nanoseconds: u64,
}

/// Collects [`NodeRecord`]s.
#[derive(Debug)]
pub(crate) struct Recorder {
    clock: fn() -> u64,
    records: Vec<NodeRecord>,
    /// Whether the current chunk counts as visited already, by node.
    visited: Vec<bool>,
}

impl Recorder {
    pub(crate) fn new(clock: fn() -> u64, nodes: usize) -> Self {
        Recorder { clock, records: vec![NodeRecord::default(); nodes], visited: vec![false; nodes] }
    }

    pub(crate) fn begin_chunk(&mut self) {
        self.visited.fill(false);
        for record in &mut self.records {
            record.chunks_skipped += 1;
        }
    }

    pub(crate) fn enter(&mut self, node: usize, size_bytes: u64) -> u64 {
        let record = &mut self.records[node];
        if !std::mem::replace(&mut self.visited[node], true) {
            record.chunks_visited += 1;
            record.chunks_skipped -= 1;
            record.bytes_touched += size_bytes;
        }
        (self.clock)()
    }

    pub(crate) fn leave(&mut self, node: usize, started: u64, members: u32) {
        self.records[node].members += u64::from(members);
        self.records[node].nanoseconds += (self.clock)().saturating_sub(started);
    }

    pub(crate) fn records(&self) -> &[NodeRecord] {
        &self.records
    }
}
