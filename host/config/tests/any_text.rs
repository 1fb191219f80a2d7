//! Whatever the file holds, the answer is a configuration or faults with places inside the file.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use holdfast_config::Config;
use proptest::prelude::*;
use std::path::Path;

const FULL: &str = include_str!("good/full.toml");

fn answer_is_sound(text: &str) {
    let Err(faults) = Config::parse(text, Path::new("holdfast.toml"), "a-host") else { return };
    let lines = text.matches('\n').count() + 1;
    assert!(faults.iter().len() > 0);
    for fault in faults.iter() {
        assert!((1..=lines).contains(&fault.line) && fault.column >= 1, "{fault}");
        assert!(!fault.reason.is_empty() && !fault.fix.is_empty(), "{fault}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_has_an_answer(text in "\\PC{0,200}") {
        answer_is_sound(&text);
    }

    #[test]
    fn text_of_the_signs_of_toml_has_an_answer(text in "[\\[\\]{}=.,\"'#a\\-0-9 \n\r\t\\\\]{0,120}") {
        answer_is_sound(&text);
    }

    #[test]
    fn a_good_file_with_a_piece_exchanged_has_an_answer(
        start in 0..FULL.len(), length in 0..40_usize, piece in "[\\[\\]{}=.,\"'#a\\-0-9 \nµ\u{0}]{0,12}",
    ) {
        let boundary = |at: usize| (0..=at.min(FULL.len())).rev().find(|at| FULL.is_char_boundary(*at)).unwrap();
        let text = format!("{}{piece}{}", &FULL[..boundary(start)], &FULL[boundary(start + length)..]);
        answer_is_sound(&text);
    }

    #[test]
    fn any_value_of_any_key_has_an_answer(key in 0..holdfast_config::KEYS.len(), value in "\\PC{0,40}", number: i64) {
        let key = holdfast_config::KEYS[key];
        let (section, last) = key.rsplit_once('.').unwrap_or(("", key));
        let header = match section {
            "" => String::new(),
            "users" => "[[users]]\n".to_owned(),
            section => format!("[{section}]\n"),
        };
        let quoted = value.replace(['\\', '"'], "x");
        answer_is_sound(&format!("{header}{last} = \"{quoted}\""));
        answer_is_sound(&format!("{header}{last} = {number}"));
        answer_is_sound(&format!("{header}{last} = [\"{quoted}\", {number}]"));
        answer_is_sound(&format!("{header}{last} = {{ {last} = \"{quoted}\" }}"));
    }
}

#[test]
fn a_hopeless_file_is_answered_with_its_first_faults() {
    for line in ["x = \n", "[\n", "k{} = 1\n", "[store.a{}]\n"] {
        let text: String = (0..20_000).map(|number| line.replace("{}", &number.to_string())).collect();
        let faults = Config::parse(&text, Path::new("holdfast.toml"), "a-host").unwrap_err();
        assert!((1..=1000).contains(&faults.iter().len()), "{line}: {}", faults.iter().len());
        answer_is_sound(&text);
    }
}
