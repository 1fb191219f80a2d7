//! From what the rooms hold to what the control socket shows.

use holdfast_api::{
    ChildrenItem, Code, InvalidMessage, MessageText, PeekRequest, Refusal, SendRequest, Sender, SessionItem,
    StoredItem, UpstreamItem, WayItem,
};
use holdfast_engine::{CommandError, ModuleStatus, RuntimeStatus, ShadowReport};
use holdfast_gateway::ShownSession;
use holdfast_routes::Origin;
use holdfast_store::StoreError;
use holdfast_types::{LogId, Offset, Priority, Source, StableId, UnixMillis, WhenFull};
use holdfast_upstream::{ChildTrouble, ChildrenStatus, LinkState, StatusHandle, WayState, WayStatus};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A stored message.
pub fn stored(
    log: &LogId,
    priority: Priority,
    offset: Offset,
    id: Option<&StableId>,
    entry: &holdfast_store::Entry,
    request: &PeekRequest,
) -> StoredItem {
    StoredItem {
        log: log.to_string(),
        priority: priority.level(),
        offset: offset.0,
        id: id.map(ToString::to_string),
        from: Sender::of(&entry.envelope.source),
        route: entry.route.to_string(),
        input: entry.input.as_ref().map(ToString::to_string),
        received_ms: entry.envelope.received.0,
        expires_ms: entry.expires.map(|at| at.0),
        message: MessageText::of(&entry.envelope.message, request.body_bytes_max),
        dead: None,
    }
}

/// What an operator should know of a module, the gravest first.
pub fn detail(module: &ModuleStatus) -> Option<String> {
    let refused = module.refused.as_ref().map(|why| format!("the newest file could not take over: {why}"));
    let back = module
        .rolled_back
        .as_ref()
        .map(|why| format!("the version before runs again; the newest failed: {why}"));
    let shadow = module.shadow.as_ref().filter(|_| module.status == RuntimeStatus::Shadow).map(|shadow| {
        let ShadowReport { matched, differed, skipped, differences } = shadow;
        let first = differences.first().map_or_else(String::new, |first| format!("; the first: {first}"));
        format!("{matched} calls matched, {differed} differed, {skipped} skipped{first}")
    });
    refused
        .or(back)
        .or_else(|| (!module.description.is_empty()).then(|| module.description.clone()))
        .or(shadow)
        .or_else(|| module.last_error.clone())
}

/// The link.
pub fn upstream(handle: &StatusHandle) -> UpstreamItem {
    let status = handle.status();
    let at = |time: SystemTime| millis(time.duration_since(UNIX_EPOCH).unwrap_or_default());
    let (connected, since_ms, reason) = match &status.state {
        LinkState::Connected { since } => (true, at(*since), None),
        LinkState::Connecting { attempt } => (false, 0, Some(format!("connecting, attempt {attempt}"))),
        LinkState::Waiting { reason, .. } => (false, 0, Some(reason.to_string())),
        LinkState::Draining => (false, 0, Some("stopping".to_owned())),
        LinkState::Stopped => (false, 0, Some("stopped".to_owned())),
    };
    let address = status.target.to_string();
    let acknowledged = status.counters.acknowledged;
    let transport = status.transport.map(|transport| transport.to_string());
    let ways = status.ways.iter().map(way).collect();
    let children = status.children.as_ref().map(children);
    UpstreamItem { address, connected, since_ms, reason, acknowledged, transport, ways, children }
}

fn children(status: &ChildrenStatus) -> ChildrenItem {
    let trouble = |one: &ChildTrouble| (one.child.to_string(), one.reason.to_string());
    ChildrenItem {
        connected: status.connected as u64,
        connections_max: status.connections_max as u64,
        waiting: status.waiting as u64,
        troubled: status.troubled.iter().map(trouble).collect(),
    }
}

fn way(way: &WayStatus) -> WayItem {
    let fault = match &way.state {
        WayState::Failed(why) => Some(why.to_string()),
        WayState::Untried | WayState::Works => None,
    };
    let (place, transport) = (way.place.to_string(), way.transport.to_string());
    WayItem { place, transport, port: way.port, in_use: way.in_use, fault }
}

/// A session of a client.
pub fn shown_session(session: ShownSession) -> SessionItem {
    SessionItem {
        user: session.user.to_string(),
        client_id: session.client_id,
        connected: session.connected,
        durable: session.durable,
        expires_in_s: session.expires_in.as_secs(),
        subscriptions: session.subscriptions,
        queued: session.queued,
        in_flight: session.in_flight,
    }
}

/// The message of a request, and who is to have sent it.
pub fn parse(request: &SendRequest) -> Result<(Source, holdfast_types::Message), Refusal> {
    let bad = |error: InvalidMessage| Refusal::new(Code::BadRequest, error.to_string());
    Ok((request.from.source().map_err(bad)?, request.message.message().map_err(bad)?))
}

/// Through which door a message from this source comes.
pub fn origin(source: &Source) -> Origin {
    match source {
        Source::Child { .. } => Origin::Downstream,
        Source::Module { .. } | Source::TwinChange { .. } => Origin::Internal,
    }
}

/// The word for a policy.
pub fn when_full(policy: WhenFull) -> &'static str {
    match policy {
        WhenFull::Block => "block",
        WhenFull::DropOldest => "drop-oldest",
        WhenFull::DropNewest => "drop-newest",
    }
}

/// Why an order to a module was not taken.
pub fn command_refused(error: &CommandError) -> Refusal {
    let code = match error {
        CommandError::NoSuchModule { .. } | CommandError::NoNext { .. } => Code::NotFound,
        CommandError::IsNext { .. } | CommandError::NextFetched { .. } | CommandError::Hidden { .. } => {
            Code::BadRequest
        }
        CommandError::NotLoaded { .. } | CommandError::Busy { .. } | CommandError::File { .. } => {
            Code::Failed
        }
        CommandError::Stopping => Code::Stopping,
    };
    Refusal::new(code, error.to_string())
}

/// Why the store did not do it.
pub fn store_refused(error: &StoreError) -> Refusal {
    failed(error.to_string())
}

/// It was tried and failed.
pub fn failed(text: String) -> Refusal {
    Refusal::new(Code::Failed, text)
}

/// Whole milliseconds.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The wall clock.
pub fn now() -> UnixMillis {
    UnixMillis(millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
}
