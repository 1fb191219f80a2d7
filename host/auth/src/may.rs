//! May a user do this?

use holdfast_types::{Name, Topic, TopicFilter};

/// What a user may do. Empty lists allow nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Topics that it may publish to.
    pub publish: Vec<TopicFilter>,
    /// Filters that it may subscribe to: each must cover the subscription as a whole.
    pub subscribe: Vec<TopicFilter>,
    /// Topics that it may not publish to and gets nothing from, whatever else is granted.
    pub deny: Vec<TopicFilter>,
}

/// What a user wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Send a message to a topic.
    Publish(&'a Topic),
    /// Receive what a filter matches.
    Subscribe(&'a TopicFilter),
}

/// Why a user may not do something, with the line that would allow it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such user (any more).
    #[error("there is no user {0}; add it under [[users]]")]
    NoSuchUser(Name),
    /// No rule allows the topic.
    #[error(
        "user {user} may not publish to {topic:?}: no rule allows it; add {topic:?} to publish of user {user}"
    )]
    Publish {
        /// Who.
        user: Name,
        /// To which topic.
        topic: Topic,
    },
    /// No rule covers the filter.
    #[error(
        "user {user} may not subscribe to {filter:?}: no rule covers all of it; add {filter:?} to subscribe of user {user}"
    )]
    Subscribe {
        /// Who.
        user: Name,
        /// To which filter.
        filter: TopicFilter,
    },
    /// A rule denies it.
    #[error("{user} may not use {what:?}: deny of [[users]] or [devices] names it; take it out there")]
    Denied {
        /// Who.
        user: Name,
        /// The topic or filter.
        what: String,
    },
    /// No rule for devices allows the topic.
    #[error(
        "device {device} may not publish to {topic:?}: no rule allows it; add a filter that matches to devices.publish"
    )]
    DevicePublish {
        /// Which.
        device: Name,
        /// To which topic.
        topic: Topic,
    },
    /// No rule for devices covers the filter.
    #[error(
        "device {device} may not subscribe to {filter:?}: no rule covers all of it; add one to devices.subscribe"
    )]
    DeviceSubscribe {
        /// Which.
        device: Name,
        /// To which filter.
        filter: TopicFilter,
    },
}

impl Grants {
    /// Whether `user`, who has these grants, may do `action`.
    pub fn may(&self, user: &Name, action: Action<'_>) -> Result<(), Refusal> {
        self.check_denied(user, action)?;
        match action {
            _ if self.allow(action) => Ok(()),
            Action::Publish(topic) => Err(Refusal::Publish { user: user.clone(), topic: topic.clone() }),
            Action::Subscribe(filter) => {
                Err(Refusal::Subscribe { user: user.clone(), filter: filter.clone() })
            }
        }
    }

    /// Whether a device, whose grants these are, may do `action`.
    pub(crate) fn may_device(&self, device: &Name, action: Action<'_>) -> Result<(), Refusal> {
        self.check_denied(device, action)?;
        let device = device.clone();
        match action {
            _ if self.allow(action) => Ok(()),
            Action::Publish(topic) => Err(Refusal::DevicePublish { device, topic: topic.clone() }),
            Action::Subscribe(filter) => Err(Refusal::DeviceSubscribe { device, filter: filter.clone() }),
        }
    }

    /// A filter that names more than what is denied is no fault: of what it brings, the denied part is left out.
    fn check_denied(&self, user: &Name, action: Action<'_>) -> Result<(), Refusal> {
        let (denied, what) = match action {
            Action::Publish(topic) => (self.denies(topic), topic.as_ref()),
            Action::Subscribe(filter) => {
                (self.deny.iter().any(|denied| covers(denied, filter)), filter.as_str())
            }
        };
        if denied { Err(Refusal::Denied { user: user.clone(), what: what.to_owned() }) } else { Ok(()) }
    }

    /// Whether messages of a topic are kept from the user.
    pub fn denies(&self, topic: &str) -> bool {
        self.deny.iter().any(|denied| denied.matches(topic))
    }

    fn allow(&self, action: Action<'_>) -> bool {
        match action {
            Action::Publish(topic) => self.publish.iter().any(|granted| granted.matches(topic)),
            Action::Subscribe(filter) => self.subscribe.iter().any(|granted| covers(granted, filter)),
        }
    }
}

