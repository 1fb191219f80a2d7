//! A small file that survives a torn write: two slots, written in turn.
//!
//! ```text
//! slot = magic "HFS1" | generation u64 LE | length u32 LE | content | zeros | crc32c u32 LE over all before it
//! ```
//! Written in place and fdatasynced. The valid slot with the higher generation counts; a write that is cut off breaks
//! only the older one.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

const MAGIC: &[u8; 4] = b"HFS1";
const HEADER_BYTES: usize = 16;
const FRAME_BYTES: usize = HEADER_BYTES + 4;

#[derive(Debug)]
pub(crate) struct Slots {
    file: File,
    slot_bytes: usize,
    generation: u64,
}

/// What a file held when it was opened.
#[derive(Debug, Default)]
pub(crate) struct Content {
    /// The newest content that is whole.
    pub(crate) newest: Option<Vec<u8>>,
    /// Whether a slot was written once and is broken now. One broken slot is normal after a power cut.
    pub(crate) broken: usize,
}

impl Slots {
    pub(crate) fn open(path: &Path, slot_bytes: usize) -> io::Result<(Self, Content)> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        (&mut file).take(2 * slot_bytes as u64).read_to_end(&mut bytes)?;
        let mut content = Content::default();
        let mut generation = 0;
        for slot in bytes.chunks(slot_bytes) {
            match parse(slot, slot_bytes) {
                Some((found, inner)) if found > generation => {
                    generation = found;
                    content.newest = Some(inner.to_vec());
                }
                Some(_) => {}
                None => content.broken += usize::from(slot.iter().any(|byte| *byte != 0)),
            }
        }
        Ok((Self { file, slot_bytes, generation }, content))
    }

    /// Most bytes that `write` takes.
    pub(crate) fn content_bytes_max(&self) -> usize {
        self.slot_bytes - FRAME_BYTES
    }

    /// Replaces the content. It is on disk afterwards.
    pub(crate) fn write(&mut self, content: &[u8]) -> io::Result<()> {
        let content = content.get(..self.content_bytes_max()).unwrap_or(content);
        let generation = self.generation + 1;
        let mut slot = Vec::with_capacity(self.slot_bytes);
        slot.extend(MAGIC);
        slot.extend(generation.to_le_bytes());
        slot.extend(u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
        slot.extend(content);
        slot.resize(self.slot_bytes - 4, 0);
        let crc = crc32c::crc32c(&slot);
        slot.extend(crc.to_le_bytes());
        self.file.seek(SeekFrom::Start((generation % 2) * self.slot_bytes as u64))?;
        self.file.write_all(&slot)?;
        self.file.sync_data()?;
        self.generation = generation;
        Ok(())
    }
}

fn parse(slot: &[u8], slot_bytes: usize) -> Option<(u64, &[u8])> {
    let (body, crc) = slot.split_at_checked(slot_bytes - 4)?;
    if crc != crc32c::crc32c(body).to_le_bytes() || !body.starts_with(MAGIC) {
        return None;
    }
    let generation = u64::from_le_bytes(body.get(4..12)?.try_into().ok()?);
    let length = usize::try_from(u32::from_le_bytes(body.get(12..HEADER_BYTES)?.try_into().ok()?)).ok()?;
    Some((generation, body.get(HEADER_BYTES..HEADER_BYTES + length)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_cut_off_at_any_byte_leaves_the_one_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slots");
        for cut in (0..64).step_by(7) {
            std::fs::remove_file(&path).ok();
            let (mut slots, content) = Slots::open(&path, 64).unwrap();
            assert_eq!(content.newest, None);
            for text in ["one", "two", "three"] {
                slots.write(text.as_bytes()).unwrap();
            }
            let mut bytes = std::fs::read(&path).unwrap();
            let newest = 64..128;
            bytes[newest][cut] ^= 0x40;
            std::fs::write(&path, bytes).unwrap();
            let (_, content) = Slots::open(&path, 64).unwrap();
            assert_eq!((content.newest.as_deref(), content.broken), (Some(&b"two"[..]), 1), "cut at {cut}");
        }
    }
}
