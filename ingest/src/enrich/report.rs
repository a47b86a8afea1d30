//! How the look-ups of a source are.

use std::time::Duration;

/// How a look-up is. Counts are since the source was begun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookupReport {
    /// Its name.
    pub name: String,
    /// Records that had a key.
    pub lookups: u64,
    /// Of these, answered from the cache.
    pub cached: u64,
    /// Of these, those whose key was known.
    pub found: u64,
    /// Of these, those whose key was not known.
    pub missing: u64,
    /// Of these, those whose key could not be looked up, and that did not wait for it.
    pub failed: u64,
    /// Requests sent.
    pub requests: u64,
    /// Keys that were sent with them.
    pub keys: u64,
    /// Requests that failed or took too long.
    pub errors: u64,
    /// Requests in flight.
    pub in_flight: usize,
    /// Keys that wait for an answer.
    pub waiting: usize,
    /// Keys in the cache.
    pub cache_entries: usize,
    /// The other side failed so often that it is left alone for a while.
    pub is_resting: bool,
    /// The last failure; none once a request succeeded since.
    pub last_error: Option<String>,
    /// How long half of the requests took at most, and 99 of 100, in microseconds, to about a fifth of it; none before any was
    /// answered.
    pub latency_p50_us: Option<u64>,
    /// See [`LookupReport::latency_p50_us`].
    pub latency_p99_us: Option<u64>,
}

/// Steps of the histogram for each doubling.
const STEPS: u32 = 4;

/// Counts how long requests take: four buckets a doubling, from a microsecond to an hour.
#[derive(Clone, Debug)]
pub(super) struct Latencies([u64; 32 * STEPS as usize]);

impl Default for Latencies {
    fn default() -> Self {
        Latencies([0; 32 * STEPS as usize])
    }
}

impl Latencies {
    pub(super) fn note(&mut self, took: Duration) {
        let micros = took.as_micros().clamp(1, u128::from(u32::MAX)) as u32;
        let doubling = micros.ilog2();
        let within = ((u64::from(micros) * u64::from(STEPS)) >> doubling) as u32 - STEPS;
        self.0[(doubling * STEPS + within) as usize] += 1;
    }

    /// At most how many microseconds this share of them took: the upper bound of its bucket.
    pub(super) fn quantile(&self, share: f64) -> Option<u64> {
        let count: u64 = self.0.iter().sum();
        let wanted = ((count as f64 * share).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        let bucket = self.0.iter().position(|bucket| {
            seen += bucket;
            seen >= wanted
        })? as u32;
        let (doubling, within) = (bucket / STEPS, bucket % STEPS);
        Some(((u64::from(STEPS + within) + 1) << doubling) / u64::from(STEPS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        for micros in 1..=10_000 {
            latencies.note(Duration::from_micros(micros));
        }
        for (share, exact) in [(0.01, 100.0), (0.5, 5_000.0), (0.99, 9_900.0), (1.0, 10_000.0)] {
            let told = latencies.quantile(share).expect("some") as f64;
            assert!(told >= exact && told <= exact * 1.26, "{share}: {told}");
        }
        latencies.note(Duration::from_secs(100_000));
        latencies.note(Duration::ZERO);
        assert!(latencies.quantile(1.0) > Some(3_600_000_000));
        assert_eq!(latencies.quantile(0.0), Some(1));
    }
}
