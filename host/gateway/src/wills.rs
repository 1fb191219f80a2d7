//! Wills: what a client wants to be said when it is gone.

use crate::{episodes::warn_once, shared::Shared, stats::Stats, translate};
use holdfast_auth::Action;
use holdfast_broker::SubscriberId;
use holdfast_mqtt::{Publish, Will};
use holdfast_types::{Name, Source, Topic};

/// A will and whose it is.
#[derive(Clone, Debug)]
pub(crate) struct UserWill {
    pub(crate) user: Name,
    pub(crate) will: Will,
    /// The subscriber of the same session, which may not want to hear it.
    pub(crate) origin: Option<SubscriberId>,
}

/// Publishes a will as if its client had sent it.
pub(crate) fn publish(shared: &Shared, UserWill { user, will, origin }: UserWill) {
    let Ok(topic) = Topic::new(&will.topic) else { return };
    if let Err(refusal) = shared.registry.may(&user, Action::Publish(&topic)) {
        warn_once!(shared.episodes, &format!("will {user}"), %refusal, "a will is not published");
        return;
    }
    let properties = (!will.properties.is_empty()).then(|| Box::new(will.properties));
    let Ok(message) = translate::message(
        will.payload.clone(),
        properties.as_deref(),
        shared.unsaid.content_type.as_deref(),
    ) else {
        warn_once!(shared.episodes, &format!("will {user}"), %user, "a will has too many properties; not published");
        return;
    };
    let how = translate::publishing(will.qos, will.retain, properties.as_deref(), origin);
    if will.retain {
        let publish = Publish { qos: will.qos, properties, ..Publish::new(will.topic, will.payload) };
        if shared.retained.set(&topic, &publish, shared.broker.now()).is_err() {
            Stats::one(&shared.stats.retained_over_limit);
        }
    }
    Stats::one(&shared.stats.wills);
    let source = Source::Child { child: user.clone(), topic: Some(topic) };
    shared.broker.publish_as(source, message, how, move |result| {
        if let Err(error) = result {
            tracing::warn!(%user, %error, "a will was not taken");
        }
    });
}
