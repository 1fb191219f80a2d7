//! What the running host answers on the control socket.

use super::{
    logging::LogControl,
    own_metrics,
    shown::{
        command_refused, detail, failed, millis, now, parse, shown_session, store_refused, stored, upstream,
    },
};
use crate::identities::Identities;
use holdfast_api::*;
use holdfast_broker::{Broker, DEFAULT_ROUTE};
use holdfast_config::Config;
use holdfast_engine::{EngineHandle, LogQuery, ModuleStatus, RuntimeStatus, next_name};
use holdfast_gateway::{SessionList, Stats};
use holdfast_store::Which;
use holdfast_types::{Durability, Envelope, LogId, Offset, Priority, QueueId, StableId, UnixMillis};
use holdfast_upstream::StatusHandle;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Most messages that one request may peek at.
const PEEK_MAX: u64 = 10_000;
/// How long the answer to an order waits for its result, and how often it looks.
const CHANGE_PATIENCE: Duration = Duration::from_secs(2);
const CHANGE_LOOK: Duration = Duration::from_millis(5);

/// Everything that can be shown or asked.
pub struct RunningHost {
    pub config: Config,
    pub broker: Broker,
    pub identities: Arc<Identities>,
    pub engine: EngineHandle,
    pub upstream: Option<StatusHandle>,
    pub gateway: Vec<SocketAddr>,
    pub clients: Option<Arc<Stats>>,
    pub sessions: Option<SessionList>,
    pub log: LogControl,
    pub started: Instant,
    pub stop: CancellationToken,
}

impl Host for RunningHost {
    fn answer(&self, request: Request, items: Items) -> Answer<'_> {
        Box::pin(self.carry_out(request, items))
    }
}

impl RunningHost {
    async fn carry_out(&self, request: Request, items: Items) -> Result<(), Refusal> {
        match request {
            Request::Metrics => {
                for family in self.metrics() {
                    items.send(Item::Metric(family)).await?;
                }
            }
            Request::Status => items.send(Item::Status(self.status())).await?,
            Request::Modules => {
                for module in self.engine.list() {
                    items.send(Item::Module(self.module(&module))).await?;
                }
            }
            Request::Module(request) => self.change_modules(&request, &items).await?,
            Request::Logs(request) => self.logs(&request, &items).await?,
            Request::Tail(request) => self.tail(&request, &items).await?,
            Request::Queues => {
                for queue in self.queues() {
                    items.send(Item::Queue(queue)).await?;
                }
            }
            Request::Peek(request) => self.peek(&request, &items).await?,
            Request::Purge(request) => items.send(Item::Count(self.purge(&request)?)).await?,
            Request::Requeue(request) => items.send(Item::Count(self.requeue(&request)?)).await?,
            Request::Send(request) => items.send(Item::Receipt(self.send(&request).await?)).await?,
            Request::Devices => {
                for device in self.devices() {
                    items.send(Item::Device(device)).await?;
                }
            }
            Request::Device(request) => items.send(self.device(request).await?).await?,
            Request::Sessions => {
                for session in self.sessions.iter().flat_map(SessionList::all) {
                    items.send(Item::Session(shown_session(session))).await?;
                }
            }
            Request::Routes => {
                for route in self.broker.routes().routes() {
                    items.send(Item::Route(crate::commands::routes::item(route))).await?;
                }
            }
            Request::Deployment(request) => {
                items.send(Item::Deployment(self.deployment(request).await?)).await?;
            }
            Request::Twins => {
                for twin in self.twins()? {
                    items.send(Item::Twin(twin)).await?;
                }
            }
            Request::Twin(request) => items.send(Item::Twin(self.twin(&request.who)?)).await?,
            Request::Desire(request) => items.send(Item::Twin(self.desire(&request).await?)).await?,
            Request::RemoveTwin(request) => {
                items.send(Item::Done(self.remove_twin(&request.who).await?)).await?;
            }
            Request::Method(request) => {
                items.send(Item::MethodReply(self.call_method(&request).await?)).await?;
            }
            Request::CloudToDevice(request) => {
                items.send(Item::Done(self.cloud_to_device(&request).await?)).await?;
            }
            Request::Explain(request) => {
                let (source, message) = parse(&request)?;
                let envelope = Envelope { message, source, received: now(), hops: 0 };
                for one in
                    crate::commands::routes::explain(&self.broker.routes(), self.broker.edge(), &envelope)
                {
                    items.send(Item::Explanation(one)).await?;
                }
            }
            Request::Check => {
                let text = "run `holdfast check`, which looks from outside as well";
                items.send(Item::Done(text.to_owned())).await?;
            }
            Request::LogLevel(level) => {
                self.log.set(crate::commands::log_level(level)).map_err(failed)?;
                items
                    .send(Item::Done(
                        format!("from now on everything from {level:?} up is logged").to_lowercase(),
                    ))
                    .await?;
            }
            Request::UsePlace(place) => items.send(Item::Done(self.use_place(place.as_deref())?)).await?,
            Request::Stop => {
                items.send(Item::Done("stopping".to_owned())).await?;
                self.stop.cancel();
            }
        }
        Ok(())
    }

