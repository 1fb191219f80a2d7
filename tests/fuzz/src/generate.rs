//! Packets made up byte by byte, without the encoder that is tested: most of them legal, some with a sin, and some
//! damaged afterwards.

use crate::dice::Dice;
use holdfast_mqtt::Version;

/// Texts with what decoders differ over: nothing, wildcards, null, broken UTF-8, half a pair, a byte order mark.
const TEXTS: &[&[u8]] = &[
    b"a",
    b"plant/t",
    b"c",
    b"",
    b"a/+/b",
    b"#",
    b"+",
    b"a#",
    b"$share/g/a",
    b"$share//a",
    b"$SYS/x",
    "é".as_bytes(),
    "\u{1F600}".as_bytes(),
    "\u{FEFF}a".as_bytes(),
    b"\0",
    b"a\0b",
    b"\xFF",
    b"\xED\xA0\x80",
    b"\xC3",
    b"\x01",
];

/// Property identifiers of MQTT 5, and three that are none.
const PROPERTIES: &[u8] = &[
    1, 2, 3, 8, 9, 11, 17, 18, 19, 21, 22, 23, 24, 25, 26, 28, 31, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 0,
    4, 43,
];

/// Those that the packet types 1 to 15 may have; nothing for those without properties.
const ALLOWED: [&[u8]; 16] = [
    &[],
    &[17, 21, 22, 23, 25, 33, 34, 38, 39],
    &[17, 18, 19, 21, 22, 26, 28, 31, 33, 34, 36, 37, 38, 39, 40, 41, 42],
    &[1, 2, 3, 8, 9, 11, 35, 38],
    &[31, 38],
    &[31, 38],
    &[31, 38],
    &[31, 38],
    &[11, 38],
    &[31, 38],
    &[38],
    &[31, 38],
    &[],
    &[],
    &[17, 28, 31, 38],
    &[21, 22, 31, 38],
];

const WILL: &[u8] = &[1, 2, 3, 8, 9, 24, 38];

const REASONS: &[u8] = &[
    0, 0, 0, 1, 2, 4, 16, 17, 24, 25, 128, 129, 130, 131, 132, 133, 134, 135, 137, 141, 142, 144, 145, 146,
    147, 148, 149, 151, 153, 155, 158, 162, 3, 0x99, 0xFF,
];

/// One packet, or what is left of it.
pub fn packet(dice: &mut Dice, version: Version) -> Vec<u8> {
    let kind = 1 + dice.below(15);
    let body = body(dice, version, kind as u8);
    let mut flags = match kind {
        3 => dice.byte() & 0x0F,
        6 | 8 | 10 => 2,
        _ => 0,
    };
    if dice.once_in(40) {
        flags = dice.byte() & 0x0F;
    }
    let mut bytes = framed((kind as u8) << 4 | flags, &body);
    if dice.once_in(2) {
        damage(dice, &mut bytes);
    }
    bytes
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    variable(&mut bytes, body.len());
    bytes.extend_from_slice(body);
    bytes
}

fn variable(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let byte = (value & 0x7F) as u8;
        value >>= 7;
        out.push(if value > 0 { byte | 0x80 } else { byte });
        if value == 0 {
            return;
        }
    }
}

/// A few changes anywhere; most often the length is true again afterwards.
fn damage(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let first = bytes[0];
    let head = 1 + bytes[1..].iter().take_while(|b| **b & 0x80 != 0).count() + 1;
    let mut body = bytes.split_off(head.min(bytes.len()));
    for _ in 0..=dice.below(3) {
        let at = dice.below(body.len());
        match dice.below(7) {
            0 if !body.is_empty() => body[at] ^= 1 << dice.below(8),
            1 if !body.is_empty() => body[at] = dice.byte(),
            2 => body.insert(at, dice.byte()),
            3 if !body.is_empty() => drop(body.remove(at)),
            4 => body.truncate(at),
            5 => {
                let to = (at + dice.below(8)).min(body.len());
                let again = body[at..to].to_vec();
                body.extend_from_slice(&again);
            }
            _ => body.push(dice.byte()),
        }
    }
    if dice.once_in(8) {
        // The head as it was, which says another length now.
        bytes.extend_from_slice(&body);
    } else {
        *bytes = framed(first, &body);
    }
    if dice.once_in(12) {
        let at = dice.below(bytes.len().min(5));
        bytes[at] = dice.byte();
    }
}

