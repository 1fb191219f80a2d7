//! Unit tests of a module without a host.
//!
//! [`Harness`] stands in for the host: sent messages are recorded, the state is a map, timers run on a clock that the
//! test moves, the configuration is what the test says. A call that fails leaves nothing behind in the outbox and the
//! state, as with the host. Not available in WebAssembly.
//!
//! ```
//! use holdfast_sdk::{Error, Failure, Message, Module, Outgoing, outbox, testing::Harness, timers};
//! use std::time::Duration;
//!
//! struct Heartbeat;
//! impl Module for Heartbeat {
//!     fn start() -> Result<Self, Error> {
//!         timers::every("beat", Duration::from_secs(10))?;
//!         Ok(Self)
//!     }
//!     fn handle(&mut self, _: &str, _: Message) -> Result<(), Failure> {
//!         Err(Failure::reject("this module takes no messages"))
//!     }
//!     fn fire(&mut self, _: &str) -> Result<(), Failure> {
//!         Ok(outbox::send("beat", Outgoing::text("alive"))?)
//!     }
//! }
//!
//! let mut module = Harness::new().start::<Heartbeat>().unwrap();
//! module.advance(Duration::from_secs(35)).unwrap();
//! assert_eq!(module.take_sent().len(), 3);
//! assert!(module.handle("in", Outgoing::text("?")).is_err());
//! ```

mod twin;
#[cfg(feature = "http")]
mod web;
mod world;

pub(crate) use world::World;

use crate::{
    Delivered, Error, Failure, Message, Module, Outgoing, Source, UnixMillis, imports,
    log::Level,
    methods::{Payload, Reply},
    twins::Change,
};
use serde::de::DeserializeOwned;
use std::{fmt, time::Duration};

/// What a module under test finds when it starts.
#[derive(Default)]
pub struct Harness {
    world: World,
}

/// A message that the module has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The output it was sent to.
    pub output: String,
    /// The message, with this module as its source.
    pub message: Message,
}

/// A method that the module has called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// Whose method.
    pub target: String,
    /// The method.
    pub name: String,
    /// JSON.
    pub payload: String,
}

/// What a metric of the module stands at.
#[derive(Clone, Debug, PartialEq)]
pub enum Measured {
    /// The value of a counter.
    Counter(u64),
    /// The value of a gauge.
    Gauge(f64),
    /// What a histogram was given, in order.
    Observed(Vec<f64>),
}

/// A line that the module has logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How much it matters.
    pub level: Level,
    /// The line.
    pub text: String,
}

impl Harness {
    /// No configuration, no state, and the clock at [`Self::START`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the clock stands at first: 2026-01-01 00:00:00 UTC.
    pub const START: UnixMillis = 1_767_225_600_000;

    /// Sets a key of the configuration.
    #[must_use]
    pub fn config(mut self, key: &str, value: impl Into<String>) -> Self {
        self.world.config.insert(key.to_owned(), value.into());
        self
    }

    /// Sets a key of the state, as an earlier run would have left it.
    #[must_use]
    pub fn state(mut self, key: &str, value: impl Into<Vec<u8>>) -> Self {
        self.world.state.insert(key.to_owned(), value.into());
        self
    }

    /// Sets the desired properties, a JSON object.
    #[must_use]
    pub fn desired(mut self, desired: serde_json::Value) -> Self {
        self.world.twin.desired = desired;
        self
    }

    /// Sets what a method of another answers. One that is not set is not connected.
    #[must_use]
    pub fn answer(mut self, target: &str, method: &str, reply: Reply) -> Self {
        self.world.answers.insert((target.to_owned(), method.to_owned()), reply);
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, now: UnixMillis) -> Self {
        self.world.now = now;
        self
    }

    /// Starts a module.
    pub fn start<M: Module>(mut self) -> Result<Running<M>, Error> {
        self.world.outputs = M::OUTPUTS;
        let (started, world) = imports::within(self.world, M::start);
        Ok(Running { module: started?, world })
    }
}

/// A module under test.
pub struct Running<M> {
    module: M,
    world: World,
}

