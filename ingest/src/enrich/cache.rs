//! What was found, for a while.
//!
//! The key that was used longest ago goes first when there are too many keys, or too many bytes. A value is kept for its time
//! counted from when it was found, however often it is used: what changes on the other side is seen after that time.

use super::definition::CachePolicy;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

/// Bytes of the keys and values of one cache at most.
pub(super) const CACHE_BYTES_MAX: usize = 256 << 20;

/// Bytes that an entry takes besides its key and value, about.
const ENTRY_BYTES: usize = 128;

#[derive(Debug)]
pub(super) struct Cache {
    policy: CachePolicy,
    entries: LruCache<Arc<str>, Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    /// `None`: the key is not known.
    value: Option<Arc<str>>,
    until: Instant,
}

impl Cache {
    pub(super) fn new(policy: CachePolicy) -> Cache {
        // One that is bounded lazily: a table of the full size is not taken before it is needed.
        Cache { policy, entries: LruCache::unbounded(), bytes: 0 }
    }

    /// What is known of a key, if that is still good.
    pub(super) fn get(&mut self, key: &str, now: Instant) -> Option<Option<Arc<str>>> {
        let entry = self.entries.get(key)?;
        if now < entry.until {
            return Some(entry.value.clone());
        }
        self.remove(key);
        None
    }

    /// Keeps what was found of a key.
    pub(super) fn put(&mut self, key: Arc<str>, value: Option<Arc<str>>, now: Instant) {
        let ttl = if value.is_some() { self.policy.ttl } else { self.policy.missing_ttl };
        if ttl.is_zero() {
            return;
        }
        self.remove(&key);
        self.bytes += size(&key, value.as_deref());
        self.entries.put(key, Entry { value, until: now + ttl });
        while self.entries.len() > self.capacity().get() || self.bytes > CACHE_BYTES_MAX {
            let Some((key, entry)) = self.entries.pop_lru() else { break };
            self.bytes -= size(&key, entry.value.as_deref());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn capacity(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.policy.entries).unwrap_or(NonZeroUsize::MIN)
    }

    fn remove(&mut self, key: &str) {
        if let Some((key, entry)) = self.entries.pop_entry(key) {
            self.bytes -= size(&key, entry.value.as_deref());
        }
    }
}

fn size(key: &str, value: Option<&str>) -> usize {
    ENTRY_BYTES + key.len() + value.map_or(0, str::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn policy(entries: usize) -> CachePolicy {
        CachePolicy { entries, ttl: Duration::from_secs(10), missing_ttl: Duration::from_secs(3) }
    }

    /// A list of everything, the key used last at its end.
    #[derive(Default)]
    struct Naive(Vec<(String, Option<String>, u64)>);

    impl Naive {
        fn get(&mut self, key: &str, now: u64) -> Option<Option<String>> {
            let at = self.0.iter().position(|(known, ..)| known == key)?;
            let entry = self.0.remove(at);
            if now >= entry.2 {
                return None;
            }
            self.0.push(entry);
            self.0.last().map(|(_, value, _)| value.clone())
        }

        fn put(&mut self, key: &str, value: Option<String>, now: u64, entries: usize) {
            self.0.retain(|(known, ..)| known != key);
            let until = now + if value.is_some() { 10 } else { 3 };
            self.0.push((key.to_owned(), value, until));
            if self.0.len() > entries {
                self.0.remove(0);
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_a_list_of_what_was_used_last(
            entries in 1_usize..5,
            steps in prop::collection::vec((0_u64..4, 0_usize..8, prop::option::of(prop::option::of("[a-c]"))), 0..200),
        ) {
            let (mut cache, mut naive, begin, mut second) = (Cache::new(policy(entries)), Naive::default(), Instant::now(), 0);
            for (passed, key, put) in steps {
                second += passed;
                let (key, now) = (format!("k{key}"), begin + Duration::from_secs(second));
                match put {
                    None => prop_assert_eq!(
                        cache.get(&key, now).map(|value| value.map(|value| value.to_string())),
                        naive.get(&key, second)
                    ),
                    Some(value) => {
                        cache.put(key.as_str().into(), value.as_deref().map(Arc::from), now);
                        naive.put(&key, value, second, entries);
                    }
                }
                prop_assert_eq!(cache.len(), naive.0.len());
                let bytes: usize =
                    naive.0.iter().map(|(key, value, _)| size(key, value.as_deref())).sum();
                prop_assert_eq!(cache.bytes, bytes);
            }
        }
    }

    #[test]
    fn it_is_bounded_in_bytes() {
        let (mut cache, now) = (Cache::new(policy(usize::MAX)), Instant::now());
        let value: Arc<str> = "x".repeat(4 << 20).into();
        for key in 0..100 {
            cache.put(key.to_string().into(), Some(value.clone()), now);
            assert!(cache.bytes <= CACHE_BYTES_MAX);
        }
        assert!(cache.len() > 50 && cache.get("99", now).is_some() && cache.get("0", now).is_none());
    }
}
