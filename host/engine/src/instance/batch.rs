//! A call with several messages.

use super::{Instance, Outcome, sender, system_of, within};
use crate::imports::Sharing;
use crate::imports::bindings::exports::holdfast::module::batch_handler::{Delivered, Message};
use crate::imports::bindings::exports::holdfast::module::handler::Failure;
use holdfast_types::Envelope;
use std::time::Duration;

/// A batch may take the time of its calls, but no longer than this, or than one call if that may take longer: it is made
/// to take half a millisecond, and one that never ends is to be found out.
const TIME_MAX: Duration = Duration::from_secs(1);

impl Instance {
    /// Hands over several messages, each with its input. It is all or nothing: after any outcome but [`Outcome::Done`]
    /// nothing of the call remains, and none of the messages is to blame yet.
    pub(crate) async fn handle_batch(&mut self, batch: &[(&str, &Envelope)]) -> Outcome {
        let Some(handler) = &self.exports.batch else {
            return Outcome::Reject("the module does not export batch-handler".to_owned());
        };
        let systems: Vec<_> = batch.iter().map(|(_, envelope)| system_of(envelope)).collect();
        let properties: Vec<Vec<(&str, &str)>> =
            batch.iter().map(|(_, envelope)| envelope.message.properties.iter().collect()).collect();
        let beside = systems.iter().zip(&properties);
        let messages: Vec<_> = batch
            .iter()
            .zip(beside)
            .map(|((input, envelope), (system, properties))| Delivered {
                input,
                message: Message {
                    body: &envelope.message.body,
                    properties,
                    system,
                    source: sender(&envelope.source),
                },
            })
            .collect();
        let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        let limit = self.call_limit.saturating_mul(count).min(self.call_limit.max(TIME_MAX));
        let host = self.store.data_mut();
        host.sharing = Sharing::by(count);
        host.deadline.set_limit(limit);
        host.deadline.renew();
        self.store.set_epoch_deadline(1);
        let call = handler.call_handle_batch(&mut self.store, &messages);
        let ended = within(limit, &self.waiting, &self.meter, call).await;
        let ended = ended.map(|called| called.map(|result| result.map_err(Failure::Reject)));
        let mut outcome = self.outcome("handle-batch", limit, ended);
        let host = self.store.data_mut();
        let sharing = std::mem::replace(&mut host.sharing, Sharing::ALONE);
        host.deadline.set_limit(self.call_limit);
        if let (Outcome::Done, Some(met)) = (&outcome, sharing.met()) {
            host.discard();
            outcome = Outcome::Reject(format!("together its messages have met {met}"));
        }
        outcome
    }
}
