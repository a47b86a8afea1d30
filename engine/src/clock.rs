//! The seam to the wall clock. The engine never asks the system what time it is.

use std::sync::atomic::{AtomicI64, Ordering};

/// Tells the time, in microseconds since 1970.
pub trait Clock: std::fmt::Debug + Send + Sync {
    /// The present time; may jump.
    fn now(&self) -> i64;
}

/// A clock that shows what it is told.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock at this time.
    pub fn at(now: i64) -> ManualClock {
        ManualClock(AtomicI64::new(now))
    }

    /// From now on it shows this.
    pub fn set(&self, now: i64) {
        self.0.store(now, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}
