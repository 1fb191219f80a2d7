//! Characters that MQTT would rather not see in its texts.
//!
//! [MQTT-1.5.4-2] and the text behind it let a receiver close the connection over control characters and Unicode
//! non-characters, and Mosquitto does. So they are percent-encoded, each byte of their UTF-8 as `%` and two upper-case
//! hexadecimal digits: U+0001 as `%01`, U+0085 as `%C2%85`.

use std::{borrow::Cow, fmt::Write};

/// Control characters and non-characters.
pub fn is_unwelcome(c: char) -> bool {
    let code = u32::from(c);
    matches!(code, 0..=0x1f | 0x7f..=0x9f | 0xfdd0..=0xfdef) || code & 0xfffe == 0xfffe
}

/// Appends `text` so that percent-decoding gives it back: unwelcome characters are encoded, and `%` is written `%25`
/// where two hexadecimal digits follow it. All else stays as it is, so `100%` does too.
pub fn push(out: &mut String, text: &str) {
    if text.bytes().all(|b| matches!(b, 0x20..=0x7e) && b != b'%') {
        return out.push_str(text);
    }
    let mut utf8 = [0; 4];
    for (at, c) in text.char_indices() {
        let digits = || text.as_bytes().get(at + 1..at + 3);
        let reads_as_code = || digits().is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
        if is_unwelcome(c) || (c == '%' && reads_as_code()) {
            for byte in c.encode_utf8(&mut utf8).bytes() {
                // Writing to a string does not fail.
                let _ = write!(out, "%{byte:02X}");
            }
        } else {
            out.push(c);
        }
    }
}

/// `text`, encoded like [`push`] does.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|b| matches!(b, 0x20..=0x7e) && b != b'%') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    push(&mut out, text);
    Cow::Owned(out)
}

/// What an encoded text stands for. A `%` without two hexadecimal digits stays, and so does a text whose bytes would not be
/// UTF-8.
pub fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let (byte, left) = match after {
            [high, low, left @ ..] if *first == b'%' => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, left),
                _ => (*first, after),
            },
            _ => (*first, after),
        };
        out.push(byte);
        rest = left;
    }
    String::from_utf8(out).map_or(Cow::Borrowed(text), Cow::Owned)
}

fn digit(hex: u8) -> Option<u8> {
    char::from(hex).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_brokers_refuse_is_encoded_and_decoding_gives_it_back() {
        for (text, expected) in [
            ("plant/1 ä €", "plant/1 ä €"),
            ("\u{1}\u{1f}", "%01%1F"),
            ("\u{7f}\u{85}", "%7F%C2%85"),
            ("\u{fdd0}\u{ffff}\u{1fffe}", "%EF%B7%90%EF%BF%BF%F0%9F%BF%BE"),
            ("100% %01 %zz %", "100% %2501 %zz %"),
            ("%\u{1}%%41%25", "%%01%%2541%2525"),
        ] {
            assert_eq!(escaped(text), expected);
            assert_eq!(decoded(expected), text);
        }
        for kept in ["%", "%4", "%zz", "a%FFb"] {
            assert_eq!(decoded(kept), kept);
        }
    }
}