    fn use_place(&self, place: Option<&str>) -> Result<String, Refusal> {
        let Some(upstream) = &self.upstream else {
            return Err(Refusal::new(Code::BadRequest, "no upstream is configured"));
        };
        upstream.use_place(place).map_err(|names| {
            let fix = format!("name one of {}, or auto", names.join(", "));
            Refusal::new(Code::NotFound, "there is no such hub or broker in [upstream]").with_fix(fix)
        })?;
        Ok(match place {
            Some(place) => {
                format!("messages go to {place} from now on, until `holdfast upstream --use auto`")
            }
            None => "the edge chooses again".to_owned(),
        })
    }

    fn status(&self) -> StatusItem {
        let stats = self.broker.store().stats();
        let clients = self.clients.as_ref().map(|stats| stats.snapshot()).unwrap_or_default();
        let sessions = self.broker.session_totals();
        let mut status = StatusItem {
            edge: self.broker.edge().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: millis(self.started.elapsed()),
            data: self.config.paths.data.display().to_string(),
            epoch: format!("{:016x}", self.broker.store().epoch()),
            upstream: self.upstream.as_ref().map(upstream),
            gateway: self.gateway.iter().map(ToString::to_string).collect(),
            connections: clients.connections,
            sessions: clients.sessions,
            session_messages: sessions.positions,
            session_bytes: sessions.bytes,
            waiting: self.broker.store().queues().iter().map(|queue| queue.waiting).sum(),
            store_bytes: stats.bytes,
            store_quota_bytes: self.config.store.quota_bytes,
            ..StatusItem::default()
        };
        for module in self.engine.list() {
            *status.modules.entry(module.status.as_str().to_owned()).or_default() += 1;
        }
        if stats.reopened > 0 {
            status.warnings.push(format!(
                "the database failed and was opened anew {} times; look at the disk",
                stats.reopened
            ));
        }
        status
    }

    fn module(&self, module: &ModuleStatus) -> ModuleItem {
        let log = holdfast_types::Name::new(&module.name).ok().map(|name| LogId::module(&name));
        let waiting = log.map_or(0, |log| {
            let recorded: u64 =
                self.broker.store().positions(&log).iter().map(|q| q.tail.0.saturating_sub(q.cursor.0)).sum();
            recorded + self.broker.lane_lengths(&log).0 as u64
        });
        ModuleItem {
            name: module.name.clone(),
            state: module.status.as_str().to_owned(),
            detail: detail(module),
            since_ms: module.last_start.max(module.last_exit).map_or(0, |at| at.0),
            restarts: u64::from(module.restarts),
            handled: module.messages_in,
            sent: module.messages_out,
            failed: module.dead_letters,
            expired: module.expired,
            waiting,
            cpu_permille: module.cpu_permille.into(),
            swapped_ms: module.last_swap.map(|at| at.0),
            swap_us: module.swap_us,
            refusals: module.refusals.iter().map(|(limit, times)| ((*limit).to_owned(), *times)).collect(),
            metrics: own_metrics::shown(module),
            memory_bytes: module.memory_bytes,
            digest: (!module.digest.is_empty()).then(|| module.digest.clone()),
            shadow: module.shadow.as_ref().map(|shadow| ShadowItem {
                matched: shadow.matched,
                differed: shadow.differed,
                skipped: shadow.skipped,
                differences: shadow.differences.clone(),
            }),
        }
    }

    async fn change_modules(&self, request: &ModuleRequest, items: &Items) -> Result<(), Refusal> {
        let meant = match &request.module {
            Some(module) => vec![module.clone()],
            // Next versions start and stop with their modules.
            None => {
                let modules = self.engine.list().into_iter();
                modules.filter(|module| module.shadow.is_none()).map(|module| module.name).collect()
            }
        };
        let promoted = match request.action {
            ModuleAction::Promote => self.next_digests(&meant),
            ModuleAction::Restart | ModuleAction::Stop | ModuleAction::Start | ModuleAction::Drop => {
                BTreeMap::new()
            }
        };
        for module in &meant {
            match request.action {
                ModuleAction::Restart => self.engine.restart(module).await,
                ModuleAction::Stop => self.engine.stop(module).await,
                ModuleAction::Start => self.engine.start(module).await,
                ModuleAction::Promote => self.engine.promote(module).await,
                ModuleAction::Drop => self.engine.drop_next(module).await,
            }
            .map_err(|error| command_refused(&error))?;
        }
        self.wait_for_change(request.action, &meant, &promoted).await;
        for module in self.engine.list().iter().filter(|module| meant.contains(&module.name)) {
            items.send(Item::Module(self.module(module))).await?;
        }
        Ok(())
    }

