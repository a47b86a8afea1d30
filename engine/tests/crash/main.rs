//! The store against a plain model through crashes: what was acknowledged is there, and nothing is made up.
//!
//! * [`model`]: users and tags as maps, and how a snapshot is read back to compare with them.
//! * [`history`]: random steps on a store whose process is killed, whose power is cut and whose disk fails, and the rules by
//!   which it is judged when it is opened again.
//! * [`rows`], [`tables`]: tables of facts on the same simulated disk, as plain files. With Delta tables in their place the
//!   same histories are those of `engine-sql`.
//! * [`ids`]: events by their ids, over days, restarts and damage.
//! * [`damage`]: flipped bits and files cut short.
//!
//! A failure prints its seed. `BELUGA_CRASH_SEEDS` sets how many are tried.

mod damage;
mod history;
mod ids;
mod model;
mod rows;
mod seeds;
mod tables;
mod tap;

use history::Trouble;
use seeds::{seeds, try_failing_calls, try_twice};

const VARIABLE: &str = "BELUGA_CRASH_SEEDS";
/// Histories of each kind tried when nothing else is said.
const SEEDS: u64 = 200;

fn try_seeds(trouble: Trouble, salt: u64) {
    seeds::try_seeds(seeds(VARIABLE, SEEDS), Trouble { fact_changes: true, ..trouble }, salt, tables::open);
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
    try_seeds(Trouble { kills: true, power_cuts: true, faults: true, may_fail: true, ..Trouble::default() }, 4);
}

/// Whatever call it is that fails, once or for good.
#[test]
fn no_failing_call_loses_anything_acknowledged() {
    try_failing_calls(seeds(VARIABLE, SEEDS).div_ceil(100), 5, 1, tables::open);
}

#[test]
fn a_seed_gives_one_history() {
    let trouble =
        Trouble { kills: true, power_cuts: true, faults: true, may_fail: true, fact_changes: true, short: false };
    try_twice(trouble, 4, tables::open);
}
