//! Ctrl-C as something to look at.

use crate::error::{Failure, Kind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set whenever Ctrl-C is pressed, which from now on does nothing else.
///
/// # Errors
/// [`Failure`] if the operating system gives no thread.
pub(super) fn interrupted() -> Result<Arc<AtomicBool>, Failure> {
    let failed = |error: std::io::Error| Failure::new(Kind::LocalFile, format!("wait for Ctrl-C: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let noticed = Arc::clone(&interrupted);
    let wait = move || {
        while runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            noticed.store(true, Ordering::Relaxed);
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map_err(failed)?;
    Ok(interrupted)
}
