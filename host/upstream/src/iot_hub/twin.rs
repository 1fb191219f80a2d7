//! The twin of a device of an IoT Hub, both ways.
//!
//! That of a child is the child's, as it is. That of the edge is one document for the edge and all its modules: under `modules.NAME` stands what is desired of the module NAME and
//! what it reports, the rest is the edge's own. Here each has a twin of its own.
//!
//! - *Desired* is the hub's and counted by it. After each connection the whole of it is asked for; then patches come. What is
//!   not newer than what is here changes nothing, and a gap makes it be asked for again. The modules are given theirs first and the
//!   version is recorded last, so that after a kill between the two all of it is done again.
//! - *Reported* is the edge's. What is different from what the hub has goes up, one patch for each twin, so that one that the
//!   hub refuses holds up no other. Of a twin that no hub has taken yet (a store that is new) the hub's properties
//!   are taken under what is here; after that what is here counts, deletions too.

use super::{IotHub, TwinAnswer};
use crate::{
    acknowledged,
    line::{ANSWER_WITHIN, NoAnswer},
    run::random,
};
use holdfast_broker::{TwinError, Twins, TwinsWatch, twin_rules};
use holdfast_mqtt::{Publish, hub::topics};
use holdfast_types::{Identity, Name};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};
use tokio::time::sleep;

/// The key of the hub's twin under which the twins of modules stand.
const MODULES: &str = "modules";

/// What IoT Hub adds to a half.
const VERSION: &str = "$version";
const METADATA: &str = "$metadata";

type Object = Map<String, Value>;

/// Why the twin is not as the hub has it.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the connection ended before the hub answered")]
    Disconnected,
    #[error("the hub did not answer within {ANSWER_WITHIN:?}")]
    TimedOut,
    #[error("the hub answered {status}{said}")]
    Refused { status: u16, said: String },
    #[error("what the hub sent is no twin: {0}")]
    Malformed(String),
    #[error(transparent)]
    Twin(#[from] TwinError),
}

impl Fault {
    /// Whether the same may be taken later.
    const fn is_for_now(&self) -> bool {
        match self {
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            Self::Disconnected | Self::TimedOut | Self::Malformed(_) | Self::Twin(_) => true,
        }
    }
}

/// A half as the hub has it.
struct Half {
    version: u64,
    document: Object,
}

/// What is known of the hub's reported properties, by whose they are.
type There = BTreeMap<Identity, Object>;

impl IotHub {
    /// Keeps both sides the same until the line is closed.
    pub(super) async fn keep_twin(&self) {
        let keep = async {
            // Watched first, so that nothing is missed between the look at all and the first change.
            let mut watch = self.broker.twins().watch_reported();
            let mut backoff = self.new_backoff();
            // Versions that the hub refuses.
            let mut refused = BTreeMap::new();
            loop {
                let since = Instant::now();
                if let Err(fault) = self.agree(&mut watch, &mut refused).await {
                    self.warn_once(
                        "twin",
                        &format!("the twin is not as the hub has it: {fault}; it is tried again"),
                    );
                    sleep(backoff.ended(since.elapsed(), random())).await;
                }
            }
        };
        tokio::select! {
            () = self.line.closed() => {}
            () = keep => {}
        }
    }

    /// Asks for the twin, takes what is newer and tells what is different; then each change, until the twin is to be asked for
    /// again.
    async fn agree(
        &self,
        watch: &mut TwinsWatch,
        refused: &mut BTreeMap<Identity, u64>,
    ) -> Result<(), Fault> {
        let answer = self.ask(|number| Publish::new(topics::twin_get(&number.to_string()), " ")).await?;
        let mut twin = object(&answer.body)?;
        let desired = half(twin.remove("desired"))?;
        let mut there = self.parts(half(twin.remove("reported"))?.document);
        self.take_desired(desired).await?;
        let mut changed: BTreeSet<Identity> = match self.is_edge() {
            true => self.broker.twins().identities()?.into_iter().collect(),
            false => BTreeSet::from([self.own()]),
        };
        changed.extend(there.keys().cloned());
        loop {
            for who in changed.iter().filter(|who| self.is_told(who)) {
                self.tell(who, &mut there, refused).await?;
            }
            self.is_well("twin");
            tokio::select! {
                () = self.stale.notified() => return Ok(()),
                next = watch.next() => changed = next,
            }
        }
    }

