//! SIGINT and SIGTERM: the first one asks, the second one ends the process at once. SIGHUP: not for servers.

use mdalp::Interrupt;

/// Completes at the first signal. Call it inside the runtime.
#[cfg(unix)]
pub(crate) fn first() -> impl Future<Output = Interrupt> {
    use mdalp::Interrupt::{Interrupted, Terminated};
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::flag;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use tokio::signal::unix::{SignalKind, signal};

    let asked = Arc::new(AtomicBool::new(false));
    for (number, code) in [(SIGINT, 130), (SIGTERM, 143)] {
        // In this order: the first signal finds the flag down, and puts it up. This works even
        // while the program hangs in a write to a pipe that nobody reads.
        let _ = flag::register_conditional_shutdown(number, code, Arc::clone(&asked));
        let _ = flag::register(number, Arc::clone(&asked));
    }
    let (int, term) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async move {
        let (Ok(mut int), Ok(mut term)) = (int, term) else { return std::future::pending().await };
        tokio::select! {
            _ = int.recv() => Interrupted,
            _ = term.recv() => Terminated,
        }
    }
}

/// Completes at the first Ctrl-C.
#[cfg(not(unix))]
pub(crate) async fn first() -> Interrupt {
    match tokio::signal::ctrl_c().await {
        Ok(()) => Interrupt::Interrupted,
        Err(_) => std::future::pending().await,
    }
}

/// Lets SIGHUP pass for as long as the process lives: a server outlives the terminal that it was started from,
/// and has no settings to read again. Call it inside the runtime.
#[cfg(unix)]
pub(crate) fn ignore_hangups() {
    use tokio::signal::unix::{SignalKind, signal};

    let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            tracing::info!("SIGHUP ignored: nothing is read again; SIGTERM ends a server in order");
        }
    });
}

/// Does nothing: there are no such signals.
#[cfg(not(unix))]
pub(crate) fn ignore_hangups() {}
