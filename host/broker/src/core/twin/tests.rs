//! The rules of twins, one by one, and merging against an oracle that does it another way.

use super::*;
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

fn refused(patch: Value) -> TwinFault {
    checked_patch(patch).unwrap_err()
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!({ "n": inner }))
}

#[test]
fn what_iot_hub_takes_is_taken_up_to_each_bound() {
    for good in [
        json!({}),
        json!({"a": null, "b": true, "c": 1.5e300, "d": [1, [2, {"x": "y"}]], "ü-_:/": ""}),
        json!({"max": TWIN_INTEGER_MAX, "min": TWIN_INTEGER_MIN}),
        json!({"k".repeat(TWIN_KEY_BYTES_MAX): 1}),
        json!({"text": "t".repeat(TWIN_TEXT_BYTES_MAX)}),
        nested(TWIN_DEPTH_MAX + 1),
    ] {
        assert_eq!(checked_patch(good.clone()).map(Value::Object), Ok(good));
    }
}

#[test]
fn each_rule_refuses_what_breaks_it_and_says_where() {
    assert_eq!(refused(json!([1])), TwinFault::NotAnObject("an array"));
    let long = refused(json!({"a": {"k".repeat(TWIN_KEY_BYTES_MAX + 1): 1}}));
    assert!(matches!(&long, TwinFault::KeyTooLong { bytes: 1025, .. }));
    assert!(long.to_string().len() < 300, "the path is cut: {long}");
    for character in ['.', '$', '#', ' ', '\n', '\u{7f}', '\u{85}'] {
        let fault = refused(json!({"a": {"b": {format!("x{character}y"): 1}}}));
        assert!(matches!(fault, TwinFault::KeyCharacter { character: found, .. } if found == character));
        assert!(fault.to_string().contains("a.b.x") && !fault.to_string().contains('\n'), "{fault}");
    }
    let text = refused(json!({"a": ["", "t".repeat(TWIN_TEXT_BYTES_MAX + 1)]}));
    assert!(text.to_string().starts_with("the text at a[1] has 4097 bytes, 4096 are allowed"), "{text}");
    assert!(matches!(refused(nested(TWIN_DEPTH_MAX + 2)), TwinFault::TooDeep { .. }));
    let arrays = (0..=TWIN_DEPTH_MAX).fold(json!(1), |inner, _| json!([inner]));
    assert!(matches!(refused(json!({ "a": arrays })), TwinFault::TooDeep { .. }));
    for number in [json!(TWIN_INTEGER_MAX + 1), json!(TWIN_INTEGER_MIN - 1), json!(u64::MAX)] {
        assert!(matches!(refused(json!({ "n": number })), TwinFault::Integer { .. }));
    }
    let null = refused(json!({"a": [1, null]}));
    assert!(null.to_string().contains("at a[1]"), "{null}");
    let wide = (0..9).map(|n| (format!("k{n}"), json!("t".repeat(4000)))).collect::<Object>();
    assert!(
        matches!(refused(Value::Object(wide)), TwinFault::PatchTooLarge { bytes } if bytes > TWIN_BYTES_MAX)
    );
}

#[test]
fn a_document_over_the_bound_is_refused_though_each_patch_is_within_it() {
    let mut document = Object::new();
    for n in 0..8 {
        merge(&mut document, &checked_patch(json!({format!("k{n}"): "t".repeat(4000)})).unwrap());
        assert_eq!(checked_size(&document), Ok(()));
    }
    merge(&mut document, &checked_patch(json!({"more": "t".repeat(4000)})).unwrap());
    assert!(matches!(checked_size(&document), Err(TwinFault::DocumentTooLarge { bytes: 32_769.. })));
}

#[test]
fn the_examples_of_rfc_7386_that_have_objects_at_the_root() {
    for (document, patch, result) in [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ] {
        let mut merged = object(document).unwrap();
        merge(&mut merged, &object(patch).unwrap());
        assert_eq!(Value::Object(merged), result);
    }
}