fn body(dice: &mut Dice, version: Version, kind: u8) -> Vec<u8> {
    let v5 = version == Version::V5;
    let mut out = Vec::new();
    match kind {
        1 => connect(dice, version, &mut out),
        2 => {
            out.push(if dice.once_in(12) { dice.byte() } else { dice.byte() & 1 });
            out.push(if v5 { *dice.pick(REASONS) } else { dice.below(7) as u8 });
            properties(dice, v5, ALLOWED[2], &mut out);
        }
        3 => {
            text(dice, &mut out);
            // The flags are drawn apart from this; half of the messages have an identifier.
            if dice.once_in(2) {
                number(dice, &mut out);
            }
            properties(dice, v5, ALLOWED[3], &mut out);
            let payload = *dice.pick(TEXTS);
            out.extend_from_slice(payload);
        }
        4..=7 => {
            number(dice, &mut out);
            if v5 && !dice.once_in(3) {
                out.push(*dice.pick(REASONS));
                if !dice.once_in(3) {
                    properties(dice, v5, ALLOWED[4], &mut out);
                }
            }
        }
        8 | 10 => {
            number(dice, &mut out);
            properties(dice, v5, ALLOWED[usize::from(kind)], &mut out);
            for _ in 0..1 + dice.below(3) - usize::from(dice.once_in(20)) {
                text(dice, &mut out);
                if kind == 8 {
                    let options = dice.below(3) as u8 | if v5 { (dice.below(12) as u8) << 2 } else { 0 };
                    out.push(if dice.once_in(20) { dice.byte() } else { options });
                }
            }
        }
        9 | 11 => {
            number(dice, &mut out);
            properties(dice, v5, ALLOWED[usize::from(kind)], &mut out);
            if kind == 9 || v5 {
                for _ in 0..dice.below(4) {
                    out.push(if v5 { *dice.pick(REASONS) } else { *dice.pick(&[0, 1, 2, 0x80, 3]) });
                }
            }
        }
        14 | 15 if v5 && !dice.once_in(4) => {
            out.push(*dice.pick(REASONS));
            if !dice.once_in(4) {
                properties(dice, v5, ALLOWED[usize::from(kind)], &mut out);
            }
        }
        _ => {}
    }
    out
}

fn connect(dice: &mut Dice, version: Version, out: &mut Vec<u8>) {
    let v5 = version == Version::V5;
    let name: &[u8] = if dice.once_in(40) { b"MQIsdp" } else { b"MQTT" };
    field(name, out);
    let level = if v5 { 5 } else { 4 };
    out.push(if dice.once_in(40) { dice.below(7) as u8 } else { level });
    let (user, password, will) = (dice.once_in(2), dice.once_in(2), dice.once_in(2));
    let mut flags = u8::from(user) << 7 | u8::from(password) << 6 | (dice.below(2) as u8) << 1;
    if will {
        flags |= 4 | (dice.below(3) as u8) << 3 | (dice.below(2) as u8) << 5;
    }
    out.push(if dice.once_in(30) { flags ^ 1 << dice.below(8) } else { flags });
    number(dice, out);
    properties(dice, v5, ALLOWED[1], out);
    text(dice, out);
    if will {
        properties(dice, v5, WILL, out);
        text(dice, out);
        text(dice, out);
    }
    for there in [user, password] {
        if there {
            text(dice, out);
        }
    }
}

fn field(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn text(dice: &mut Dice, out: &mut Vec<u8>) {
    // Most often one that nobody minds.
    let good = dice.below(3);
    let text = if dice.once_in(4) { *dice.pick(TEXTS) } else { TEXTS[good] };
    field(text, out);
}

fn number(dice: &mut Dice, out: &mut Vec<u8>) {
    let number = if dice.once_in(20) { 0 } else { 1 + dice.below(65_535) as u16 };
    out.extend_from_slice(&number.to_be_bytes());
}

fn properties(dice: &mut Dice, v5: bool, allowed: &[u8], out: &mut Vec<u8>) {
    if !v5 {
        return;
    }
    let mut all = Vec::new();
    for _ in 0..dice.below(4) {
        let id = if dice.once_in(12) { *dice.pick(PROPERTIES) } else { *dice.pick(allowed) };
        variable(&mut all, usize::from(id));
        match id {
            1 | 23 | 25 | 36 | 37 | 40 | 41 | 42 => {
                all.push(if dice.once_in(12) { dice.byte() } else { dice.below(2) as u8 });
            }
            2 | 17 | 24 | 39 => {
                let number = if dice.once_in(8) { 0 } else { dice.next() as u32 };
                all.extend_from_slice(&number.to_be_bytes());
            }
            19 | 33 | 34 | 35 => number(dice, &mut all),
            11 => {
                let number = *dice.pick(&[0, 1, 127, 128, 16_384, 268_435_455]);
                variable(&mut all, number);
            }
            38 => {
                text(dice, &mut all);
                text(dice, &mut all);
            }
            _ => text(dice, &mut all),
        }
    }
    variable(out, all.len());
    out.extend_from_slice(&all);
}
