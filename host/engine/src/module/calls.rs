//! What comes to a module beside messages and timers: method calls, and changes of its desired properties.
//!
//! Both are handled between messages. They come to a module that exports the handler for them. While it waits after a
//! failure calls wait with it, as long as their callers do; one that is stopped or given up is not connected.

use super::Version;
use super::runner::{Phase, Runner};
use crate::instance::Outcome;
use crate::logs::LogLevel;
use holdfast_broker::{
    Broker, DesiredPatch, DesiredWatch, METHODS_IN_FLIGHT_MAX, MethodCall, MethodReply, MethodServer,
};
use holdfast_types::Identity;

/// Where they come from.
pub(super) struct Calls {
    broker: Broker,
    who: Identity,
    server: Option<MethodServer>,
    watch: Option<DesiredWatch>,
    /// Of a version that is being started beside the one that works: what changes meanwhile is not lost to it.
    next_watch: Option<DesiredWatch>,
    call: Option<MethodCall>,
    change: Option<DesiredPatch>,
}

impl Calls {
    pub(super) fn new(broker: Broker, who: Identity) -> Self {
        Self { broker, who, server: None, watch: None, next_watch: None, call: None, change: None }
    }

    /// An instance of `version` is about to be started: it hears of every change that it may not have read.
    pub(super) fn prepare(&mut self, version: &Version) {
        self.next_watch = version.code.desired.is_some().then(|| self.broker.twins().watch(&self.who));
    }

    /// It is in place.
    pub(super) fn runs(&mut self, version: &Version) {
        if let Some(watch) = self.next_watch.take() {
            (self.watch, self.change) = (Some(watch), None);
        }
        if version.code.desired.is_none() {
            (self.watch, self.change) = (None, None);
        }
        match (version.code.invoke.is_some(), &self.server) {
            (true, None) => self.server = Some(self.broker.methods().serve(&self.who)),
            (false, _) => (self.server, self.call) = (None, None),
            (true, Some(_)) => {}
        }
    }

    /// There is no instance, and none will be before an order. Who calls finds nobody.
    pub(super) fn rest(&mut self) {
        (self.server, self.call) = (None, None);
    }

    /// Whether something can be handled at once.
    pub(super) fn are_there(&mut self) -> bool {
        if self.call.is_none() {
            self.call = self.server.as_mut().and_then(MethodServer::take);
        }
        if self.change.is_none() {
            self.change = self.watch.as_mut().and_then(DesiredWatch::take);
        }
        self.call.is_some() || self.change.is_some()
    }

    /// Waits until something is there. Cancel safe.
    pub(super) async fn come(&mut self) {
        if self.call.is_some() || self.change.is_some() {
            return;
        }
        let call = async {
            match &mut self.server {
                Some(server) => server.next().await,
                None => std::future::pending().await,
            }
        };
        let change = async {
            match &mut self.watch {
                Some(watch) => watch.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(call) = call => self.call = Some(call),
            change = change => self.change = Some(change),
            // Another has taken this module's place as a server of its methods.
            else => std::future::pending().await,
        }
    }
}

impl Runner {
    /// Handles what is there, a bounded number of calls so that messages have their turn.
    pub(super) async fn take_calls(&mut self) {
        for _ in 0..METHODS_IN_FLIGHT_MAX {
            if self.phase != Phase::Running || !self.calls.are_there() {
                break;
            }
            if let Some(change) = self.calls.change.take() {
                self.take_change(change).await;
            } else if let Some(call) = self.calls.call.take() {
                self.take_call(call).await;
            }
        }
    }

    async fn take_change(&mut self, change: DesiredPatch) {
        let Some(instance) = &mut self.instance else { return };
        let patch = change.patch.to_string();
        let outcome = instance.desired(change.version, patch.clone()).await;
        if let Some(shadow) = &self.shadow {
            shadow.desired(change.version, &patch, &outcome, &instance.host().outbox);
        }
        match outcome {
            Outcome::Done => self.turn.keep(instance.host(), &[], 0),
            Outcome::Reject(reason) => {
                let version = change.version;
                self.log.host(LogLevel::Warn, &format!("desired properties {version} rejected: {reason}"));
            }
            // A fresh instance reads all desired properties, this change among them.
            Outcome::Retry(reason) | Outcome::Lost(reason) => {
                self.fail(&format!("desired properties {}: {reason}", change.version));
            }
        }
    }

    async fn take_call(&mut self, call: MethodCall) {
        let Some(instance) = &mut self.instance else { return };
        let name = call.name.to_string();
        let Ok(payload) = String::from_utf8(call.payload.to_vec()) else {
            call.reply(failed(400, "the payload is no UTF-8; send JSON"));
            return;
        };
        let answered = instance.invoke(name.clone(), payload.clone()).await;
        if let Some(shadow) = &self.shadow {
            shadow.method((&name, &payload), &answered, &instance.host().outbox);
        }
        match answered {
            (Outcome::Done, Some(reply)) => {
                self.turn.keep(instance.host(), &[], 0);
                self.turn.reply(call, reply);
                // Nothing that follows holds the reply back.
                self.close_turn();
            }
            (Outcome::Done, None) => call.reply(failed(500, "the module gave no reply")),
            (Outcome::Reject(reason), _) => call.reply(failed(500, &reason)),
            (Outcome::Retry(reason), _) => call.reply(failed(503, &reason)),
            (Outcome::Lost(reason), _) => {
                call.reply(failed(500, &reason));
                self.fail(&format!("method {name:?}: {reason}"));
            }
        }
    }
}

/// The reply when a method has none of its own.
fn failed(status: i32, why: &str) -> MethodReply {
    MethodReply { status, payload: serde_json::json!({ "error": why }).to_string().into() }
}
