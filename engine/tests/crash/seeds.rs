//! Many histories, one after the other.

use crate::history::{History, Trouble};
use crate::rows::OpenTables;

/// How many histories are tried: what the variable says, or the default.
pub(crate) fn seeds(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|count| count.parse().ok()).unwrap_or(default)
}

/// Runs a history of each seed; each kind of trouble has a salt of its own, so that no two share histories.
pub(crate) fn try_seeds(seeds: u64, trouble: Trouble, salt: u64, open_tables: OpenTables) {
    try_each(seeds, |seed| History::new(seed ^ salt << 32, trouble, open_tables).run());
}

/// Runs a history whose n-th call fails, for every n, or for one in so many.
pub(crate) fn try_failing_calls(seeds: u64, salt: u64, one_in: usize, open_tables: OpenTables) {
    let trouble = Trouble { may_fail: true, fact_changes: true, ..Trouble::default() };
    try_each(seeds, |seed| {
        for lasting in [false, true] {
            let history = || History::new(seed ^ salt << 32, trouble, open_tables);
            let reached = (1..).step_by(one_in).take_while(|call| history().run_failing_at(*call, lasting));
            assert!(reached.count() > 20, "a history has many calls");
        }
    });
}

/// A seed says all that happens: a failure can be seen again.
pub(crate) fn try_twice(trouble: Trouble, salt: u64, open_tables: OpenTables) {
    try_each(3, |seed| {
        let run = || {
            let history = History::new(seed ^ salt << 32, trouble, open_tables);
            let vfs = history.vfs.clone();
            history.run();
            let names: Vec<_> = vfs.files().into_iter().map(|(path, _)| path).collect();
            (vfs.calls(), names)
        };
        assert_eq!(run(), run());
    });
}

fn try_each(seeds: u64, history: impl Fn(u64) + Sync) {
    // One thread, so that a seed always gives the same order of calls.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    for seed in 0..seeds {
        let run = || pool.install(|| history(seed));
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
            eprintln!("the history of seed {seed} fails");
            std::panic::resume_unwind(panic);
        }
    }
}
