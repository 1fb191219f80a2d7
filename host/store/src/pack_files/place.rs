//! The bytes of frames and places.

use crate::{
    codec::{Malformed, put_varint, varint},
    record::key,
};
use bytes::Buf;
use holdfast_types::Offset;

/// The version by which a place is told from a pack.
const PLACE_VERSION: u8 = 3;

/// What stands before each pack in its file.
pub(crate) const FRAME_BYTES: usize = 25;

/// What each file begins with.
pub(crate) const SALT_BYTES: usize = 8;

/// A number that nobody knows who sends messages.
pub(crate) type Salt = [u8; SALT_BYTES];

/// When a frame counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// By itself, with all of its group.
    Alone = 1,
    /// If the database names it.
    Named = 2,
    /// By itself, with all of its group, behind the group before it: it was written while that one was being synced.
    Behind = 3,
}

/// The head of a pack in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) mark: Mark,
    /// Frames of the same group before it.
    pub(crate) before: u32,
    /// Frames of the same group behind it.
    pub(crate) behind: u32,
    /// Bytes of the pack.
    pub(crate) length: u32,
    /// Offset of the pack's last message.
    pub(crate) last: Offset,
}

impl Frame {
    pub(crate) fn encode(&self, salt: Salt) -> [u8; FRAME_BYTES] {
        let Self { mark, before, behind, length, last } = *self;
        let mut out = [0; FRAME_BYTES];
        let parts: [&[u8]; 5] = [
            &[mark as u8],
            &before.to_le_bytes(),
            &behind.to_le_bytes(),
            &length.to_le_bytes(),
            &last.0.to_le_bytes(),
        ];
        let crc = salted(salt, &parts.concat()).to_le_bytes();
        let bytes = parts.into_iter().flatten().chain(&crc);
        out.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
        out
    }

    pub(crate) fn decode(salt: Salt, bytes: &[u8]) -> Option<Self> {
        let (mut head, _) = bytes.split_at_checked(FRAME_BYTES)?;
        let mark = match head.first()? {
            1 => Mark::Alone,
            2 => Mark::Named,
            3 => Mark::Behind,
            _ => return None,
        };
        let sum = salted(salt, head.get(..FRAME_BYTES - 4)?);
        head.advance(1);
        let (before, behind, length) = (head.get_u32_le(), head.get_u32_le(), head.get_u32_le());
        let last = Offset(head.get_u64_le());
        (head.get_u32_le() == sum).then_some(Self { mark, before, behind, length, last })
    }
}

fn salted(salt: Salt, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt), bytes)
}

/// Where a pack lies in the files of its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The first offset of the file.
    pub(crate) file: Offset,
    /// Where the pack begins in it, behind its frame.
    pub(crate) at: u64,
    /// Bytes of the pack.
    pub(crate) length: u32,
}

impl Place {
    pub(crate) fn end(&self) -> u64 {
        self.at.saturating_add(self.length.into())
    }

    /// The value for the key of the pack.
    pub(crate) fn encode(&self, last: Offset) -> Vec<u8> {
        let mut out = Vec::with_capacity(20);
        out.push(PLACE_VERSION);
        put_varint(&mut out, self.file.0);
        put_varint(&mut out, self.at);
        put_varint(&mut out, self.length.into());
        let crc = checksum(last, &out);
        out.extend(crc.to_le_bytes());
        out
    }

    /// The place in a value; `None` where that is the pack itself.
    pub(crate) fn decode(last: Offset, value: &[u8]) -> Result<Option<Self>, Malformed> {
        if value.first() != Some(&PLACE_VERSION) {
            return Ok(None);
        }
        let split = value.len().checked_sub(4).and_then(|at| value.split_at_checked(at));
        let (body, crc) = split.ok_or(Malformed("the place of a pack is too short"))?;
        if checksum(last, body).to_le_bytes() != crc {
            return Err(Malformed("the place of a pack does not match its checksum"));
        }
        let mut rest = body.get(1..).unwrap_or_default();
        let mut number = || varint(&mut rest);
        let (file, at, length) = (Offset(number()?), number()?, number()?);
        let length = u32::try_from(length).map_err(|_| Malformed("the place of a pack is too long"))?;
        Ok(Some(Self { file, at, length }))
    }
}

fn checksum(last: Offset, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&key(last)), body)
}
