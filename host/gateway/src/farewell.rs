//! The end of a connection: counted, logged, and said to the client.

use crate::{connection::Client, end::End, episodes::warn_once_of, outbound, plain::Plain, stats::Stats};
use holdfast_mqtt::{Disconnect, Packet, ReasonCode};

impl Client {
    /// Counts the end, and logs it once per episode.
    pub(crate) fn count(&self, end: &End) {
        let stats = &self.shared.stats;
        let counter = match end {
            End::Goodbye { .. }
            | End::Closed
            | End::Broken(_)
            | End::Stopping
            | End::NotTaken(_)
            | End::Unsendable { .. } => None,
            End::Protocol(_) | End::Misplaced(_) | End::NotDialect(_) => Some(&stats.protocol_errors),
            End::Silent => Some(&stats.keep_alive_expired),
            End::TakenOver => Some(&stats.taken_over),
            End::Cut(_) | End::ProofExpired => Some(&stats.devices_cut),
            End::Behind { .. } | End::Stalled => Some(&stats.too_slow),
        };
        if end.reason() == Some(ReasonCode::PacketTooLarge) && matches!(end, End::Protocol(_)) {
            Stats::one(&stats.packets_over_limit);
        }
        let user = &self.key.user;
        let client_id = Plain(&self.key.client_id);
        if let Some(counter) = counter {
            Stats::one(counter);
            let kind = format!("end {user} {client_id}");
            warn_once_of!(self.shared.episodes, &kind, &end.to_string(), %user, %client_id, why = %end, "a connection ends");
        } else {
            tracing::debug!(%user, %client_id, why = %end, "a connection ends");
        }
    }

    /// Says goodbye with the reason, in words too if the client wants them and takes so much (MQTT-3.14.2-3).
    pub(crate) fn say_why(&mut self, reason: ReasonCode, end: &End) {
        let plain = Disconnect::new(outbound::sayable(reason));
        let words = self.terms.problem_information.then(|| end.to_string().into());
        let packet = Packet::Disconnect(Box::new(Disconnect { reason_string: words, ..plain.clone() }));
        if self.codec.encode(&packet, &mut self.out).is_err() {
            self.send(&Packet::Disconnect(Box::new(plain)));
        }
    }
}
