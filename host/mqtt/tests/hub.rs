//! The dialect of IoT Hub: whatever text comes, it is read or refused; what is written is read back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use holdfast_mqtt::hub::{Arrival, ClientName, Feature, Operation, PropertyBag, topics};
use proptest::{collection::vec, option, prelude::*};

/// Texts that hold what has a meaning in topics and bags.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[a-z$.%/+#?=& é\u{0}]{0,12}", "(%[0-9A-Fa-f]{2}|%|[a-z]){0,6}",]
}

/// Topics that are nearly right.
fn topic() -> impl Strategy<Value = String> {
    let level = prop_oneof![
        Just("devices".to_owned()),
        Just("modules".to_owned()),
        Just("messages".to_owned()),
        Just("events".to_owned()),
        Just("$iothub".to_owned()),
        Just("twin".to_owned()),
        Just("PATCH/properties/reported".to_owned()),
        Just("GET".to_owned()),
        Just("methods/res".to_owned()),
        Just("?$rid=1".to_owned()),
        Just("200".to_owned()),
        text(),
    ];
    vec(level, 0..9).prop_map(|levels| levels.join("/"))
}

fn bag() -> impl Strategy<Value = PropertyBag> {
    vec((text().prop_filter("a name", |name| !name.is_empty()), option::of(text())), 0..8).prop_map(|pairs| {
        let mut bag = PropertyBag::new();
        for (name, value) in pairs {
            match value {
                Some(value) => bag.set(&name, &value),
                None => bag.set_null(&name),
            }
        }
        bag
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(a in text(), b in text(), topic in topic()) {
        let _ = PropertyBag::decode(&a);
        let _ = ClientName::parse(&a, &b);
        let _ = ClientName::parse(&a, &format!("hub/{a}/?api-version={b}"));
        let _ = Operation::parse(&topic);
        let _ = Arrival::parse(&topic);
        let _ = Feature::of(&topic, &a, Some(&b));
    }

    #[test]
    fn a_bag_that_was_written_is_read_back(bag in bag()) {
        prop_assert_eq!(PropertyBag::decode(&bag.to_string()).unwrap(), bag);
    }

    #[test]
    fn a_bag_in_a_topic_is_read_back_and_is_one_level(bag in bag()) {
        let up = format!("devices/press/messages/events/{bag}");
        let read = Operation::parse(&up).unwrap();
        prop_assert_eq!(read, Operation::Telemetry { device: "press", module: None, bag: bag.clone() });
        let down = topics::cloud_to_device("press", &bag);
        prop_assert_eq!(down.split('/').count(), 5);
        prop_assert!(!down.contains(['+', '#', '\0']));
        prop_assert_eq!(topics::input("d", "m", "a/b", &bag).split('/').count(), 7);
    }

    #[test]
    fn a_method_can_be_answered_whatever_its_name(name in text()) {
        let topic = topics::method_request(&name, "a1");
        prop_assert_eq!(topic.split('/').count(), 5);
        prop_assert!(!topic.contains(['+', '#', '\0']));
    }
}
