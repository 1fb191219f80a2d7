//! `holdfast:module/methods`: calls of methods of other modules and of children.
//!
//! The only import that makes a module wait for others. Its own time bounds the wait; the running call's limit does not
//! count it. When the module is to end the wait ends at once.

use super::bindings::holdfast::module::methods::{Host as Caller, MethodError, MethodReply as Reply};
use crate::host::Host;
use crate::waiting::Waiting;
use holdfast_broker::{MethodError as Refused, MethodTimes, Methods};
use holdfast_types::Identity;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The interface that a module exports to serve methods.
pub(crate) const METHOD_HANDLER: &str = "holdfast:module/method-handler@0.1.1";

/// The interface that makes a module wait.
pub(crate) const METHODS: &str = "holdfast:module/methods@0.1.";

/// What calls of methods need.
#[derive(Clone)]
pub(crate) struct Calling {
    pub(crate) methods: Methods,
    /// Who calls.
    pub(crate) who: Identity,
    /// The module is to end.
    pub(crate) stop: CancellationToken,
    /// Time in which the module waits for others.
    pub(crate) waiting: Waiting,
    /// Whether it is a shadow, which calls nobody.
    pub(crate) shadow: bool,
}

impl Calling {
    /// For one instance.
    pub(crate) fn of_instance(&self) -> Self {
        Self { waiting: Waiting::default(), ..self.clone() }
    }

    async fn call(&self, target: &str, name: &str, payload: String, ms: u32) -> Result<Reply, MethodError> {
        let target = Identity::parse_at(&self.who.device, target).ok_or_else(|| {
            MethodError::Invalid(format!(
                "{target:?} is no target; take `/module` for a module of this edge, or `child`, or `child/module`"
            ))
        })?;
        if self.shadow {
            return Err(MethodError::NotConnected(format!(
                "a shadow calls nobody; the version that works may have called {target}"
            )));
        }
        if target == self.who {
            return Err(MethodError::Invalid(
                "a module cannot call its own methods: it would wait for itself".to_owned(),
            ));
        }
        if !payload.is_empty()
            && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&payload)
        {
            return Err(MethodError::Invalid(format!("the payload is no JSON: {error}")));
        }
        let times = match ms {
            0 => MethodTimes::default(),
            ms => MethodTimes { response: Duration::from_millis(ms.into()), ..MethodTimes::default() },
        };
        let _waiting = self.waiting.begin();
        let reply = tokio::select! {
            () = self.stop.cancelled() => {
                return Err(MethodError::NoReply("the module is to end; the method may run all the same".to_owned()));
            }
            reply = self.methods.call(&target, name, payload.into(), times) => reply,
        };
        let reply = reply.map_err(|refused| {
            let why = refused.to_string();
            match refused {
                Refused::NotConnected { .. } => MethodError::NotConnected(why),
                Refused::Busy { .. } => MethodError::Busy(why),
                Refused::TimedOut { .. } | Refused::Gone { .. } | Refused::ReplyTooLarge { .. } => {
                    MethodError::NoReply(why)
                }
                Refused::InvalidName { .. }
                | Refused::InvalidTime { .. }
                | Refused::PayloadTooLarge { .. } => MethodError::Invalid(why),
            }
        })?;
        let payload_json = String::from_utf8(reply.payload.into()).map_err(|_| {
            MethodError::NoReply(format!("the reply of {target} is no UTF-8; the method has run"))
        })?;
        Ok(Reply { status: reply.status, payload_json })
    }
}

impl Host {
    /// Why a method of this target may not be called, if it may not: what to grant is named.
    fn not_granted(&self, target: &str) -> Option<MethodError> {
        let device = &self.calling.who.device;
        // A module of this edge may be called by either of its names, and is granted by the short one.
        let target = match Identity::parse_at(device, target)? {
            Identity { device: of, module: Some(module) } if of == *device => format!("/{module}"),
            other => other.to_string(),
        };
        if self.settings.methods.iter().any(|grant| grant.allows(&target)) {
            return None;
        }
        let fix = format!("add to the module's .toml: [grants] methods = [{target:?}]");
        self.log.refuse("grants.methods", || {
            format!("refused: it wants to call a method of {target}, which is not granted; if it may, {fix}")
        });
        Some(MethodError::Invalid(format!("methods of {target} are not granted; {fix}")))
    }
}

impl Caller for Host {
    async fn call(
        &mut self,
        target: String,
        name: String,
        payload_json: String,
        timeout_ms: u32,
    ) -> Result<Reply, MethodError> {
        if let Some(refused) = self.not_granted(&target) {
            return Err(refused);
        }
        let before = self.deadline.now();
        let reply = self.calling.call(&target, &name, payload_json, timeout_ms).await;
        self.deadline.leave_out_since(before);
        reply
    }
}
