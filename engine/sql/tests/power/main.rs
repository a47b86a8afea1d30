//! The store with its Delta tables on a simulated disk, against a plain model: kills, power cuts that take what was not
//! synced, torn writes, calls that fail.
//!
//! The histories and their judge are those of the engine's own crash tests; the tables behind them are the real ones, with
//! merges, removed files, days that leave, columns that come, and facts that are dropped and declared anew. After every start each
//! acknowledged event has its row, and none has two.
//!
//! A failure prints its seed. `BELUGA_DELTA_SEEDS` sets how many are tried.

#[expect(dead_code, reason = "the engine's tests of damaged files use the rest")]
#[path = "../../../tests/crash/history.rs"]
mod history;
#[path = "../../../tests/crash/model.rs"]
mod model;
#[path = "../../../tests/crash/rows.rs"]
mod rows;
#[path = "../../../tests/crash/seeds.rs"]
mod seeds;
mod tables;
#[path = "../../../tests/crash/tap.rs"]
mod tap;

use history::Trouble;
use seeds::{seeds, try_failing_calls, try_twice};

/// Histories of each kind tried when nothing else is said.
const SEEDS: u64 = 20;

fn try_seeds(trouble: Trouble, salt: u64) {
    let trouble = Trouble { fact_changes: true, short: true, ..trouble };
    seeds::try_seeds(seeds("BELUGA_DELTA_SEEDS", SEEDS), trouble, salt, tables::open);
}

#[test]
fn restarts_change_no_row() {
    try_seeds(Trouble { kills: true, ..Trouble::default() }, 11);
}

#[test]
fn power_cuts_lose_and_double_no_row() {
    try_seeds(Trouble { kills: true, power_cuts: true, ..Trouble::default() }, 12);
}

#[test]
fn a_failing_disk_loses_and_doubles_no_row() {
    try_seeds(Trouble { kills: true, power_cuts: true, faults: true, may_fail: true, ..Trouble::default() }, 13);
}

/// Whatever call it is that fails, once or for good: one in five, since all take minutes, unless more than usual is asked for.
#[test]
fn no_failing_call_loses_or_doubles_a_row() {
    let seeds = seeds("BELUGA_DELTA_SEEDS", SEEDS);
    let one_in = if seeds > SEEDS { 1 } else { 5 };
    try_failing_calls(seeds.div_ceil(1_000), 14, one_in, tables::open);
}

#[test]
fn a_seed_gives_one_history() {
    let trouble =
        Trouble { kills: true, power_cuts: true, faults: true, may_fail: true, fact_changes: true, short: true };
    try_twice(trouble, 13, tables::open);
}
