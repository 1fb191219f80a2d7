//! One instance of a module, and calls into it that always end.

mod batch;
mod others;

pub(crate) use others::{answer_request, run_program};

use crate::config::Limits;
use crate::host::{Host, RESOURCES_MAX};
use crate::imports::bindings::exports::holdfast::module::batch_handler::Guest as BatchHandler;
use crate::imports::bindings::exports::holdfast::module::handler::{Failure, Guest as Handler, Message};
use crate::imports::bindings::holdfast::module::types::{
    ChildSource, MethodReply, ModuleSource, Source as Sender, SystemProperties,
};
use crate::imports::{self, Calling, Outbox, Reach, Requests, Sharing, Sockets, TimerSet, Views};
use crate::limiter::Limiter;
use crate::load::{Code, Serves};
use crate::logs::cut;
use crate::metrics::Metrics;
use crate::module::Version;
use crate::module_log::ModuleLog;
use crate::pace::{Meter, Pace};
use crate::runtime::Runtime;
use crate::state::ModuleState;
use crate::status::now;
use crate::twin::ModuleTwin;
use crate::waiting::Waiting;
use holdfast_types::{Envelope, Name, Source, SystemKey, UnixMillis};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant as Moment};
use wasmtime::component::{ResourceTable, TypedFunc};
use wasmtime::{Store, Trap, UpdateDeadline};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::WasiHttpCtx;

/// Most bytes that one call of an import brings to the host: the largest message that may be sent, and some.
const IMPORT_BYTES_MAX: usize = 2 * holdfast_types::BODY_BYTES_MAX;

/// Most bytes of a reason: it is shown in a table and kept with dead letters.
const REASON_BYTES_MAX: usize = 1_024;

/// How a call ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It succeeded. What it sent and stored waits to be taken.
    Done,
    /// The module asks for the message again later. Nothing of the call remains.
    Retry(String),
    /// The module will never handle the message. Nothing of the call remains.
    Reject(String),
    /// The instance is of no use any more.
    Lost(String),
}

/// What every instance of a module has around it.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) runtime: Runtime,
    pub(crate) state: ModuleState,
    pub(crate) twin: ModuleTwin,
    pub(crate) calling: Calling,
    pub(crate) log: ModuleLog,
    pub(crate) pace: Arc<Pace>,
    pub(crate) metrics: Metrics,
    pub(crate) name: Name,
    /// Whether it is a shadow: it changes nothing outside itself.
    pub(crate) shadow: bool,
}

/// What an instance is made from.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) version: &'a Version,
    pub(crate) surroundings: &'a Surroundings,
}

/// A running instance.
pub(crate) struct Instance {
    store: Store<Host>,
    exports: Exports,
    waiting: Waiting,
    /// Measures how long it computes.
    pub(crate) meter: Meter,
    call_limit: Duration,
    started: UnixMillis,
}

impl Instance {
    /// Makes an instance and calls `start`. What `start` sent and stored waits to be taken.
    pub(crate) async fn start(parts: Parts<'_>) -> Result<Self, String> {
        let _busy = parts.surroundings.runtime.busy();
        let Parts { version, surroundings: _ } = parts;
        let limits = version.settings.limits;
        let limit = Duration::from_millis(limits.start_ms.into());
        let started = now();
        let until = Moment::now() + limit;
        let mut store = store(parts, limit, Purpose::Messages)?;
        let waiting = store.data().calling.waiting.clone();
        let meter = store.data().meter.clone();
        meter.resumed(Moment::now());
        let instantiated =
            within(limit, &waiting, &meter, version.code.pre.instantiate_async(&mut store)).await;
        let loaded = match instantiated {
            Err(late) => Err(late.text("instantiation", "limits.start_ms", limit)),
            Ok(Err(error)) => {
                Err(cause(&mut store, &error, "instantiation", "limits.start_ms", limit, started))
            }
            Ok(Ok(instance)) => {
                exports(&mut store, &instance, &version.code).map_err(|error| format!("{error:#}"))
            }
        };
        let exports = loaded?;
        let called =
            within(until - Moment::now(), &waiting, &meter, exports.handler.call_start(&mut store)).await;
        meter.paused(Moment::now());
        match called {
            Err(late) => Err(late.text("start", "limits.start_ms", limit)),
            Ok(Err(error)) => Err(cause(&mut store, &error, "start", "limits.start_ms", limit, started)),
            Ok(Ok(Err(reason))) => Err(format!("start failed: {}", cut(&reason, REASON_BYTES_MAX))),
            Ok(Ok(Ok(()))) => {
                let call_limit = Duration::from_millis(limits.call_ms.into());
                store.data_mut().deadline.set_limit(call_limit);
                Ok(Self { store, exports, waiting, meter, call_limit, started })
            }
        }
    }

