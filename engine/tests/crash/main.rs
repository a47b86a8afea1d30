//! The store against a plain model through crashes: what was acknowledged is there, and nothing is made up.
//!
//! * [`model`]: users and tags as maps, and how a snapshot is read back to compare with them.
//! * [`history`]: random steps on a store whose process is killed, whose power is cut and whose disk fails, and the rules by
//!   which it is judged when it is opened again.
//!
//! * [`tables`]: tables of facts on the same simulated disk.
//! * [`ids`]: events by their ids, over days, restarts and damage.
//! * [`damage`]: flipped bits and files cut short.
//!
//! A failure prints its seed. `BELUGA_CRASH_SEEDS` sets how many are tried.

mod damage;
mod history;
mod ids;
mod model;
mod tables;
mod tap;

use history::{History, Trouble};

/// Histories tried when nothing else is said.
const SEEDS: u64 = 200;

fn seeds() -> u64 {
    std::env::var("BELUGA_CRASH_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(SEEDS)
}

fn try_seeds(trouble: Trouble, salt: u64) {
    try_each(seeds(), |seed| History::new(seed ^ salt << 32, trouble).run());
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

#[test]
fn restarts_change_nothing() {
    try_seeds(Trouble { kills: true, ..Trouble::default() }, 1);
}

#[test]
fn power_cuts_lose_nothing_acknowledged() {
    try_seeds(Trouble { power_cuts: true, ..Trouble::default() }, 2);
}

#[test]
fn power_cuts_after_kills_lose_nothing_shown() {
    try_seeds(Trouble { kills: true, power_cuts: true, ..Trouble::default() }, 3);
}

#[test]
fn a_failing_disk_ends_writes_and_loses_nothing_acknowledged() {
    try_seeds(Trouble { kills: true, power_cuts: true, faults: true, may_fail: true }, 4);
}

/// Whatever call it is that fails, once or for good.
#[test]
fn no_failing_call_loses_anything_acknowledged() {
    let trouble = Trouble { may_fail: true, ..Trouble::default() };
    try_each(seeds().div_ceil(100), |seed| {
        for lasting in [false, true] {
            let reached = (1..).take_while(|call| History::new(seed ^ 5 << 32, trouble).run_failing_at(*call, lasting));
            assert!(reached.count() > 20, "a history has many calls");
        }
    });
}
