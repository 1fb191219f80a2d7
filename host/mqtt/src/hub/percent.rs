//! Percent-encoding as RFC 2396 has it: `+` stands for itself, never for a space.

use std::{borrow::Cow, fmt::Write};

/// Encodes every byte but letters, digits and `- . _ ~`, so that the text can stand in one level of a topic, beside `=`
/// and `&`.
pub(super) fn encode(text: &str, into: &mut String) {
    encode_unless(text, into, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
}

/// Encodes only what cannot stand in a level of a topic, and `%` and `?`. Names of methods and inputs go into topics this
/// way: not every SDK decodes them, and in the names that IoT Hub allows nothing needs it.
pub(super) fn encode_level(text: &str, into: &mut String) {
    encode_unless(text, into, |byte| !byte.is_ascii_control() && !b"%/+#?".contains(&byte));
}

fn encode_unless(text: &str, into: &mut String, plain: impl Fn(u8) -> bool) {
    let mut utf8 = [0; 4];
    for character in text.chars() {
        let bytes = character.encode_utf8(&mut utf8).as_bytes();
        if bytes.iter().all(|byte| plain(*byte)) {
            into.push(character);
        } else {
            for byte in bytes {
                // Writing to a String does not fail.
                let _ = write!(into, "%{byte:02X}");
            }
        }
    }
}

/// Decodes. A `%` that two hexadecimal digits do not follow stands for itself; a text whose bytes would not be UTF-8 is
/// left as it is.
pub(super) fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            (b'%', [high, low, behind @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = behind;
                    continue;
                }
                _ => bytes.push(b'%'),
            },
            (other, _) => bytes.push(*other),
        }
        rest = after;
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(text), Cow::Owned)
}

fn digit(character: u8) -> Option<u8> {
    char::from(character).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_decoded_and_what_is_no_code_stays() {
        for (text, decoded) in [
            ("", ""),
            ("a+b", "a+b"),
            ("%24.mid", "$.mid"),
            ("%2f%2F", "//"),
            ("100%", "100%"),
            ("%4", "%4"),
            ("%zz%41", "%zzA"),
            ("%%41", "%A"),
            ("%C3%A9", "é"),
            ("%FF", "%FF"),
            ("%C3 %41", "%C3 %41"),
        ] {
            assert_eq!(decode(text), decoded, "{text}");
        }
    }

    #[test]
    fn everything_that_has_a_meaning_in_a_topic_or_a_bag_is_encoded() {
        let mut encoded = String::new();
        encode("$.a/b+c#d=e&f?g%h é~_-", &mut encoded);
        assert_eq!(encoded, "%24.a%2Fb%2Bc%23d%3De%26f%3Fg%25h%20%C3%A9~_-");
        let mut level = String::new();
        encode_level("$.a/b+c#d=e&f?g%h é\u{1}", &mut level);
        assert_eq!(level, "$.a%2Fb%2Bc%23d=e&f%3Fg%25h é%01");
    }
}