    /// An order is taken at once and carried out when the call in hand has ended. Whoever gave it wants to see the result.
    async fn wait_for_change(
        &self,
        action: ModuleAction,
        meant: &[String],
        promoted: &BTreeMap<String, String>,
    ) {
        let stopped = |module: &ModuleStatus| module.status == RuntimeStatus::Stopped;
        let takes_over =
            |module: &ModuleStatus| promoted.get(&module.name).is_none_or(|digest| *digest == module.digest);
        let end = Instant::now() + CHANGE_PATIENCE;
        while Instant::now() < end {
            let all = self.engine.list();
            let done = |module: &ModuleStatus| match action {
                ModuleAction::Stop => stopped(module),
                ModuleAction::Restart | ModuleAction::Start => !stopped(module),
                ModuleAction::Promote => takes_over(module) || module.refused.is_some(),
                ModuleAction::Drop => all.iter().all(|other| other.name != next_name(&module.name)),
            };
            if all.iter().filter(|module| meant.contains(&module.name)).all(done) {
                return;
            }
            sleep(CHANGE_LOOK).await;
        }
    }

    /// The digests of the next versions of modules, as far as these run in their shadows.
    fn next_digests(&self, modules: &[String]) -> BTreeMap<String, String> {
        let all = self.engine.list();
        let of = |module: &String| {
            let next = all.iter().find(|status| status.name == next_name(module))?;
            Some((module.clone(), next.digest.clone())).filter(|(_, digest)| !digest.is_empty())
        };
        modules.iter().filter_map(of).collect()
    }

    async fn logs(&self, request: &LogsRequest, items: &Items) -> Result<(), Refusal> {
        let Some(module) = &request.module else {
            let fix = "name one: holdfast logs MODULE; the host's own log is where its standard error goes";
            return Err(Refusal::new(Code::BadRequest, "logs are kept for each module").with_fix(fix));
        };
        let query = LogQuery {
            tail: request.tail.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            since: request.since_ms.map(UnixMillis),
            follow: request.follow,
        };
        let mut lines = self.engine.logs(module, query).map_err(|error| command_refused(&error))?;
        while let Some(line) = lines.next().await {
            if request.until_ms.is_some_and(|until| line.at.0 >= until) {
                break;
            }
            let level = crate::commands::module_level(line.level);
            let shown = LogLine {
                time_ms: line.at.0,
                module: Some(module.clone()),
                level,
                text: line.text.to_string(),
            };
            items.send(Item::Log(shown)).await?;
        }
        Ok(())
    }

    /// Whether a message can be taken by a route of this name; one that is misspelt would be waited for for ever.
    fn is_route(&self, name: &str) -> Result<(), Refusal> {
        let routes = self.broker.routes();
        let names = || routes.routes().iter().map(|route| &*route.name).chain([DEFAULT_ROUTE]);
        if names().any(|known| known == name) {
            return Ok(());
        }
        let fix = match holdfast_config::nearest(name, names()) {
            Some(known) => format!("write {known}, if that was meant; `holdfast routes list` shows all"),
            None => "`holdfast routes list` shows all".to_owned(),
        };
        Err(Refusal::new(Code::NotFound, format!("there is no route {name:?}")).with_fix(fix))
    }

    async fn tail(&self, request: &TailRequest, items: &Items) -> Result<(), Refusal> {
        request.route.as_deref().map_or(Ok(()), |route| self.is_route(route))?;
        let mut tap = self.broker.tap();
        let mut left = request.count.unwrap_or(u64::MAX);
        while left > 0 {
            let passing = match tap.next().await {
                None => break,
                Some(Err(lagged)) => {
                    items.send(Item::Skipped(lagged.0)).await?;
                    continue;
                }
                Some(Ok(passing)) => passing,
            };
            let taken = &passing.decision.taken;
            let envelope = &passing.envelope;
            let wanted =
                request.source.as_ref().is_none_or(|prefix| envelope.source.to_string().starts_with(prefix))
                    && request.route.as_ref().is_none_or(|route| taken.iter().any(|t| *t.route == **route));
            if !wanted {
                continue;
            }
            left -= 1;
            let taken = taken.iter().map(|t| Taken {
                route: t.route.to_string(),
                sink: t.sink.to_string(),
                priority: t.priority.level(),
                durable: t.durability == Durability::Durable,
            });
            let item = PassingItem {
                time_ms: envelope.received.0,
                from: Sender::of(&envelope.source),
                message: MessageText::of(&envelope.message, request.body_bytes_max),
                hops: envelope.hops,
                taken: taken.collect(),
            };
            items.send(Item::Passing(item)).await?;
        }
        Ok(())
    }

