//! The machine's clock, for an engine that never asks for the time itself.

use engine::clock::Clock;
use std::time::{SystemTime, UNIX_EPOCH};

/// Shows what the machine's clock shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    /// 1970 if the machine's clock stands before it.
    fn now(&self) -> i64 {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX)
    }
}
