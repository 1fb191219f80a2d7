//! Wills: what a client wants to be said when it is gone.

use crate::{episodes::warn_once, shared::Shared, stats::Stats, translate};
use holdfast_auth::Action;
use holdfast_broker::{Beside, KeptWill, StoredSession, SubscriberId, WillRecord};
use holdfast_mqtt::{Publish, Will};
use holdfast_types::{Name, Source, Text, Topic};

/// A will and whose it is.
#[derive(Clone)]
pub(crate) struct UserWill {
    pub(crate) user: Name,
    pub(crate) will: Will,
    /// The subscriber of the same session, which may not want to hear it.
    pub(crate) origin: Option<SubscriberId>,
    /// Where it is kept, so that it is said even if the host is killed before.
    pub(crate) kept: Option<(StoredSession, Text)>,
}

impl UserWill {
    /// It is not wanted any more.
    pub(crate) fn forget(self) {
        if let Some((session, key)) = self.kept {
            session.forget_will(key);
        }
    }

    /// In the form in which it is kept.
    pub(crate) fn record(&self, client_id: &str) -> WillRecord {
        let will = &self.will;
        let properties = (!will.properties.is_empty()).then(|| Box::new(will.properties.clone()));
        let publish = Publish {
            qos: will.qos,
            retain: will.retain,
            properties,
            ..Publish::new(will.topic.clone(), will.payload.clone())
        };
        WillRecord {
            user: self.user.clone(),
            client_id: client_id.into(),
            delay_s: will.delay_s,
            packet: translate::packed(&publish),
        }
    }

    /// From the form in which it is kept; none if it is damaged.
    pub(crate) fn restored(kept: KeptWill) -> Option<Self> {
        let KeptWill { session, key, record } = kept;
        let publish = translate::unpacked(&record.packet)?;
        let will = Will {
            qos: publish.qos,
            retain: publish.retain,
            topic: publish.topic,
            payload: publish.payload,
            delay_s: record.delay_s,
            properties: publish.properties.map(|all| *all).unwrap_or_default(),
        };
        Some(Self { user: record.user, will, origin: None, kept: Some((session, key)) })
    }
}

/// Publishes a will as if its client had sent it.
pub(crate) fn publish(shared: &Shared, will: UserWill) {
    if !is_said(shared, &will) {
        will.forget();
    }
}

fn is_said(shared: &Shared, UserWill { user, will, origin, kept }: &UserWill) -> bool {
    let (user, will) = (user.clone(), will.clone());
    let Ok(topic) = Topic::new(&will.topic) else { return false };
    if let Err(refusal) = shared.registry.may(&user, Action::Publish(&topic)) {
        warn_once!(shared.episodes, &format!("will {user}"), %refusal, "a will is not published");
        return false;
    }
    let properties = (!will.properties.is_empty()).then(|| Box::new(will.properties));
    let Ok(message) = translate::message(
        will.payload.clone(),
        properties.as_deref(),
        shared.unsaid.content_type.as_deref(),
    ) else {
        warn_once!(shared.episodes, &format!("will {user}"), %user, "a will has too many properties; not published");
        return false;
    };
    let mut how = translate::publishing(will.qos, will.retain, properties.as_deref(), *origin);
    how.beside.extend(kept.as_ref().map(|(_, key)| Beside::Will(key.clone())));
    let _in_order = will.retain.then(|| shared.retained.in_order());
    if will.retain {
        let publish = Publish { qos: will.qos, properties, ..Publish::new(will.topic, will.payload) };
        match shared.retained.set(&topic, &publish, shared.broker.now()) {
            Ok(beside) => how.beside.extend(beside),
            Err(_) => Stats::one(&shared.stats.retained_over_limit),
        }
    }
    Stats::one(&shared.stats.wills);
    let source = Source::Child { child: user.clone(), topic: Some(topic) };
    shared.broker.publish_as(source, message, how, move |result| {
        if let Err(error) = result {
            tracing::warn!(%user, %error, "a will was not taken");
        }
    });
    true
}