    /// Hands over one message.
    pub(crate) async fn handle(&mut self, input: &str, envelope: &Envelope) -> Outcome {
        let system = system_of(envelope);
        let properties: Vec<(&str, &str)> = envelope.message.properties.iter().collect();
        let message = Message {
            body: &envelope.message.body,
            properties: &properties,
            system: &system,
            source: sender(&envelope.source),
        };
        self.begin();
        let call = self.exports.handler.call_handle(&mut self.store, input, message);
        let ended = within(self.call_limit, &self.waiting, &self.meter, call).await;
        self.outcome("handle", self.call_limit, ended)
    }

    /// Tells of a timer that has run out.
    pub(crate) async fn fire(&mut self, timer: String) -> Outcome {
        let Some(fire) = &self.exports.fire else {
            return Outcome::Reject("the module sets timers but does not export timer-handler".to_owned());
        };
        self.store.data_mut().deadline.renew();
        self.store.set_epoch_deadline(1);
        let ended =
            within(self.call_limit, &self.waiting, &self.meter, fire.call_async(&mut self.store, (timer,)))
                .await;
        self.outcome("fire", self.call_limit, ended.map(|called| called.map(|(result,)| result)))
    }

    /// Tells of a change of the desired properties.
    pub(crate) async fn desired(&mut self, version: u64, patch: String) -> Outcome {
        let Some(desired) = &self.exports.desired else { return Outcome::Done };
        self.store.data_mut().deadline.renew();
        self.store.set_epoch_deadline(1);
        let call = desired.call_async(&mut self.store, (version, patch));
        let ended = within(self.call_limit, &self.waiting, &self.meter, call).await;
        self.outcome("desired", self.call_limit, ended.map(|called| called.map(|(result,)| result)))
    }

    /// Calls a method. The reply is there if it succeeded.
    pub(crate) async fn invoke(
        &mut self,
        name: String,
        payload: String,
    ) -> (Outcome, Option<holdfast_broker::MethodReply>) {
        let Some(invoke) = &self.exports.invoke else {
            return (Outcome::Reject("the module does not export method-handler".to_owned()), None);
        };
        self.store.data_mut().deadline.renew();
        self.store.set_epoch_deadline(1);
        let call = invoke.call_async(&mut self.store, (name, payload));
        let ended = within(self.call_limit, &self.waiting, &self.meter, call).await;
        let mut reply = None;
        let ended = ended.map(|called| {
            called.map(|(result,)| {
                result.map(|MethodReply { status, payload_json }| {
                    reply = Some(holdfast_broker::MethodReply { status, payload: payload_json.into() });
                })
            })
        });
        (self.outcome("invoke", self.call_limit, ended), reply)
    }

    /// Tells the module that it ends. What this call sent and stored waits to be taken.
    pub(crate) async fn stop(&mut self) -> Outcome {
        self.begin();
        let call = self.exports.handler.call_stop(&mut self.store);
        let ended = within(self.call_limit, &self.waiting, &self.meter, call).await;
        self.outcome("stop", self.call_limit, ended.map(|called| called.map(Ok)))
    }

    /// The host's side: what the last call sent, stored and set.
    pub(crate) fn host(&mut self) -> &mut Host {
        self.store.data_mut()
    }

    /// Bytes of linear memory.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.store.data().limiter.memory_bytes()
    }

    /// When the next timer runs out.
    pub(crate) fn next_timer(&self) -> Option<Moment> {
        self.store.data().timers.next_due()
    }

    fn begin(&mut self) {
        self.store.data_mut().deadline.renew();
        self.store.set_epoch_deadline(1);
    }

    fn outcome(
        &mut self,
        what: &str,
        limit: Duration,
        ended: Result<wasmtime::Result<Result<(), Failure>>, Late>,
    ) -> Outcome {
        let short = |reason: String| cut(&reason, REASON_BYTES_MAX).to_owned();
        let outcome = match ended {
            Ok(Ok(Ok(()))) => return Outcome::Done,
            Ok(Ok(Err(Failure::Retry(reason)))) => Outcome::Retry(short(reason)),
            Ok(Ok(Err(Failure::Reject(reason)))) => Outcome::Reject(short(reason)),
            Ok(Err(error)) => {
                Outcome::Lost(cause(&mut self.store, &error, what, "limits.call_ms", limit, self.started))
            }
            Err(late) => Outcome::Lost(late.text(what, "limits.call_ms", limit)),
        };
        self.store.data_mut().discard();
        outcome
    }
}