impl<M: Module> Running<M> {
    /// Gives the module a message from a child device named `tester`.
    pub fn handle(&mut self, input: &str, message: Outgoing) -> Result<(), Failure> {
        self.receive(input, message.received_from(Source::Child { child: "tester".to_owned(), topic: None }))
    }

    /// Gives the module a message.
    pub fn receive(&mut self, input: &str, message: Message) -> Result<(), Failure> {
        self.call(|module| module.handle(input, message))
    }

    /// Gives the module messages from a child device named `tester`, each with its input, in one call of
    /// [`Module::handle_batch`]. If that fails they come again one by one, as with the host. Gives what became of each.
    pub fn handle_batch<'a>(
        &mut self,
        messages: impl IntoIterator<Item = (&'a str, Outgoing)>,
    ) -> Vec<Result<(), Failure>> {
        let delivered = |(input, message): (&str, Outgoing)| Delivered {
            input: input.to_owned(),
            message: message.received_from(Source::Child { child: "tester".to_owned(), topic: None }),
        };
        let batch: Vec<Delivered> = messages.into_iter().map(delivered).collect();
        match self.call(|module| module.handle_batch(batch.clone())) {
            Ok(()) => vec![Ok(()); batch.len()],
            Err(_) => batch.into_iter().map(|one| self.receive(&one.input, one.message)).collect(),
        }
    }

    /// Moves the clock, and fires the timers that run out on the way, in order. Ends early, with the clock at that
    /// moment, when the module answers a timer with a failure.
    pub fn advance(&mut self, time: Duration) -> Result<(), Failure> {
        let until = self.world.now.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        while let Some(name) = self.world.next_timer(until) {
            self.call(|module| module.fire(&name))?;
        }
        self.world.now = until;
        Ok(())
    }

    /// Merges a patch into the desired properties, and tells the module of it.
    pub fn desire(&mut self, patch: serde_json::Value) -> Result<(), Failure> {
        let version = self.world.twin.desire(&patch);
        self.call(|module| module.desired(Change { version, patch: patch.to_string() }))
    }

    /// Calls a method of the module. The payload is JSON, or empty.
    pub fn invoke(&mut self, method: &str, payload: &str) -> Result<Reply, Failure> {
        self.call(|module| module.invoke(method, Payload(payload.to_owned())))
    }

    /// What the module has reported of itself, in calls that succeeded.
    pub fn reported(&self) -> &serde_json::Value {
        &self.world.twin.reported
    }

    /// The methods that the module has called, by calls that failed, too; they are taken away.
    pub fn take_calls(&mut self) -> Vec<Called> {
        std::mem::take(&mut self.world.calls)
    }

    /// A metric of the module, measured by calls that failed, too.
    pub fn metric(&self, name: &str) -> Option<&Measured> {
        self.world.metrics.get(name)
    }

    /// Stops the instance and starts a new one: the state and the clock stay, timers and fields go.
    pub fn restart(mut self) -> Result<Self, Error> {
        self.stop();
        self.world.clear_timers();
        let (started, world) = imports::within(self.world, M::start);
        Ok(Self { module: started?, world })
    }

    /// Tells the module that it is stopped.
    pub fn stop(&mut self) {
        self.within(M::stop);
    }

    /// From now on the state answers with an error (`true`), or works again (`false`).
    pub fn break_state(&mut self, broken: bool) {
        self.world.state_broken = broken;
    }

