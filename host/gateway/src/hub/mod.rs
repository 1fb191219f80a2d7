//! Clients that speak the dialect of IoT Hub: devices with an unmodified SDK, and modules that run as processes.
//!
//! The rest of the gateway treats them as it treats others: one task, one session, one buffer. What differs is here. A
//! topic is a request, not a place, so that nothing they publish reaches subscribers of topics, and a filter turns on one
//! of five features: messages from the cloud, inputs, answers about the twin, desired changes, method calls. Who a
//! message is from is what the client has proved at CONNECT, whatever it says.
//!
//! Messages to a client are read from its log by cursor. PUBACK moves the cursor, so that what was sent and not
//! acknowledged comes again on the next connection; nothing of it is kept with the session. What is kept, on disk, are the
//! filters: SDKs connect anew for each token and count on their subscriptions (clean session 0). A method call that the
//! client has in hand waits for its answer over connections too, as long as its caller waits.
//!
//! Requests about twins, and changes of the filters, are jobs that are done one after the other, each acknowledged when it
//! is done.

mod bag;
mod caller;
mod calls;
mod down;
mod filters;
mod glue;
mod jobs;
mod shared;
mod time;
mod up;

pub(crate) use caller::Caller;
pub(crate) use glue::leave;
pub(crate) use shared::HubShared;

use crate::{board::Board, end::End, shared::Shared};
use down::{Inbox, Sent};
use filters::Filters;
use holdfast_broker::{DesiredWatch, MethodServer};
use holdfast_mqtt::{
    Packet, PacketId, Publish, QoS,
    hub::Feature,
    server::{Outcome, Ticket},
};
use holdfast_types::LogId;
use jobs::Jobs;
use std::{collections::HashMap, future::pending, sync::Arc};

/// Longest silence that a client may ask for, in seconds; at one and a half times this, 1767 s, IoT Hub gives it up. A
/// client that asks for no limit has this one.
const KEEP_ALIVE_S_MAX: u16 = 1178;

/// The keep alive of a client that asks for this one.
pub(crate) const fn keep_alive_s(asked_s: u16) -> u16 {
    if asked_s == 0 || asked_s > KEEP_ALIVE_S_MAX { KEEP_ALIVE_S_MAX } else { asked_s }
}

/// What the client asked for at CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// It begins anew.
    pub(crate) clean: bool,
    /// It outlives the connection.
    pub(crate) lasts: bool,
}

/// One client of the dialect, for the time of one connection.
pub(crate) struct Hub {
    shared: Arc<Shared>,
    board: Arc<Board>,
    caller: Caller,
    filters: Filters,
    session: Session,
    /// Whether the client had filters when it connected.
    had_session: bool,
    jobs: Jobs,
    cloud_to_device: Option<Inbox>,
    inputs: Option<Inbox>,
    desired: Option<DesiredWatch>,
    methods: Option<MethodServer>,
    /// Messages that the client has not acknowledged, and whose log they are from.
    sent: HashMap<PacketId, Sent>,
}

/// Something to be done for the client.
pub(crate) enum Event {
    /// A packet that answers one of the client's.
    Answer(Packet),
    /// A message for the client; with what is to be acknowledged in its log when the client has it.
    Deliver(Publish, Option<Sent>),
    /// The fate of a message of the client.
    Settle(Ticket, Outcome),
    /// Features are turned on and off, after the answer that grants it.
    Switch,
    /// The connection ends.
    End(End),
}

impl Hub {
    /// A client that has just connected.
    pub(crate) fn begin(shared: &Arc<Shared>, board: &Arc<Board>, caller: Caller, session: Session) -> Self {
        shared.hub.connected(&shared.broker, &caller.identity);
        match &shared.above {
            Some(above) => above.present(&caller.identity, true),
            None => shared.broker.present(&caller.identity, true),
        }
        let kept = Filters::load(&shared.broker, &caller.identity);
        let on_disk = !kept.is_empty();
        let filters = if session.clean { Filters::default() } else { kept };
        let mut hub = Self {
            had_session: !filters.is_empty(),
            filters,
            session,
            shared: shared.clone(),
            board: board.clone(),
            caller,
            jobs: Jobs::default(),
            cloud_to_device: None,
            inputs: None,
            desired: None,
            methods: None,
            sent: HashMap::new(),
        };
        if on_disk && (session.clean || !session.lasts) {
            hub.forget_filters();
        }
        hub.switch();
        hub
    }

