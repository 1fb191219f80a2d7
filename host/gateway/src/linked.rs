//! A connection that is the link of an edge: the hub takes what comes and says what goes.

use crate::{
    above::{EdgeDoor, EdgeLink},
    board::Board,
    connection::Client,
    end::End,
};
use holdfast_mqtt::{AckProperties, Packet, Publish, QoS, ReasonCode, SubAck, Subscribe, server::Ticket};
use std::{future::pending, sync::Arc};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The hub's end of a link.
pub(crate) struct Linked {
    door: Box<dyn EdgeDoor>,
    outgoing: mpsc::Receiver<Publish>,
    over: CancellationToken,
    /// Whether messages were taken since the last flush.
    taken: bool,
}

impl Linked {
    pub(crate) fn begin(link: EdgeLink, board: &Arc<Board>) -> Box<Self> {
        let EdgeLink { mut door, outgoing, over } = link;
        door.begin(board.clone());
        Box::new(Self { door, outgoing, over, taken: false })
    }
}

/// The next thing for the edge; for ever nothing for another client, or where the window is full. Cancel safe.
pub(crate) async fn next(linked: &mut Option<Box<Linked>>, room: usize) -> Option<Publish> {
    match linked {
        Some(linked) => tokio::select! {
            biased;
            () = linked.over.cancelled() => None,
            publish = linked.outgoing.recv(), if room > 0 => publish,
        },
        None => pending().await,
    }
}

impl Client {
    pub(crate) fn link_publish(&mut self, ticket: Ticket, publish: Publish) {
        if let Some(linked) = &mut self.linked {
            linked.taken = true;
            linked.door.publish(ticket, publish);
        }
    }

    /// What came in one read is one piece of work.
    pub(crate) fn link_flush(&mut self) {
        if let Some(linked) = &mut self.linked
            && std::mem::take(&mut linked.taken)
        {
            linked.door.flush();
        }
    }

    /// An edge is sent what the link has for it, whatever it subscribes to.
    pub(crate) fn link_subscribe(&mut self, subscribe: &Subscribe) {
        let granted = |qos| match qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce | QoS::ExactlyOnce => ReasonCode::GrantedQos1,
        };
        let reasons = subscribe.subscriptions.iter().map(|one| granted(one.qos)).collect();
        let properties = AckProperties::default();
        self.send(&Packet::SubAck(Box::new(SubAck { packet_id: subscribe.packet_id, reasons, properties })));
    }

    pub(crate) fn link_room(&self) -> usize {
        let has_room = self.out.len() < self.shared.limits.write_buffer_bytes_max;
        if self.linked.is_some() && has_room { self.connection.room() } else { 0 }
    }

    pub(crate) fn link_deliver(&mut self, publish: Option<Publish>) -> Result<(), End> {
        match publish {
            Some(publish) => {
                let packet = self.connection.deliver(publish);
                self.send(&packet);
                Ok(())
            }
            // The hub has ended the link: a newer one has taken its place, or the edge is to come again.
            None => Err(End::TakenOver),
        }
    }
}
