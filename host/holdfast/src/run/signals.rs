//! What ends a run.

use std::fmt;
use tokio_util::sync::CancellationToken;

/// Why the host stops.
pub enum Reason {
    Interrupted,
    Asked,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupted => "a signal",
            Self::Asked => "`holdfast` asked for it",
        })
    }
}

/// Waits for a signal or for the control socket.
pub async fn wait(asked: &CancellationToken) -> Reason {
    tokio::select! {
        () = received() => Reason::Interrupted,
        () = asked.cancelled() => Reason::Asked,
    }
}

/// Waits for a signal that asks this process to end.
#[cfg(unix)]
pub async fn received() {
    use tokio::signal::unix::{SignalKind, signal};
    // Without a handler the signal ends the process at once, which the store survives.
    let mut terminate = signal(SignalKind::terminate()).ok();
    let terminated = async {
        match &mut terminate {
            Some(terminate) => drop(terminate.recv().await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

/// Waits for Ctrl-C, or for Windows to end its service.
#[cfg(windows)]
pub async fn received() {
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = super::service::stop_asked() => {}
    }
}