/// What an instance is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Its calls belong to turns.
    Messages,
    /// One request.
    Request,
    /// The main function.
    Program,
}

/// A store for a new instance, whose first call may take `limit`.
fn store(parts: Parts<'_>, limit: Duration, purpose: Purpose) -> Result<Store<Host>, String> {
    let Parts { version, surroundings } = parts;
    let Surroundings { runtime, state, twin, calling, log, pace, metrics, name, shadow } = surroundings;
    let settings = &version.settings;
    let limits = settings.limits;
    let mut table = ResourceTable::new();
    table.set_max_capacity(RESOURCES_MAX);
    let reach = Reach {
        granted: if *shadow { Arc::default() } else { settings.hosts.as_slice().into() },
        outgoing: runtime.outgoing(),
        places: version.connections.clone(),
        places_max: limits.connections,
        log: log.clone(),
        shadow: *shadow,
    };
    let wasi = imports::context(name, settings, log, &reach);
    let host = Host {
        wasi: wasi.map_err(|error| error.to_string())?,
        table,
        limiter: Limiter::new(limits, log.clone(), purpose == Purpose::Program),
        limits,
        settings: settings.clone(),
        log: log.clone(),
        meter: Meter::new(pace),
        metrics: metrics.clone(),
        deadline: runtime.deadline(limit),
        outbox: Outbox::default(),
        sharing: Sharing::ALONE,
        timers: TimerSet::default(),
        state: state.view(limits.state_bytes),
        views: Views::of(&settings.directories),
        twin: twin.view(),
        calling: calling.of_instance(),
        requests: Requests(reach),
        http: WasiHttpCtx::new(),
        sockets: Sockets::default(),
        records: purpose == Purpose::Messages,
    };
    let mut store = Store::new(runtime.engine(), host);
    store.limiter(|host| &mut host.limiter);
    store.set_hostcall_fuel(IMPORT_BYTES_MAX);
    store.set_epoch_deadline(1);
    // A call that computes gives way to other tasks each tick, and is ended when its time is up. One that has used up
    // the share of its module rests; that time does not count.
    store.epoch_deadline_callback(|mut store| {
        let host = store.data_mut();
        if host.deadline.is_over() {
            return Ok(UpdateDeadline::Interrupt);
        }
        let Some(hold) = host.meter.still(Moment::now()) else { return Ok(UpdateDeadline::Yield(1)) };
        host.log.refuse(hold.limit, || hold.text);
        host.deadline.leave_out(hold.time);
        let waiting = host.calling.waiting.begin();
        let rest = async move {
            tokio::time::sleep(hold.time).await;
            drop(waiting);
        };
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(rest)))
    });
    Ok(store)
}

type Fire = TypedFunc<(String,), (Result<(), Failure>,)>;
type Desired = TypedFunc<(u64, String), (Result<(), Failure>,)>;
type Invoke = TypedFunc<(String, String), (Result<MethodReply, Failure>,)>;

/// What an instance exports.
struct Exports {
    handler: Handler,
    batch: Option<BatchHandler>,
    fire: Option<Fire>,
    desired: Option<Desired>,
    invoke: Option<Invoke>,
}

fn exports(
    store: &mut Store<Host>,
    instance: &wasmtime::component::Instance,
    code: &Code,
) -> wasmtime::Result<Exports> {
    let Serves::Messages(indices, _) = &code.serves else {
        wasmtime::bail!("it does not handle messages");
    };
    let handler = indices.load(&mut *store, instance)?;
    let batch = code.batch.as_ref().map(|batch| batch.load(&mut *store, instance)).transpose()?;
    let fire = code.fire.as_ref().map(|fire| instance.get_typed_func(&mut *store, fire)).transpose()?;
    let desired =
        code.desired.as_ref().map(|desired| instance.get_typed_func(&mut *store, desired)).transpose()?;
    let invoke =
        code.invoke.as_ref().map(|invoke| instance.get_typed_func(&mut *store, invoke)).transpose()?;
    Ok(Exports { handler, batch, fire, desired, invoke })
}

/// A call did not end in time, though it was not computing: it waited for a clock or a file.
struct Late;

