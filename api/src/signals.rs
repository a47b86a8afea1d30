//! Ctrl-C and SIGTERM; and SIGHUP, which is to end nothing.
//!
//! They are listened to before the data directory is opened. That may take a while, and the first process of a container is not ended by
//! a signal that it does not listen to. Opening can be broken off at any moment, as by a kill.

use crate::error::Failure;
use crate::server::no_threads;
use std::future::Future;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use tokio::runtime::Builder;

/// Listens for being told to end.
pub struct Signals {
    told: Receiver<()>,
    is_awaited: Arc<AtomicBool>,
}

impl Signals {
    /// Listens from now on. Until [`Signals::wait`] is called, being told ends the process.
    ///
    /// # Errors
    /// The operating system's, if it gives no thread or no signals.
    pub fn listen() -> Result<Signals, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(no_threads)?;
        let signal = runtime.block_on(async { signal() }).map_err(no_threads)?;
        let (tell, told) = channel();
        let is_awaited = Arc::new(AtomicBool::new(false));
        let signals = Signals { told, is_awaited: Arc::clone(&is_awaited) };
        let listen = move || {
            runtime.block_on(signal);
            if !is_awaited.load(Ordering::Acquire) {
                eprintln!("stopped while the data directory was being opened");
                std::process::exit(0);
            }
            // Whoever waits has not gone.
            let _ = tell.send(());
        };
        std::thread::Builder::new().name("beluga-signals".into()).spawn(listen).map_err(no_threads)?;
        Ok(signals)
    }

    /// Waits until the process is told to end.
    pub fn wait(self) {
        self.is_awaited.store(true, Ordering::Release);
        // Only if the thread is gone there is nothing to come.
        let _ = self.told.recv();
    }
}

#[cfg(unix)]
fn signal() -> io::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Who runs without a terminal is told by it that files changed (`watched`), which ends nobody who watches none either. Once it is listened to
    // it does not end the process any more.
    if !io::stdin().is_terminal() {
        let _ = signal(SignalKind::hangup())?;
    }
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn signal() -> io::Result<impl Future<Output = ()> + Send> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
