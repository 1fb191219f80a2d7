//! The door for HTTP requests that modules answer: it listens, bounds connections, and hands them to the engine.

use holdfast_engine::HttpDoor;
use holdfast_net::Listener;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

/// Most connections at once; one more waits in the system's queue until another ends.
const CONNECTIONS_MAX: usize = 256;

/// Longest time for a handshake, and longest life of a connection.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(600);

/// Answers until `stop`.
pub async fn serve(listener: Listener, door: HttpDoor, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            () = stop.cancelled() => break,
            place = places.clone().acquire_owned() => place,
        };
        let incoming = tokio::select! {
            () = stop.cancelled() => break,
            incoming = listener.accept() => incoming,
        };
        while connections.try_join_next().is_some() {}
        let incoming = match incoming {
            Ok(incoming) => incoming,
            Err(error) => {
                tracing::error!(address = %listener.local(), %error, "HTTP requests cannot be taken any more");
                break;
            }
        };
        let door = door.clone();
        connections.spawn(async move {
            let _place = place;
            let Ok(stream) = incoming.handshake(HANDSHAKE_TIME_MAX).await else { return };
            let _ = timeout(CONNECTION_TIME_MAX, door.connection(Box::new(stream))).await;
        });
    }
    connections.shutdown().await;
}
