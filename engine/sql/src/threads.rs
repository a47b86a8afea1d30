//! Threads that read tables, apart from those that serve connections.

use std::io;
use tokio::runtime::{Handle, Runtime};

/// Stack of a thread. DataFusion joins conditions one by one, however they were told, and walks down what it made: so deep as
/// there may be conditions. What is not used takes no memory.
const STACK_BYTES: usize = 32 << 20;
/// Threads that may wait for somebody, at most: each part of a table that is read has one, also while nobody takes its rows. They are made
/// when they are needed.
const WAITING_MAX: usize = 8192;
/// Threads, at least.
const COUNT_MIN: usize = 2;

/// Threads of one purpose. Dropping them does not wait: what still runs was cancelled, or nobody asks about it any more.
#[derive(Debug)]
pub(crate) struct Threads {
    count: usize,
    /// There until it is dropped.
    runtime: Option<Runtime>,
}

impl Threads {
    /// As many as there are processors; `name` is what the operating system shows.
    ///
    /// # Errors
    /// What the operating system says, if it gives none.
    pub(crate) fn new(name: &str) -> io::Result<Threads> {
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).max(COUNT_MIN);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(count)
            .thread_name(name)
            .thread_stack_size(STACK_BYTES)
            .max_blocking_threads(WAITING_MAX)
            .enable_all()
            .build()?;
        Ok(Threads { count, runtime: Some(runtime) })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Where work is given to them.
    pub(crate) fn handle(&self) -> &Handle {
        self.runtime.as_ref().expect("there until it is dropped").handle()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting here would panic within another runtime.
            runtime.shutdown_background();
        }
    }
}
