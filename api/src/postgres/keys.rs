//! Cancelling from another connection: by the number of the one that runs, and a secret that only its client was told.

use crate::error::Failure;
use crate::state::lock;
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

/// The connections that are open.
#[derive(Debug, Default)]
pub(super) struct Keys {
    open: Mutex<HashMap<i32, Arc<Key>>>,
    last: AtomicI32,
}

/// That of a connection. Its client is told; gone with the connection.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) number: i32,
    pub(super) secret: i32,
    running: Mutex<Option<CancellationToken>>,
}

/// Gives a key free when dropped.
#[derive(Debug)]
pub(super) struct OpenKey {
    keys: Arc<Keys>,
    pub(super) key: Arc<Key>,
}

impl Drop for OpenKey {
    fn drop(&mut self) {
        lock(&self.keys.open).remove(&self.key.number);
    }
}

impl Keys {
    /// A key for a connection.
    ///
    /// # Errors
    /// If the operating system gives no random numbers.
    pub(super) fn open(self: &Arc<Self>) -> Result<OpenKey, Failure> {
        let mut secret = [0; 4];
        let filled = SystemRandom::new().fill(&mut secret);
        filled.map_err(|_| Failure::internal("the operating system gives no random numbers"))?;
        let mut open = lock(&self.open);
        // Numbers come round some day.
        let number = loop {
            let number = self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            if !open.contains_key(&number) {
                break number;
            }
        };
        let key = Arc::new(Key { number, secret: i32::from_be_bytes(secret), running: Mutex::default() });
        open.insert(number, Arc::clone(&key));
        Ok(OpenKey { keys: Arc::clone(self), key })
    }

    /// Cancels what runs on a connection. Nobody is told whether there was something.
    pub(super) fn cancel(&self, number: i32, secret: i32) {
        let key = lock(&self.open).get(&number).map(Arc::clone);
        let running = key.filter(|key| key.secret == secret).and_then(|key| lock(&key.running).clone());
        if let Some(running) = running {
            running.cancel();
        }
    }
}

impl Key {
    /// What runs from now on.
    pub(super) fn runs(&self, what: Option<CancellationToken>) {
        *lock(&self.running) = what;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_knows_the_secret_cancels() {
        let keys = Arc::new(Keys::default());
        let open = keys.open().expect("a key");
        let running = CancellationToken::new();
        open.key.runs(Some(running.clone()));
        let (number, secret) = (open.key.number, open.key.secret);
        keys.cancel(number, secret.wrapping_add(1));
        keys.cancel(number + 1, secret);
        assert!(!running.is_cancelled());
        keys.cancel(number, secret);
        assert!(running.is_cancelled());
        drop(open);
        keys.cancel(number, secret);
        assert!(lock(&keys.open).is_empty());
    }
}