#[test]
fn the_message_of_a_change_reads_as_iot_hubs() {
    let patch = checked_patch(json!({"t": 21, "old": null})).unwrap();
    let body: Value = serde_json::from_slice(&change_body(&patch, 7)).unwrap();
    assert_eq!(body, json!({"properties": {"reported": {"t": 21, "old": null, "$version": 7}}}));
}

/// A document as a set of paths: the leaves with their values, and the objects themselves.
#[derive(Clone, Debug, Default, PartialEq)]
struct Paths {
    leaves: BTreeMap<Vec<String>, Value>,
    objects: BTreeSet<Vec<String>>,
}

impl Paths {
    fn of(document: &Object) -> Self {
        let mut all = Self::default();
        all.add(&mut Vec::new(), document);
        all
    }

    fn add(&mut self, at: &mut Vec<String>, object: &Object) {
        for (key, value) in object {
            at.push(key.clone());
            match value {
                Value::Object(inner) => {
                    self.objects.insert(at.clone());
                    self.add(at, inner);
                }
                value => {
                    self.leaves.insert(at.clone(), value.clone());
                }
            }
            at.pop();
        }
    }

    fn cut(&mut self, path: &[String]) {
        self.leaves.retain(|other, _| !other.starts_with(path));
        self.objects.retain(|other| !other.starts_with(path));
    }

    /// A patch, applied leaf by leaf.
    fn apply(&mut self, patch: &Self) {
        for path in &patch.objects {
            self.leaves.remove(path);
            self.objects.insert(path.clone());
        }
        for (path, value) in &patch.leaves {
            self.cut(path);
            if !value.is_null() {
                self.leaves.insert(path.clone(), value.clone());
            }
        }
    }
}

/// Few keys and few levels, so that patches meet one another.
fn patches() -> impl Strategy<Value = Object> {
    let leaf = prop_oneof![
        3 => Just(Value::Null),
        4 => (0..4).prop_map(|n| json!(n)),
        1 => Just(json!([1, {"x": 2}])),
        1 => Just(json!({})),
    ];
    let key = || "[abc]";
    let value = leaf.prop_recursive(3, 24, 3, move |inner| {
        proptest::collection::btree_map(key(), inner, 0..3)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    });
    proptest::collection::btree_map(key(), value, 0..4).prop_map(|map| map.into_iter().collect())
}

proptest! {
    #[test]
    fn patches_in_order_give_what_the_oracle_gives(sequence in proptest::collection::vec(patches(), 0..8)) {
        let mut document = Object::new();
        let mut oracle = Paths::default();
        for patch in &sequence {
            merge(&mut document, patch);
            oracle.apply(&Paths::of(patch));
        }
        prop_assert_eq!(Paths::of(&document), oracle);
    }

    #[test]
    fn the_difference_turns_the_old_document_into_the_new(old in patches(), new in patches()) {
        let document = |patch: &Object| {
            let mut document = Object::new();
            merge(&mut document, patch);
            document
        };
        let (old, new) = (document(&old), document(&new));
        let patch = difference(&old, &new);
        let mut merged = old.clone();
        merge(&mut merged, &patch);
        prop_assert_eq!(&merged, &new);
        prop_assert_eq!(difference(&new, &new), Object::new());
        prop_assert!(checked_patch(Value::Object(patch)).is_ok());
    }

    #[test]
    fn a_patch_applied_twice_is_a_patch_applied_once(start in patches(), patch in patches()) {
        let mut once = Object::new();
        merge(&mut once, &start);
        merge(&mut once, &patch);
        let mut twice = once.clone();
        merge(&mut twice, &patch);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn no_json_makes_the_check_panic(text in "[\\[\\]{}\":,0-9a-z\\-.$# ]{0,64}") {
        if let Ok(value) = serde_json::from_str(&text) {
            let _ = checked_patch(value);
        }
    }
}