    async fn ask(&self, question: impl FnOnce(u64) -> Publish) -> Result<TwinAnswer, Fault> {
        let answer = self.line.ask(question).await.map_err(|none| match none {
            NoAnswer::Disconnected => Fault::Disconnected,
            NoAnswer::TimedOut => Fault::TimedOut,
        })?;
        if !(200..300).contains(&answer.status) {
            let said = String::from_utf8_lossy(&answer.body);
            let said = if said.trim().is_empty() { String::new() } else { format!(": {}", said.trim()) };
            return Err(Fault::Refused { status: answer.status, said });
        }
        Ok(answer)
    }

    /// Whether the hub's twin has a place for somebody's.
    fn is_told(&self, who: &Identity) -> bool {
        // Keys of a twin hold no `.`, `$` and `#`.
        let has_place = |module: &Name| self.is_edge() && !module.contains(['.', '$', '#']);
        who.device == *self.device() && who.module.as_ref().is_none_or(has_place)
    }

    /// Takes the hub's document apart.
    fn parts(&self, mut document: Object) -> There {
        let mut parts = There::new();
        let modules = if self.is_edge() { document.remove(MODULES) } else { None };
        if let Some(Value::Object(modules)) = modules {
            for (name, part) in modules {
                if let (Ok(name), Value::Object(part)) = (Name::new(&name), part) {
                    parts.insert(Identity::module(self.device().clone(), name), part);
                }
            }
        }
        parts.insert(self.own(), document);
        parts
    }

    /// Tells what somebody has reported that the hub does not have.
    async fn tell(
        &self,
        who: &Identity,
        there: &mut There,
        refused: &mut BTreeMap<Identity, u64>,
    ) -> Result<(), Fault> {
        let (twins, documents) = (self.broker.twins(), self.broker.documents());
        let mut here = twins.read(who)?;
        let empty = Object::new();
        let before = there.get(who).unwrap_or(&empty);
        let taken = acknowledged::read(&documents, who);
        if taken.is_none() && !before.is_empty() && *before != here.reported {
            let version = here.reported_version.saturating_add(1);
            if let Err(error) = twins.adopt_reported(who, before.clone().into(), version, 1).await {
                if matches!(error, TwinError::Invalid(_)) {
                    let text = format!("what the hub has of its reported properties is not taken: {error}");
                    self.warn_once(&who.to_string(), &text);
                    return Ok(());
                }
                return Err(error.into());
            }
            here = twins.read(who)?;
        }
        if who.module.is_none() && self.is_edge() {
            // There stand the modules.
            here.reported.remove(MODULES);
        }
        let patch = Twins::difference(before, &here.reported);
        if !patch.is_empty() {
            if refused.get(who) == Some(&here.reported_version) {
                return Ok(());
            }
            let patch = match &who.module {
                None => Value::Object(patch),
                Some(module) if here.reported.is_empty() => json!({ MODULES: { module.as_str(): null } }),
                Some(module) => json!({ MODULES: { module.as_str(): patch } }),
            };
            let question =
                |number: u64| Publish::new(topics::twin_report(&number.to_string()), patch.to_string());
            match self.ask(question).await {
                Ok(_) => drop(there.insert(who.clone(), here.reported)),
                Err(fault) if fault.is_for_now() => return Err(fault),
                Err(fault) => {
                    let text = format!(
                        "the hub does not take what it reports: {fault}; it must report other values"
                    );
                    self.warn_once(&who.to_string(), &text);
                    refused.insert(who.clone(), here.reported_version);
                    return Ok(());
                }
            }
        }
        self.is_well(&who.to_string());
        if taken != Some(here.reported_version)
            && let Err(refused) = acknowledged::write(&documents, [(who, Some(here.reported_version))]).await
        {
            tracing::warn!(twin = %who, %refused, "how far the hub has taken its reports was not recorded");
        }
        Ok(())
    }