    /// What was sent by calls that succeeded, oldest first; it is taken away.
    pub fn take_sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.world.sent)
    }

    /// The same, left where it is.
    pub fn sent(&self) -> &[Sent] {
        &self.world.sent
    }

    /// The value of a key of the state.
    pub fn state(&self, key: &str) -> Option<&[u8]> {
        self.world.state.get(key).map(Vec::as_slice)
    }

    /// The value of a key of the state, read as JSON. Panics if it is there and is not the expected JSON.
    pub fn state_json<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let value = self.state(key)?;
        Some(serde_json::from_slice(value).unwrap_or_else(|error| panic!("state {key:?}: {error}")))
    }

    /// Every key of the state, in order.
    pub fn state_keys(&self) -> impl Iterator<Item = &str> {
        self.world.state.keys().map(String::as_str)
    }

    /// What was logged, by calls that failed, too.
    pub fn logs(&self) -> &[Line] {
        &self.world.logs
    }

    /// The clock.
    pub fn now(&self) -> UnixMillis {
        self.world.now
    }

    /// The names of the timers that are set.
    pub fn timers(&self) -> Vec<&str> {
        self.world.timer_names()
    }

    /// The module itself.
    pub fn module(&self) -> &M {
        &self.module
    }

    fn call<T>(&mut self, act: impl FnOnce(&mut M) -> Result<T, Failure>) -> Result<T, Failure> {
        let before = self.world.savepoint();
        let result = self.within(act);
        if result.is_err() {
            self.world.roll_back(before);
        }
        result
    }

    fn within<T>(&mut self, act: impl FnOnce(&mut M) -> T) -> T {
        let world = std::mem::take(&mut self.world);
        let module = &mut self.module;
        let (result, world) = imports::within(world, || act(module));
        self.world = world;
        result
    }
}

