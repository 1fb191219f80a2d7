//! Which template makes the topic of a message: that of its route, or the usual one.

use crate::{InvalidTemplate, Template};
use bytestring::ByteString;
use holdfast_broker::{Broker, Delivery};
use holdfast_types::{InvalidTopic, Name, Text};
use std::{any::Any, collections::HashMap, sync::Arc};

/// The templates of the routes in force. Follows when the broker takes new routes.
pub(crate) struct Topics {
    broker: Broker,
    edge: Name,
    usual: Template,
    of_route: HashMap<Text, Template>,
    /// The routes that `of_route` was made of. Held, so that their address stands for them.
    seen: Arc<dyn Any + Send + Sync>,
}

impl Topics {
    /// Takes the templates of the routes in force. Also gives the names of routes whose template is wrong.
    pub(crate) fn new(broker: &Broker, usual: Template) -> (Self, Vec<(Text, InvalidTemplate)>) {
        let mut topics = Self {
            broker: broker.clone(),
            edge: broker.edge().clone(),
            usual,
            of_route: HashMap::new(),
            seen: Arc::new(()),
        };
        let faults = topics.refresh();
        (topics, faults)
    }

    /// Looks whether there are new routes.
    pub(crate) fn refresh(&mut self) -> Vec<(Text, InvalidTemplate)> {
        let routes = self.broker.routes();
        if std::ptr::addr_eq(Arc::as_ptr(&routes), Arc::as_ptr(&self.seen)) {
            return Vec::new();
        }
        let mut faults = Vec::new();
        self.of_route.clear();
        for route in routes.routes() {
            match route.topic.as_deref().map(Template::new) {
                Some(Ok(template)) => drop(self.of_route.insert(route.name.clone(), template)),
                Some(Err(why)) => faults.push((route.name.clone(), why)),
                None => {}
            }
        }
        self.seen = routes;
        faults
    }

    /// The topic of a message.
    pub(crate) fn of(&self, delivery: &Delivery) -> Result<ByteString, InvalidTopic> {
        self.of_route.get(&delivery.route).unwrap_or(&self.usual).render(&self.edge, delivery)
    }

    /// The templates that do not carry the identity, by the setting that holds them.
    pub(crate) fn without_id(&self, section: &str) -> Vec<String> {
        let usual = (format!("{section}.topic"), &self.usual);
        let of_route =
            self.of_route.iter().map(|(route, template)| (format!("routes.{route}.topic"), template));
        let without = std::iter::once(usual).chain(of_route).filter(|(_, template)| !template.names_id());
        without.map(|(setting, _)| setting).collect()
    }
}
