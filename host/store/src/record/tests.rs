//! Packs there and back, and with a bit flipped.

use super::*;
use crate::{Addressed, Recipient};
use holdfast_types::{Interest, TopicFilter, TopicProperties};
use proptest::prelude::*;

fn entries() -> impl Strategy<Value = (Entry, Option<Death>)> {
    let text = "[a-zA-Z0-9_]{1,12}";
    let name = text.prop_map(|text| Name::new(&text).unwrap());
    let source =
        (0..3_u8, name.clone(), prop::option::of(name.clone())).prop_map(
            |(kind, first, second)| match kind {
                0 => Source::Module { module: first, output: second },
                1 => Source::Child { child: first, topic: second.map(|name| Topic::new(&name).unwrap()) },
                _ => Source::TwinChange { device: first, module: second },
            },
        );
    let properties = prop::collection::vec((text, ".{0,20}"), 0..4);
    let numbers = (any::<u64>(), prop::option::of(any::<u64>()), prop::option::of(0..u64::MAX), any::<u8>());
    let death = prop::option::of((0..11_u8, any::<u64>(), any::<u32>(), ".{0,30}"));
    let body = prop::collection::vec(any::<u8>(), 0..2000);
    (source, prop::option::of(name), text, properties, numbers, (death, addressed()), body).prop_map(
        |(source, input, route, pairs, (received, created, expires, hops), (death, addressed), body)| {
            let properties = pairs.iter().map(|(key, value)| (&**key, &**value)).collect();
            let mut system = SystemProperties::new().with(SystemKey::ContentType, "text/plain");
            system.creation_time = created.map(UnixMillis);
            let message = Message { body: body.into(), properties, system };
            let received = UnixMillis(received);
            let envelope = Arc::new(Envelope { message, source, received, hops });
            let death = death.map(|(level, offset, attempts, reason)| Death {
                priority: Priority::new(level).unwrap(),
                offset: Offset(offset),
                attempts,
                reason: reason.as_str().into(),
            });
            let (route, expires) = (route.as_str().into(), expires.map(UnixMillis));
            (Entry { envelope, input, route, expires, addressed: addressed.map(Arc::new) }, death)
        },
    )
}

fn addressed() -> impl Strategy<Value = Option<Addressed>> {
    let interest = ("[a-z]{1,3}", "[a-z+]").prop_map(|(group, filter)| {
        let (group, filter) = (Some(group.as_str().into()), TopicFilter::new(&filter).unwrap());
        Arc::new(Interest { group, filter })
    });
    let ids = prop::collection::vec(any::<u32>(), 0..3);
    let one = (1..3_u8, any::<bool>(), ids, prop::option::of(interest));
    let recipients = prop::collection::btree_map(any::<u32>(), one, 0..20);
    let text = || prop::option::of("[a-z]{0,4}".prop_map(|text| Text::from(text.as_str())));
    let pair =
        ("[a-z]{0,3}", "[a-z]{0,3}").prop_map(|(name, value)| (name.as_str().into(), value.as_str().into()));
    let correlation = prop::option::of(prop::collection::vec(any::<u8>(), 0..4).prop_map(Bytes::from));
    let properties = (any::<bool>(), text(), text(), correlation, prop::collection::vec(pair, 0..3))
        .prop_map(|(is_text, content_type, response_topic, correlation, user)| {
            Arc::new(TopicProperties { is_text, content_type, response_topic, correlation, user })
        });
    let order = prop::option::of(any::<u64>());
    let all = ("[a-z]{1,4}", 0..3_u8, any::<bool>(), order, prop::option::of(properties), recipients);
    prop::option::of(all.prop_map(|(topic, qos, retain, order, properties, recipients)| {
        let one = |(session, (qos, retain, ids, shared))| Recipient { session, qos, retain, ids, shared };
        let recipients = recipients.into_iter().map(one).collect();
        Addressed {
            topic: Topic::new(&topic).unwrap(),
            qos,
            retain,
            order: order.map(Offset),
            properties,
            recipients,
        }
    }))
}

fn pack(entries: &[(Entry, Option<Death>)], last: Offset) -> Bytes {
    let mut builder = PackBuilder::default();
    entries
        .iter()
        .for_each(|(entry, death)| builder.push(&Encoded::new(entry, death.as_ref(), WhenFull::Block)));
    builder.finish(last).into()
}

fn read(mut pack: Pack) -> Result<Vec<(Entry, Option<Death>)>, Malformed> {
    std::iter::from_fn(|| pack.next()).map(|record| record?.decode()).collect()
}

proptest! {
    #[test]
    fn what_is_packed_is_unpacked_from_any_place(entries in prop::collection::vec(entries(), 1..8), at in 0..8_u64) {
        let last = Offset(99 + entries.len() as u64);
        let mut unpacked = Pack::open(&key(last), pack(&entries, last)).unwrap();
        prop_assert_eq!(unpacked.next_offset(), Offset(100));
        unpacked.skip_to(Offset(100 + at)).unwrap();
        let from = entries.len().min(at as usize);
        prop_assert_eq!(read(unpacked).unwrap(), &entries[from..]);
    }

    #[test]
    fn a_changed_byte_is_an_error_and_never_another_message(
        entries in prop::collection::vec(entries(), 1..4), place in any::<prop::sample::Index>(), bit in 0..8
    ) {
        let last = Offset(entries.len() as u64 - 1);
        let mut bytes = pack(&entries, last).to_vec();
        let place = place.index(bytes.len());
        bytes[place] ^= 1_u8 << bit;
        let found = Pack::open(&key(last), bytes.into()).and_then(read);
        if let Ok(found) = found {
            // The bit that tells a repeated head from a head that follows may be set without a change of meaning.
            prop_assert_eq!(found, entries);
        }
    }
}
