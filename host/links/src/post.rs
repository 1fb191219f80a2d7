//! Messages to devices behind an edge.

use crate::link::{ANSWER_TIME_MAX, CallFault, Link};
use holdfast_link::{Call, CloudToDevice, Document, Status};

impl Link {
    /// Hands a message to the edge; it is durable there when this succeeds.
    ///
    /// # Errors
    /// As [`Self::call`].
    async fn cloud_to_device(&self, message: &CloudToDevice) -> Result<(), CallFault> {
        let body = message.encode().map_err(|fault| CallFault::Refused {
            edge: self.edge.clone(),
            status: Status::TOO_LARGE.0,
            why: fault.to_string(),
        })?;
        self.call(Call::CloudToDevice, body, ANSWER_TIME_MAX).await.map(drop)
    }

    /// Hands over a message to a device behind the edge. One that can never be taken is dropped, and counts as handed over.
    ///
    /// # Errors
    /// As [`Self::call`]: the message waits on.
    pub async fn hand_over(&self, message: &CloudToDevice) -> Result<(), CallFault> {
        let device = &message.target;
        match self.cloud_to_device(message).await {
            Err(CallFault::Refused { status: 400 | 413, why, .. }) => {
                tracing::warn!(%device, id = message.id, why, "an edge refuses a message to a device; it is dropped");
                Ok(())
            }
            // It may not know the device yet, or have no room.
            Err(fault) => {
                tracing::debug!(%device, %fault, "a message to a device waits on");
                Err(fault)
            }
            Ok(()) => Ok(()),
        }
    }
}
