//! Keeps the certificate that devices are shown in step with its files, without dropping a connection.

use holdfast_net::ServerTls;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often the files are looked at: a renewal is shown within this time, and two small files are read.
const LOOK: Duration = Duration::from_secs(60);

/// Looks at the files until `stop`.
pub async fn keep(tls: ServerTls, stop: CancellationToken) {
    let mut looks = interval(LOOK);
    // A machine that slept looks once.
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut faulty = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = looks.tick() => faulty = look(&tls, faulty),
        }
    }
}

/// Takes the files as they are now. Gives what is wrong with them, which is said when it begins.
fn look(tls: &ServerTls, before: Option<String>) -> Option<String> {
    match tls.reload() {
        Ok(true) => tracing::info!("a new certificate is shown to devices from now on"),
        Ok(false) => {}
        Err(fault) => {
            let fault = fault.to_string();
            // A certificate is replaced file by file; the next look finds both.
            if before.as_ref() != Some(&fault) {
                tracing::warn!(%fault, "the certificate that devices are shown cannot be read anew; the last one is shown on");
            }
            return Some(fault);
        }
    }
    None
}
