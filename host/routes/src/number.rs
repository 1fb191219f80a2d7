//! A number in a string, as `as_number` reads it: the rules of .NET's `NumberStyles.Any` with the invariant culture.
//!
//! White space around it, a sign before or behind it, brackets for a negative one, commas between digits, the currency
//! sign `¤`, a decimal point, an exponent, and the words for infinity.

/// The number, or nothing when the text is none.
pub(crate) fn parse(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space);
    match text.strip_prefix(['+', '-']).unwrap_or(text) {
        word if word.eq_ignore_ascii_case("infinity") || word == "∞" => {
            return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
        }
        _ => {}
    }
    let (text, bracketed) = match text.strip_prefix('(') {
        Some(inner) => (inner.strip_suffix(')')?.trim_matches(is_space), true),
        None => (text, false),
    };
    let (text, negative) = unsigned(text, bracketed)?;
    let text = text.trim_matches(is_space);
    let text =
        text.strip_prefix('¤').or_else(|| text.strip_suffix('¤')).unwrap_or(text).trim_matches(is_space);
    let (text, negative_inside) = if negative.is_none() { unsigned(text, bracketed)? } else { (text, None) };
    let negative = bracketed || negative.or(negative_inside).unwrap_or(false);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let whole: String = match whole.starts_with(',') {
        true => return None,
        false => whole.chars().filter(|c| *c != ',').collect(),
    };
    if !digits(&whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let mut plain = format!("{}{whole}.{fraction}0", if negative { "-" } else { "" });
    if let Some(exponent) = exponent {
        let number = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if number.is_empty() || !digits(number) {
            return None;
        }
        plain.push('e');
        plain.push_str(exponent);
    }
    plain.parse().ok()
}

/// Takes one sign from the front or the back. The second part is whether it was a minus; brackets leave no room for one.
fn unsigned(text: &str, bracketed: bool) -> Option<(&str, Option<bool>)> {
    let front = text.strip_prefix(['+', '-']);
    // A sign behind an `e` belongs to the exponent, and then digits follow it; so one at the very end is the number's.
    let back = text.strip_suffix(['+', '-']);
    match (front, back) {
        (None, None) => Some((text, None)),
        _ if bracketed => None,
        (Some(rest), _) => Some((rest, Some(text.starts_with('-')))),
        (None, Some(rest)) => Some((rest, Some(text.ends_with('-')))),
    }
}

fn is_space(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | ' ')
}