    /// Takes a patch of the desired properties.
    pub(super) async fn patch(&self, version: u64, body: &[u8]) {
        let taken = async {
            let mut patch = object(body)?;
            clean(&mut patch);
            let _one_at_a_time = self.desired.lock().await;
            let here = self.broker.twins().read(&self.own())?;
            if version <= here.desired_version {
                return Ok(true);
            }
            if version != here.desired_version.saturating_add(1) {
                return Ok(false);
            }
            let mut document = here.desired.clone();
            twin_rules::merge(&mut document, &patch);
            self.put_desired(here.desired, Half { version, document }).await.map(|()| true)
        };
        match taken.await {
            Ok(true) => {}
            // A change before this one was missed.
            Ok(false) => self.stale.notify_one(),
            Err(fault) => {
                self.warn_once(
                    "desired",
                    &format!("a desired change is not taken: {fault}; the twin is asked for"),
                );
                self.stale.notify_one();
            }
        }
    }

    async fn take_desired(&self, desired: Half) -> Result<(), Fault> {
        let _one_at_a_time = self.desired.lock().await;
        let here = self.broker.twins().read(&self.own())?;
        if desired.version > here.desired_version {
            return self.put_desired(here.desired, desired).await;
        }
        if desired.version < here.desired_version && desired.document != here.desired {
            let (device, theirs, ours) = (self.device(), desired.version, here.desired_version);
            let text = format!(
                "the hub has version {theirs} of the desired properties of {device}, and version {ours} of them was here: what \
                 is older is not taken. If the device was made anew there, run `holdfast twin remove {device}`"
            );
            self.warn_once("desired", &text);
        }
        Ok(())
    }

    /// Puts newer desired properties in the place of those that are here.
    async fn put_desired(&self, before: Object, new: Half) -> Result<(), Fault> {
        let twins = self.broker.twins();
        // It is not tried again and again: only the hub can change it.
        let told = |who: &Identity, result: Result<(), TwinError>| match result {
            Err(error @ TwinError::Invalid(_)) => {
                self.warn_once(
                    &format!("{who} desired"),
                    &format!("what the hub desires is not taken: {error}"),
                );
                Ok(())
            }
            result => result,
        };
        let mut all = self.parts(before.clone());
        let named = self.parts(new.document.clone());
        all.retain(|who, _| who.module.is_some());
        all.values_mut().for_each(Object::clear);
        all.extend(named.into_iter().filter(|(who, _)| who.module.is_some()));
        for (who, document) in all {
            told(&who, twins.set_desired(&who, document.into()).await.map(drop))?;
        }
        // IMPORTANT: last. With this version the hub's change counts as taken.
        let own = self.own();
        told(&own, twins.replace_desired(&own, new.document.into(), new.version).await)?;
        Ok(())
    }
}

fn object(body: &[u8]) -> Result<Object, Fault> {
    serde_json::from_slice(body).map_err(|why| Fault::Malformed(why.to_string()))
}

/// A half of a twin as IoT Hub writes it.
fn half(value: Option<Value>) -> Result<Half, Fault> {
    let Some(Value::Object(mut document)) = value else {
        return Err(Fault::Malformed("it has no desired or no reported properties".to_owned()));
    };
    let version = document.get(VERSION).and_then(Value::as_u64);
    let version = version.ok_or_else(|| Fault::Malformed(format!("a half of it has no {VERSION}")))?;
    clean(&mut document);
    Ok(Half { version, document })
}

/// Removes what IoT Hub has added.
fn clean(document: &mut Object) {
    document.remove(VERSION);
    document.remove(METADATA);
}