    fn queues(&self) -> Vec<QueueItem> {
        let queues = self.broker.store().queues().into_iter();
        queues
            .map(|queue| QueueItem {
                log: queue.queue.log.to_string(),
                priority: queue.queue.priority.level(),
                waiting: queue.waiting,
                bytes: queue.bytes,
                oldest_age_ms: queue.oldest.map(|at| now().0.saturating_sub(at.0)),
                cursor: queue.cursor.0,
                tail: queue.tail.0,
                dropped: [
                    ("oldest", queue.gone.dropped_oldest),
                    ("newest", queue.gone.dropped_newest),
                    ("purged", queue.gone.purged),
                    ("unreadable", queue.gone.unreadable),
                ]
                .into_iter()
                .filter(|(_, n)| *n > 0)
                .map(|(reason, n)| (reason.to_owned(), n))
                .collect(),
                expired: queue.gone.expired,
                dead: queue.dead,
            })
            .collect()
    }

    async fn peek(&self, request: &PeekRequest, items: &Items) -> Result<(), Refusal> {
        let log = self.known_log(&request.log)?;
        let count = usize::try_from(request.count.min(PEEK_MAX)).unwrap_or(usize::MAX);
        let store = self.broker.store();
        let from = request.from.map(Offset);
        if request.dead {
            for letter in store.dead_letters(&log, from, count).map_err(|error| store_refused(&error))? {
                let mut item =
                    stored(&log, letter.death.priority, letter.offset, None, &letter.entry, request);
                let (reason, attempts) = (letter.death.reason.to_string(), letter.death.attempts);
                item.dead = Some(DeadLetter { reason, attempts });
                items.send(Item::Stored(item)).await?;
            }
            return Ok(());
        }
        let mut left = count;
        for position in store.positions(&log) {
            let priority = position.queue.priority;
            if request.priority.is_some_and(|wanted| wanted != priority.level()) {
                continue;
            }
            for one in store.peek(&position.queue, from, left).map_err(|error| store_refused(&error))? {
                let id = StableId::in_log(&log, self.broker.edge(), store.epoch(), priority, one.offset);
                let item = stored(&log, priority, one.offset, Some(&id), &one.entry, request);
                left = left.saturating_sub(1);
                items.send(Item::Stored(item)).await?;
            }
        }
        Ok(())
    }

    fn purge(&self, request: &PurgeRequest) -> Result<u64, Refusal> {
        let log = self.known_log(&request.log)?;
        let store = self.broker.store();
        let purged = match (request.dead, request.priority) {
            (true, _) => store.purge_dead_letters(&log),
            (false, None) => store.purge_log(&log),
            (false, Some(level)) => {
                let priority = Priority::new(level).ok_or_else(|| {
                    Refusal::new(Code::BadRequest, format!("{level} is no priority; 0 to 10 are"))
                })?;
                store.purge(&QueueId { log, priority })
            }
        };
        purged.map_err(|error| store_refused(&error))
    }

    fn requeue(&self, request: &RequeueRequest) -> Result<u64, Refusal> {
        let log = self.known_log(&request.log)?;
        let store = self.broker.store();
        let life = self.broker.time_to_live();
        let Some(offsets) = &request.offsets else {
            return store.requeue(&log, Which::All, life).map_err(|error| store_refused(&error));
        };
        let mut count = 0;
        for offset in offsets {
            count += store
                .requeue(&log, Which::One(Offset(*offset)), life)
                .map_err(|error| store_refused(&error))?;
        }
        Ok(count)
    }

    async fn send(&self, request: &SendRequest) -> Result<ReceiptItem, Refusal> {
        let (source, mut message) = parse(request)?;
        let (key, value) = OPERATOR_PROPERTY;
        message.properties.set(key, value);
        let receipt =
            self.broker.publish(source, message).await.map_err(|refused| failed(refused.to_string()))?;
        Ok(ReceiptItem {
            durable: u64::from(receipt.durable),
            volatile: u64::from(receipt.volatile),
            subscribers: u64::from(receipt.subscribers),
            dropped: u64::from(receipt.dropped),
        })
    }

    fn known_log(&self, name: &str) -> Result<LogId, Refusal> {
        let log = LogId::named(name);
        let queues = self.broker.store().queues();
        if queues.iter().any(|queue| queue.queue.log == log) {
            return Ok(log);
        }
        let mut names: Vec<String> = queues.iter().map(|queue| queue.queue.log.to_string()).collect();
        names.dedup();
        let known = if names.is_empty() { "none has been used yet".to_owned() } else { names.join(", ") };
        Err(Refusal::new(Code::NotFound, format!("there is no log {name:?}"))
            .with_fix(format!("logs: {known}")))
    }
}