impl Late {
    fn text(&self, what: &str, setting: &str, limit: Duration) -> String {
        let ms = limit.as_millis();
        format!("{what} took longer than {ms} ms; raise {setting} in the module's .toml if it needs longer")
    }
}

/// Waits for a call, but not longer than `limit`, the time not counted in which it waits for others. The timer is set
/// only if the call does not end at once.
async fn within<T>(
    limit: Duration,
    waiting: &Waiting,
    meter: &Meter,
    call: impl Future<Output = T>,
) -> Result<T, Late> {
    let mut call = pin!(call);
    match poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await {
        Poll::Ready(ended) => Ok(ended),
        // The clock of the runtime ends calls that compute; this ends those that wait, a little later, so that the
        // cause is told rightly.
        Poll::Pending => {
            let (began, waited) = (Moment::now(), waiting.total());
            meter.paused(began);
            let mut call = pin!(metered(call, meter));
            loop {
                let allowed = limit + 3 * crate::runtime::TICK + (waiting.total() - waited);
                let Some(left) = allowed.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) else {
                    return Err(Late);
                };
                if let Ok(ended) = tokio::time::timeout(left, call.as_mut()).await {
                    return Ok(ended);
                }
            }
        }
    }
}

/// Counts the time of each poll, and not what is between them. When it is done, the time goes on counting.
async fn metered<T>(mut call: Pin<&mut impl Future<Output = T>>, meter: &Meter) -> T {
    poll_fn(|context| {
        meter.resumed(Moment::now());
        let polled = call.as_mut().poll(context);
        if polled.is_pending() {
            meter.paused(Moment::now());
        }
        polled
    })
    .await
}

/// What made a call fail, in words: the trap, what was refused before it, and the module's own last words.
fn cause(
    store: &mut Store<Host>,
    error: &wasmtime::Error,
    what: &str,
    setting: &str,
    limit: Duration,
    since: UnixMillis,
) -> String {
    if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
        return Late.text(what, setting, limit);
    }
    let mut text = match (error.downcast_ref::<I32Exit>(), error.downcast_ref::<Trap>()) {
        (Some(exit), _) => format!("{what} ended the program with exit code {}", exit.0),
        (None, Some(trap)) => format!("{what} trapped: {trap}"),
        (None, None) => format!("{what} failed: {}", error.root_cause()),
    };
    if error.downcast_ref::<Trap>() == Some(&Trap::StackOverflow) {
        text.push_str("; raise modules.stack in holdfast.toml, for all modules, if it needs more");
    }
    if let Some(named) = counted(&store.data().limits, &text) {
        text = format!("{text}; {named}");
    }
    if let Some(refused) = store.data_mut().limiter.take_refused() {
        text = format!("{text}; {refused}");
    }
    if let Some(words) = store.data().log.book().last_words(since) {
        text = format!("{text}; its last words: {words}");
    }
    cut(&text, REASON_BYTES_MAX).to_owned()
}

/// Which setting wasmtime means when it counts too many of something.
fn counted(limits: &Limits, text: &str) -> Option<String> {
    let all = [
        ("instance count", "limits.instances", limits.instances),
        ("table count", "limits.tables", limits.tables),
        ("memory count", "limits.memories", limits.memories),
    ];
    let (_, limit, most) = all.into_iter().find(|(what, _, _)| text.contains(what))?;
    Some(format!("{most} are allowed; raise {limit} in the module's .toml if it needs more"))
}

fn system_of(envelope: &Envelope) -> SystemProperties {
    let system = &envelope.message.system;
    let text = |key| system.value(key).map(str::to_owned);
    let any = system.iter().len() > 0;
    SystemProperties {
        message_id: any.then(|| text(SystemKey::MessageId)).flatten(),
        correlation_id: any.then(|| text(SystemKey::CorrelationId)).flatten(),
        content_type: any.then(|| text(SystemKey::ContentType)).flatten(),
        content_encoding: any.then(|| text(SystemKey::ContentEncoding)).flatten(),
        creation_time: system.creation_time.map(|time| time.0),
    }
}

fn sender(source: &Source) -> Sender<'_> {
    match source {
        Source::Module { module, output } => {
            Sender::Module(ModuleSource { module: module.as_str(), output: output.as_deref() })
        }
        Source::Child { child, topic } => {
            Sender::Child(ChildSource { child: child.as_str(), topic: topic.as_deref() })
        }
        Source::TwinChange { device, module } => Sender::TwinChange((device.as_str(), module.as_deref())),
    }
}