    /// Whether it had a session, which is to say filters.
    pub(crate) fn had_session(&self) -> bool {
        self.had_session
    }

    /// Who it is.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether more packets of the client may be taken.
    pub(crate) fn may_take_packets(&self) -> bool {
        self.jobs.have_room()
    }

    /// Turns on the features that filters ask for, and off those that none does any more.
    fn switch(&mut self) {
        let broker = &self.shared.broker;
        let identity = &self.caller.identity;
        let wants = |feature| self.filters.granted(feature).is_some();
        keep(&mut self.desired, wants(Feature::DesiredPatches), || Some(broker.twins().watch(identity)));
        keep(&mut self.methods, wants(Feature::Methods), || Some(broker.methods().serve(identity)));
        keep(&mut self.cloud_to_device, wants(Feature::CloudToDevice), || {
            Some(Inbox::new(broker, LogId::child(&identity.device)))
        });
        keep(&mut self.inputs, wants(Feature::Inputs), || {
            self.caller.own_module(broker).map(|module| Inbox::new(broker, LogId::module(module)))
        });
    }

    fn granted(&self, feature: Feature) -> QoS {
        self.filters.granted(feature).unwrap_or(QoS::AtMostOnce)
    }

    /// Waits for something to do, of which no more than `room` are messages for the client; with no room it waits for
    /// ever. Cancel safe.
    async fn next(&mut self, room: usize) -> Vec<Event> {
        if room == 0 {
            return pending().await;
        }
        tokio::select! {
            biased;
            events = self.jobs.next() => events,
            call = next_call(&mut self.methods) => match call {
                Some(call) => self.method_request(call),
                None => {
                    // Another server has taken the place: it is the client's next connection.
                    self.methods = None;
                    Vec::new()
                }
            },
            patch = next_patch(&mut self.desired) => self.desired_patch(patch),
            messages = next_messages(&mut self.cloud_to_device, room) => self.cloud_to_device(messages),
            messages = next_messages(&mut self.inputs, room) => self.inputs(messages),
        }
    }
}

/// The next things to do for a client of the dialect; for ever nothing for another.
pub(crate) async fn next(hub: &mut Option<Box<Hub>>, room: usize) -> Vec<Event> {
    match hub {
        // Boxed: other clients need no room for it.
        Some(hub) => Box::pin(hub.next(room)).await,
        None => pending().await,
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.hub.left(&self.shared.broker, &self.caller.identity);
        match &self.shared.above {
            Some(above) => above.present(&self.caller.identity, false),
            None => self.shared.broker.present(&self.caller.identity, false),
        }
    }
}

fn keep<T>(place: &mut Option<T>, wanted: bool, make: impl FnOnce() -> Option<T>) {
    match (wanted, &place) {
        (true, None) => *place = make(),
        (false, Some(_)) => *place = None,
        _ => {}
    }
}

async fn next_call(methods: &mut Option<MethodServer>) -> Option<holdfast_broker::MethodCall> {
    match methods {
        Some(methods) => methods.next().await,
        None => pending().await,
    }
}

async fn next_patch(desired: &mut Option<DesiredWatch>) -> holdfast_broker::DesiredPatch {
    match desired {
        Some(desired) => desired.next().await,
        None => pending().await,
    }
}

async fn next_messages(
    inbox: &mut Option<Inbox>,
    room: usize,
) -> Result<Vec<holdfast_broker::Delivery>, holdfast_broker::ReadError> {
    match inbox {
        Some(inbox) => inbox.next(room).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::keep_alive_s;

    #[test]
    fn no_client_is_silent_for_longer_than_iot_hub_allows() {
        for (asked_s, kept_s) in
            [(0, 1178), (60, 60), (1177, 1177), (1178, 1178), (1179, 1178), (u16::MAX, 1178)]
        {
            assert_eq!(keep_alive_s(asked_s), kept_s, "{asked_s}");
        }
    }
}
