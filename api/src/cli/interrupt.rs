//! Ctrl-C as something to look at.

use crate::error::{Failure, Kind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set whenever Ctrl-C is pressed, which from now on does nothing else.
///
/// # Errors
/// [`Failure`] if the operating system gives no thread, or does not tell of the key.
pub(super) fn interrupted() -> Result<Arc<AtomicBool>, Failure> {
    let failed = |error: std::io::Error| Failure::new(Kind::LocalFile, format!("wait for Ctrl-C: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    // The thread may begin late, and the key be pressed before.
    let mut presses = {
        let _inside = runtime.enter();
        presses().map_err(failed)?
    };
    let interrupted = Arc::new(AtomicBool::new(false));
    let noticed = Arc::clone(&interrupted);
    let wait = move || {
        while runtime.block_on(presses.recv()).is_some() {
            noticed.store(true, Ordering::Relaxed);
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map_err(failed)?;
    Ok(interrupted)
}

#[cfg(unix)]
fn presses() -> std::io::Result<tokio::signal::unix::Signal> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
}

#[cfg(not(unix))]
fn presses() -> std::io::Result<tokio::signal::windows::CtrlC> {
    tokio::signal::windows::ctrl_c()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    /// The signal comes as soon as it is waited for, and the next one is noticed as well.
    #[test]
    fn a_key_pressed_at_once_is_noticed() {
        let interrupted = interrupted().expect("listens");
        for _ in 0..2 {
            // SAFETY: it takes no memory; what the signal does from now on is to be noticed.
            assert_eq!(unsafe { libc::raise(libc::SIGINT) }, 0);
            let deadline = Instant::now() + Duration::from_secs(30);
            while !interrupted.swap(false, Ordering::Relaxed) {
                assert!(Instant::now() < deadline, "nobody noticed it");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}