/// Whether everything that `narrow` can match, `wide` matches too.
fn covers(wide: &TopicFilter, narrow: &TopicFilter) -> bool {
    if narrow.as_str().starts_with('$') && wide.as_str().starts_with(['+', '#']) {
        return false;
    }
    let mut narrow_levels = narrow.levels();
    for level in wide.levels() {
        match (level, narrow_levels.next()) {
            ("#", _) => return true,
            ("+", Some(any)) if any != "#" => {}
            (level, Some(same)) if level == same && level != "+" => {}
            _ => return false,
        }
    }
    narrow_levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::new(text).unwrap()
    }

    fn grants(publish: &[&str], subscribe: &[&str]) -> Grants {
        let all = |texts: &[&str]| texts.iter().map(|text| filter(text)).collect();
        Grants { publish: all(publish), subscribe: all(subscribe), deny: Vec::new() }
    }

    #[test]
    fn without_a_rule_the_answer_is_no_and_names_the_line_to_add() {
        let (user, topic) = (Name::new("press").unwrap(), Topic::new("plant/1").unwrap());
        let refusal = Grants::default().may(&user, Action::Publish(&topic)).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "user press may not publish to \"plant/1\": no rule allows it; add \"plant/1\" to publish of user press"
        );
    }

    #[test]
    fn what_a_client_sent_reaches_no_terminal_raw() {
        let user = Name::new("press").unwrap();
        let (topic, wanted) = (Topic::new("oth\u{1b}[2Jer\n\u{9b}").unwrap(), filter("a\u{7}/#"));
        for action in [Action::Publish(&topic), Action::Subscribe(&wanted)] {
            let text = Grants::default().may(&user, action).unwrap_err().to_string();
            assert!(!text.contains(char::is_control), "{text:?}");
        }
        let text = Grants::default().may(&user, Action::Publish(&topic)).unwrap_err().to_string();
        assert!(text.contains(r#""oth\u{1b}[2Jer\n\u{9b}""#), "{text}");
    }

    #[test]
    fn what_is_denied_is_refused_whatever_is_granted_and_left_out_of_what_is_wider() {
        let user = Name::new("press").unwrap();
        let grants = Grants { deny: vec![filter("plant/secret/#")], ..grants(&["#"], &["#"]) };
        for (topic, allowed) in [("plant/secret", false), ("plant/secret/a", false), ("plant/open", true)] {
            let topic = Topic::new(topic).unwrap();
            let answer = grants.may(&user, Action::Publish(&topic));
            assert_eq!((answer.is_ok(), grants.denies(&topic)), (allowed, !allowed), "{topic}");
        }
        for (wanted, allowed) in [
            ("plant/secret/#", false),
            ("plant/secret/+", false),
            ("plant/#", true),
            ("#", true),
            ("plant/+", true),
        ] {
            let answer = grants.may(&user, Action::Subscribe(&filter(wanted)));
            assert_eq!(answer.is_ok(), allowed, "{wanted}");
        }
        let refusal =
            grants.may(&user, Action::Subscribe(&filter("plant/secret/x"))).unwrap_err().to_string();
        assert!(refusal.contains("deny of [[users]]"), "{refusal}");
    }

    #[test]
    fn a_user_publishes_only_where_a_rule_matches() {
        let user = Name::new("press").unwrap();
        let grants = grants(&["plant/press/#", "alarm"], &["#"]);
        for (topic, allowed) in [
            ("plant/press", true),
            ("plant/press/t", true),
            ("alarm", true),
            ("plant/oven/t", false),
            ("alarm/x", false),
        ] {
            let topic = Topic::new(topic).unwrap();
            assert_eq!(grants.may(&user, Action::Publish(&topic)).is_ok(), allowed, "{topic}");
        }
    }

    #[test]
    fn a_subscription_must_be_covered_as_a_whole() {
        let user = Name::new("press").unwrap();
        for (rule, wanted, allowed) in [
            ("a/#", "a/+", true),
            ("a/#", "a/b/#", true),
            ("a/#", "a", true),
            ("a/+", "a/b", true),
            ("a/+", "a/+", true),
            ("a/+", "a/#", false),
            ("a/b", "a/+", false),
            ("a/b", "a/#", false),
            ("a/b", "#", false),
            ("#", "#", true),
            ("#", "$SYS/#", false),
            ("+/x", "+/x", true),
            ("+/x", "#", false),
        ] {
            let grants = grants(&[], &[rule]);
            assert_eq!(
                grants.may(&user, Action::Subscribe(&filter(wanted))).is_ok(),
                allowed,
                "{rule} {wanted}"
            );
        }
    }
}