impl<M> fmt::Debug for Running<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("world", &self.world).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OrFail, outbox, state, timers, twins};

    /// Sends, stores and then does what the message says.
    struct Obedient;

    impl Module for Obedient {
        fn start() -> Result<Self, Error> {
            timers::every("tick", Duration::from_millis(100))?;
            Ok(Self)
        }

        fn handle(&mut self, input: &str, message: Message) -> Result<(), Failure> {
            let order = message.text().or_reject()?;
            state::set(input, order.as_bytes())?;
            assert!(state::exists(input)?, "a call sees what it has written");
            outbox::send(input, Outgoing::text(order))?;
            crate::log::info!("order {order}");
            match order {
                "retry" => Err(Failure::retry("as ordered")),
                "reject" => Err(Failure::reject("as ordered")),
                _ => Ok(()),
            }
        }

        fn fire(&mut self, timer: &str) -> Result<(), Failure> {
            Ok(outbox::send(timer, Outgoing::text(crate::clock::now().to_string()))?)
        }
    }

    #[test]
    fn a_call_that_fails_leaves_nothing_behind_but_its_log_lines() {
        let mut module = Harness::new().state("in", "old").start::<Obedient>().unwrap();
        for order in ["retry", "reject"] {
            assert!(module.handle("in", Outgoing::text(order)).is_err());
            assert_eq!((module.state("in"), module.sent()), (Some(&b"old"[..]), &[][..]));
        }
        assert_eq!(module.logs().len(), 2);
        module.handle("in", Outgoing::text("fine")).unwrap();
        assert_eq!((module.state("in"), module.sent().len()), (Some(&b"fine"[..]), 1));
    }

    #[test]
    fn a_batch_that_fails_comes_again_one_by_one_and_only_its_culprit_fails() {
        let mut module = Harness::new().start::<Obedient>().unwrap();
        let batch = |orders: &[&'static str]| {
            orders.iter().map(|one| ("in", Outgoing::text(*one))).collect::<Vec<_>>()
        };
        assert_eq!(module.handle_batch(batch(&["a", "b"])), [Ok(()), Ok(())]);
        let answers = module.handle_batch(batch(&["c", "reject", "d"]));
        assert_eq!(answers, [Ok(()), Err(Failure::reject("as ordered")), Ok(())]);
        let sent: Vec<_> = module.take_sent().iter().map(|s| s.message.text().unwrap().to_owned()).collect();
        assert_eq!((sent.concat(), module.state("in")), ("abcd".to_owned(), Some(&b"d"[..])));
    }

    #[test]
    fn timers_fire_in_order_on_the_clock_of_the_test_and_end_with_the_instance() {
        let mut module = Harness::new().clock(1_000).start::<Obedient>().unwrap();
        module.advance(Duration::from_millis(250)).unwrap();
        let times: Vec<_> = module.take_sent().iter().map(|s| s.message.text().unwrap().to_owned()).collect();
        assert_eq!((times, module.now()), (vec!["1100".to_owned(), "1200".to_owned()], 1_250));
        let module = module.restart().unwrap();
        assert_eq!(module.timers(), ["tick"]);
    }

    #[test]
    fn what_the_host_refuses_the_harness_refuses_with_the_same_error() {
        let mut module = Harness::new().start::<Obedient>().unwrap();
        let error = module.handle("in/out", Outgoing::text("x")).unwrap_err();
        assert!(matches!(&error, Failure::Reject(why) if why.contains("'/' at byte 2")), "{error}");
        module.break_state(true);
        assert!(matches!(module.handle("in", Outgoing::text("x")), Err(Failure::Retry(_))));
        let (error, _) = imports::within(World::default(), || timers::once("t", Duration::ZERO));
        assert_eq!(error, Err(timers::TimerError::TooShort(world::TIMER_MS_MIN)));
    }

    /// Reports the version that it follows, and then does what the change or the call says.
    struct Follower;

    impl Module for Follower {
        fn start() -> Result<Self, Error> {
            Ok(Self)
        }

        fn handle(&mut self, _: &str, message: Message) -> Result<(), Failure> {
            twins::report(&message.json::<serde_json::Value>()?)?;
            Ok(())
        }

        fn desired(&mut self, change: Change) -> Result<(), Failure> {
            twins::report(&serde_json::json!({ "follows": change.version }))?;
            let all = twins::desired::<serde_json::Value>()?;
            assert_eq!(all.version, change.version);
            match all.value.get("fail") {
                Some(_) => Err(Failure::retry("as desired")),
                None => Ok(()),
            }
        }

        fn invoke(&mut self, method: &str, payload: Payload) -> Result<Reply, Failure> {
            twins::report(&serde_json::json!({ "invoked": method }))?;
            let called =
                crate::methods::call("other", method, &payload.json::<u32>()?, crate::methods::TIME)?;
            Reply::json(called.status, &twins::reported::<serde_json::Value>()?)
        }
    }

    #[test]
    fn a_twin_is_followed_and_what_a_failed_call_reports_is_forgotten() {
        let mut module = Harness::new().start::<Follower>().unwrap();
        module.desire(serde_json::json!({ "a": 1 })).unwrap();
        assert!(module.desire(serde_json::json!({ "fail": true })).is_err());
        assert_eq!(module.reported(), &serde_json::json!({ "follows": 2 }));
        module.desire(serde_json::json!({ "fail": null })).unwrap();
        assert_eq!(module.reported(), &serde_json::json!({ "follows": 4 }));
        module.handle("in", Outgoing::text(r#"{"follows":null,"b":{"c":1}}"#)).unwrap();
        assert_eq!(module.reported(), &serde_json::json!({ "b": { "c": 1 } }));
        assert!(matches!(module.handle("in", Outgoing::text("[]")), Err(Failure::Reject(_))));
        let large = serde_json::json!({ "b": "x".repeat(40_000) }).to_string();
        assert!(module.handle("in", Outgoing::text(large)).is_err());
    }

    #[test]
    fn a_method_answers_calls_others_and_leaves_nothing_behind_when_it_fails() {
        let mut module = Harness::new().answer("other", "go", Reply::empty(201)).start::<Follower>().unwrap();
        assert_eq!(
            module.invoke("go", "7").unwrap(),
            Reply::json(201, &serde_json::json!({ "invoked": "go" })).unwrap()
        );
        let called = Called { target: "other".to_owned(), name: "go".to_owned(), payload: "7".to_owned() };
        assert_eq!(module.take_calls(), [called]);
        assert!(
            matches!(module.invoke("stay", "7"), Err(Failure::Retry(why)) if why.contains("not connected"))
        );
        assert!(matches!(module.invoke("go", "\"x\""), Err(Failure::Reject(_))));
        assert_eq!(module.reported(), &serde_json::json!({ "invoked": "go" }));
    }

    #[test]
    fn every_key_of_the_state_is_listed_however_many_pages_there_are() {
        let world = Harness::new().state("a", "1").state("b", "2").state("c", "3").world;
        let (keys, _) = imports::within(world, state::keys);
        assert_eq!(keys.unwrap(), ["a", "b", "c"]);
    }
}
