//! Numbers, texts and names as bytes.

use bytes::{Buf, Bytes};
use holdfast_types::Name;

/// Why bytes are not a pack or a record. Says which rule of the format they break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub &'static str);

pub(crate) fn name(bytes: &Bytes) -> Result<Name, Malformed> {
    Name::new(as_str(bytes)?).map_err(|_| Malformed("a name is not valid"))
}

pub(crate) fn as_str(bytes: &Bytes) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed("a text is not UTF-8"))
}

pub(crate) fn text(bytes: &mut Bytes) -> Result<Bytes, Malformed> {
    let length = usize::try_from(varint(bytes)?).map_err(|_| Malformed("a text is too long"))?;
    if bytes.len() < length {
        return Err(Malformed("a text is cut off"));
    }
    Ok(bytes.split_to(length))
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Seven bits in each byte, lowest first; the high bit says that more follow.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

pub(crate) fn varint(bytes: &mut impl Buf) -> Result<u64, Malformed> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().map_err(|_| Malformed("a number is cut off"))?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed("a number is too long"))
}
