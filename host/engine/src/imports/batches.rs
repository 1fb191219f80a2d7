//! `holdfast:module/batch-handler`: several messages in one call. It has no imports; what its call shares is here.
//!
//! A batch must come to what its messages come to one by one. So what bounds one call bounds each message of a batch: the
//! sends and reports of a batch are those of as many calls, and its time up to a second. Where that would take too much memory – the bytes that
//! are sent – a batch that meets the bound is taken back, and its messages are handled one by one.

/// The interface that a module exports to take batches.
pub(crate) const BATCH_HANDLER: &str = "holdfast:module/batch-handler@0.1.1";

/// How many messages the running call has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sharing {
    messages: u32,
    met: Option<&'static str>,
}

impl Sharing {
    /// A call for one message, or for none.
    pub(crate) const ALONE: Self = Self { messages: 1, met: None };

    /// A call for so many.
    pub(crate) const fn by(messages: u32) -> Self {
        Self { messages, met: None }
    }

    /// What all of them may do where each may do so much.
    pub(crate) const fn times(self, each: u32) -> u32 {
        each.saturating_mul(self.messages)
    }

    /// A bound of one call was met. Says whether that is for the module alone to see: in a batch it may be none of its
    /// doing, and the batch is taken back.
    pub(crate) const fn meets(&mut self, limit: &'static str) -> bool {
        if self.messages > 1 {
            self.met = Some(limit);
        }
        self.messages > 1
    }

    /// The bound that a batch has met.
    pub(crate) const fn met(self) -> Option<&'static str> {
        self.met
    }
}
