//! How figures are taken.
//!
//! A figure is a ratio of two ways of doing the same work on the same data, measured in turns in one process, so that it
//! holds when the machine's speed drifts. Both ways must give the same answer, or there is no figure.

pub mod folder;
pub mod peer;
pub mod population;
pub mod random;
pub mod rows;
pub mod server;

use std::fmt::Debug;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Two ways compared.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    /// Median time of our way.
    pub ours: Duration,
    /// Median time of the peer's way.
    pub peer: Duration,
    /// Median of the turns' peer time over our time: how many times as fast we are.
    pub times: f64,
}

/// Runs both ways in turns for about `budget` (at least seven turns each) after a warm-up.
///
/// # Panics
/// If the answers differ.
pub fn compare<T: PartialEq + Debug>(
    budget: Duration,
    mut ours: impl FnMut() -> T,
    mut peer: impl FnMut() -> T,
) -> Ratio {
    assert_eq!(ours(), peer(), "both ways answer the same");
    let begun = Instant::now();
    let (mut our_times, mut peer_times, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    while our_times.len() < 7 || begun.elapsed() < budget {
        let ours = timed(&mut ours);
        let peer = timed(&mut peer);
        our_times.push(ours);
        peer_times.push(peer);
        ratios.push(peer.as_secs_f64() / ours.as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    Ratio { ours: median(&mut our_times), peer: median(&mut peer_times), times: ratios[ratios.len() / 2] }
}

fn timed<T>(work: &mut impl FnMut() -> T) -> Duration {
    let begun = Instant::now();
    black_box(work());
    begun.elapsed()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The time below which this share of the times lies; sorts them.
pub fn percentile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * share).round() as usize]
}

/// Whether the command line asks for this figure: it names a part of its title, or nothing at all.
pub fn is_asked(title: &str) -> bool {
    let mut parts = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    parts.peek().is_none() || parts.any(|part| title.contains(&part))
}

/// Prints a row: what, our time, the peer's, the ratio.
pub fn row(what: &str, ratio: &Ratio) {
    println!("{what:<52} {:>11.1?} {:>11.1?} {:>8.2}x", ratio.ours, ratio.peer, ratio.times);
}

/// The most memory this process has had resident, in bytes; 0 where the system does not tell.
pub fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Begins [`peak_memory_bytes`] anew, where the system lets it.
pub fn reset_peak_memory() {
    // Linux: 5 resets the high-water mark.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// A number set in the environment, or its default.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.replace('_', "").parse().ok()).unwrap_or(default)
}
