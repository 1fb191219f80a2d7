//! What is left of a connection when it has ended: the session, the will, and the last bytes of the client.

use crate::{
    connection::{Client, FAREWELL_TIME_MAX, Terms},
    end::End,
    hub,
    sessions::{Held, Kept},
    shared::Shared,
    wills::{self, UserWill},
};
use holdfast_auth::Cut;
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

/// Reads and forgets what the client still sends, until it closes. Bytes that nobody reads would make the system reset
/// the connection, and the client might never see why it ended.
pub(crate) async fn linger(reader: &mut (impl AsyncRead + Unpin)) {
    let mut forgotten = [0; 1024];
    let read = async { while matches!(reader.read(&mut forgotten).await, Ok(1..)) {} };
    // A client that does not close is closed.
    let _ = timeout(FAREWELL_TIME_MAX, read).await;
}

/// Leaves the session behind, or ends it, and says the will if the time has come.
pub(crate) fn leave(
    shared: &Shared,
    mut client: Client,
    held: Held,
    will: Option<UserWill>,
    terms: Terms,
    end: &End,
) {
    if let Some(hub) = client.hub.take() {
        // Of its session only the filters are kept, and they are on disk.
        hub::leave(&hub, will, end);
        drop(hub);
        drop(held);
        shared.count_sessions();
        return;
    }
    let expiry_s = match end {
        // Nobody comes back for it.
        End::Cut(Cut::Removed) => 0,
        End::Goodbye { session_expiry_s: Some(s), .. } if terms.session_expiry_s > 0 => {
            u64::from(*s).min(shared.limits.session_expiry_max.as_secs())
        }
        _ => u64::from(terms.session_expiry_s),
    };
    client.subscriptions.attended(false);
    let origin = client.subscriptions.origin();
    let will = will.filter(|_| end.wants_will()).map(|will| UserWill { origin, ..will });
    let kept =
        Box::new(Kept { session: client.connection.into_session(), subscriptions: client.subscriptions });
    let delay_s = will.as_ref().map_or(0, |will| u64::from(will.will.delay_s)).min(expiry_s);
    let (now, later) = if delay_s == 0 { (will, None) } else { (None, will) };
    if expiry_s > 0 {
        let later = later.map(|will| (Instant::now() + Duration::from_secs(delay_s), will));
        shared.sessions.detach(held, kept, Duration::from_secs(expiry_s), later);
    } else {
        drop(kept);
        drop(held);
    }
    shared.count_sessions();
    if let Some(will) = now {
        wills::publish(shared, will);
    }
}
