//! The format of messages on disk.
//!
//! **Keyspaces.** `q/{log}/{level}` holds one queue; `meta` holds cursors and segments (`state.rs`); `documents` holds
//! documents. All belong to one fjall database, so that one batch over them is atomic.
//!
//! **Pack.** What one group commit appends to one queue becomes one or a few packs, each a key and a value in the
//! queue's keyspace. A pack holds up to 64 KiB of records or one larger record. Its key is the offset of its *last*
//! record, 8 bytes big endian, so that the first key at or above an offset leads to the pack that holds it. Packs cost
//! the database a thing for each group and not for each message. Where a pack lies in a file of its queue, the value is
//! its place (`pack_files/`).
//!
//! ```text
//! pack   = version u8 (1 or 2) | count u32 LE | crc32c u32 LE over (key, version, count) | record * count
//! record = length varint | crc32c u32 LE | head mark u8 | [head, when the mark is 1] | rest
//! head   = flags u8 (1 = input, 2 = dead letter, 4 = source has its optional part)
//!          source kind u8 (0 module, 1 child, 2 twin change) | text | [text]
//!          [input text] | route text
//! rest   = bits u8 (1 = expires, 2 = creation time, 4 = addressed to sessions,
//!          8 = may go as the oldest) | hops u8 | received varint
//!          [expires varint] | [creation time varint] | [addressed, see `addressed.rs`]
//!          [death: level u8 | offset varint | attempts varint | reason text]
//!          system count varint, (tag u8, text)* | application count varint, (text, text)* | body to the end
//! text   = length varint | UTF-8
//! ```
//! `length` counts the mark, the head when it is there, and the rest. A head that equals that of the record before it
//! in the pack is left out (mark 0): messages of one source by one route repeat it. The checksum is over head and rest,
//! also when the head is left out. Times are Unix milliseconds. A pack has version 2 if one of its records is addressed to
//! sessions, which only the session log's are. A pack of a higher version than 2 is never guessed at.
//!
//! Written by the committer only; never changed; dropped in whole segments (`retention.rs`).

use crate::{
    addressed,
    codec::{Malformed, as_str, name, put_text, put_varint, text, varint},
    message::{Death, Entry},
};
use bytes::{Buf, Bytes};
use holdfast_types::{
    Envelope, Message, Name, Offset, Priority, Properties, Source, SystemKey, SystemProperties, Text, Topic,
    UnixMillis, WhenFull,
};
use std::sync::Arc;

const PACK_VERSION: u8 = 1;
/// The version of a pack with records that are addressed to sessions.
const PACK_VERSION_ADDRESSED: u8 = 2;
const PACK_HEADER_BYTES: usize = 9;
/// Records in one pack, in bytes, unless one record is larger: two blocks of a table, so that a read that wants one
/// message does not fetch much more.
pub(crate) const PACK_BYTES_MAX: usize = 64 << 10;

const HEAD_INPUT: u8 = 1;
const HEAD_DEAD: u8 = 2;
const HEAD_OPTION: u8 = 4;
const REST_EXPIRES: u8 = 1;
const REST_CREATED: u8 = 2;
const REST_ADDRESSED: u8 = 4;
const REST_MAY_GO: u8 = 8;

/// A message in its form on disk, made on the sender's thread so that the committer only copies.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    bytes: Vec<u8>,
    head_bytes: usize,
    crc: u32,
    version: u8,
    pub(crate) expires: Option<UnixMillis>,
    pub(crate) received: UnixMillis,
    /// Only its reader may remove it.
    pub(crate) keep: bool,
}

impl Encoded {
    pub(crate) fn new(entry: &Entry, death: Option<&Death>, when_full: WhenFull) -> Self {
        let message = &entry.envelope.message;
        let mut out = Vec::with_capacity(message.size_bytes() + 96);
        encode_head(&mut out, entry, death.is_some());
        let head_bytes = out.len();
        let keep = when_full != WhenFull::DropOldest;
        encode_rest(&mut out, entry, death, keep);
        let crc = crc32c::crc32c(&out);
        let version = if entry.addressed.is_some() { PACK_VERSION_ADDRESSED } else { PACK_VERSION };
        Self {
            bytes: out,
            head_bytes,
            crc,
            version,
            expires: entry.expires,
            received: entry.envelope.received,
            keep,
        }
    }

    /// The most bytes it takes in a pack.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + 10
    }
}

fn encode_head(out: &mut Vec<u8>, entry: &Entry, dead: bool) {
    let (kind, first, second) = match &entry.envelope.source {
        Source::Module { module, output } => (0, module.as_str(), output.as_ref().map(Name::as_str)),
        Source::Child { child, topic } => (1, child.as_str(), topic.as_ref().map(Topic::as_str)),
        Source::TwinChange { device, module } => (2, device.as_str(), module.as_ref().map(Name::as_str)),
    };
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    out.push(
        flag(entry.input.is_some(), HEAD_INPUT) | flag(dead, HEAD_DEAD) | flag(second.is_some(), HEAD_OPTION),
    );
    out.push(kind);
    put_text(out, first);
    if let Some(second) = second {
        put_text(out, second);
    }
    if let Some(input) = &entry.input {
        put_text(out, input);
    }
    put_text(out, &entry.route);
}

fn encode_rest(out: &mut Vec<u8>, entry: &Entry, death: Option<&Death>, keep: bool) {
    let Envelope { message, received, hops, .. } = &*entry.envelope;
    let created = message.system.creation_time;
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    let bits = bit(entry.expires.is_some(), REST_EXPIRES)
        | bit(created.is_some(), REST_CREATED)
        | bit(entry.addressed.is_some(), REST_ADDRESSED)
        | bit(!keep, REST_MAY_GO);
    out.extend([bits, *hops]);
    put_varint(out, received.0);
    if let Some(expires) = entry.expires {
        put_varint(out, expires.0);
    }
    if let Some(created) = created {
        put_varint(out, created.0);
    }
    if let Some(addressed) = &entry.addressed {
        addressed::encode(out, addressed, &entry.envelope.source);
    }
    if let Some(death) = death {
        out.push(death.priority.level());
        put_varint(out, death.offset.0);
        put_varint(out, u64::from(death.attempts));
        put_text(out, &death.reason);
    }
    put_varint(out, message.system.iter().len() as u64);
    for (key, value) in message.system.iter() {
        out.push(key.tag());
        put_text(out, value);
    }
    put_varint(out, message.properties.len() as u64);
    for (key, value) in message.properties.iter() {
        put_text(out, key);
        put_text(out, value);
    }
    out.extend_from_slice(&message.body);
}

/// Collects records that follow each other in one queue.
#[derive(Debug, Default)]
pub(crate) struct PackBuilder {
    bytes: Vec<u8>,
    count: u32,
    version: u8,
    head: Vec<u8>,
}

impl PackBuilder {
    /// Whether a record of this size should start the next pack.
    pub(crate) fn is_full_for(&self, record_bytes: usize) -> bool {
        self.count > 0 && self.bytes.len() + record_bytes > PACK_BYTES_MAX
    }

    pub(crate) fn push(&mut self, record: &Encoded) {
        if self.count == 0 {
            self.bytes.clear();
            // Large records come in company: to grow step by step would copy each of them once more.
            let few = record.len() >= PACK_BYTES_MAX / 16;
            let room = if few { PACK_BYTES_MAX.max(record.len()) } else { record.len() };
            self.bytes.reserve_exact(PACK_HEADER_BYTES + room);
            self.bytes.resize(PACK_HEADER_BYTES, 0);
            self.head.clear();
            self.version = PACK_VERSION;
        }
        self.version = self.version.max(record.version);
        let (head, _) = record.bytes.split_at_checked(record.head_bytes).unwrap_or_default();
        let same = self.count > 0 && head == self.head;
        let from = if same { record.head_bytes } else { 0 };
        let tail = record.bytes.get(from..).unwrap_or_default();
        put_varint(&mut self.bytes, tail.len() as u64 + 1);
        self.bytes.extend(record.crc.to_le_bytes());
        self.bytes.push(u8::from(!same));
        self.bytes.extend_from_slice(tail);
        if !same {
            self.head.clear();
            self.head.extend_from_slice(head);
        }
        self.count += 1;
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The value of the pack whose last record has this offset. The builder is empty afterwards.
    pub(crate) fn finish(&mut self, last: Offset) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        let header = pack_header(self.version, last, self.count);
        if let Some(place) = bytes.get_mut(..PACK_HEADER_BYTES) {
            place.copy_from_slice(&header);
        }
        self.count = 0;
        // It stays in the memtable as it is, with all that it has reserved.
        bytes.shrink_to_fit();
        bytes
    }
}

fn pack_header(version: u8, last: Offset, count: u32) -> [u8; PACK_HEADER_BYTES] {
    let [a, b, c, d] = count.to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&last.0.to_be_bytes()), &[version, a, b, c, d]);
    let [w, x, y, z] = crc.to_le_bytes();
    [version, a, b, c, d, w, x, y, z]
}

/// The key of the pack whose last record has this offset.
pub(crate) fn key(last: Offset) -> [u8; 8] {
    last.0.to_be_bytes()
}

/// The offset in a key.
pub(crate) fn offset_of(key: &[u8]) -> Result<Offset, Malformed> {
    key.try_into()
        .map(|key| Offset(u64::from_be_bytes(key)))
        .map_err(|_| Malformed("the key has not 8 bytes"))
}

/// Reads the records of one pack in order.
#[derive(Debug)]
pub(crate) struct Pack {
    rest: Bytes,
    next: Offset,
    left: u32,
    /// The head that goes for the records to come, and its checksum, with which theirs begin.
    head: Option<(u32, Head)>,
}

#[derive(Clone, Debug)]
struct Head {
    dead: bool,
    source: Source,
    input: Option<Name>,
    route: Text,
}

/// What stands before the message itself; enough to count and to expire.
#[derive(Debug)]
pub(crate) struct Record {
    head: Head,
    rest: Bytes,
    bits: u8,
    hops: u8,
    pub(crate) offset: Offset,
    pub(crate) bytes: usize,
    pub(crate) received: UnixMillis,
    pub(crate) expires: Option<UnixMillis>,
}

impl Pack {
    pub(crate) fn open(key: &[u8], value: Bytes) -> Result<Self, Malformed> {
        let last = offset_of(key)?;
        let (header, _) =
            value.split_at_checked(PACK_HEADER_BYTES).ok_or(Malformed("the pack is too short"))?;
        let &[version, a, b, c, d, ..] = header else { return Err(Malformed("the pack is too short")) };
        if !(PACK_VERSION..=PACK_VERSION_ADDRESSED).contains(&version) {
            return Err(Malformed("the pack has an unknown version"));
        }
        let count = u32::from_le_bytes([a, b, c, d]);
        if header != pack_header(version, last, count) {
            return Err(Malformed("the pack's header does not match its checksum"));
        }
        let first =
            (last.0 + 1).checked_sub(u64::from(count)).ok_or(Malformed("the pack has too many records"))?;
        let mut rest = value;
        rest.advance(PACK_HEADER_BYTES);
        Ok(Self { rest, next: Offset(first), left: count, head: None })
    }

    /// The offset of the record that comes next.
    pub(crate) fn next_offset(&self) -> Offset {
        self.next
    }

    /// Whether the record at `offset` is still to come.
    pub(crate) fn holds(&self, offset: Offset) -> bool {
        offset >= self.next && offset.0 - self.next.0 < u64::from(self.left)
    }

    /// The next record, or `None` after the last one. After an error nothing more can be read from this pack, since
    /// later heads may lean on the broken one.
    pub(crate) fn next(&mut self) -> Option<Result<Record, Malformed>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let offset = self.next;
        self.next = offset.next();
        let record = self.take(offset);
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }

    /// Moves past records below `offset` without looking into more than their frame and head.
    pub(crate) fn skip_to(&mut self, offset: Offset) -> Result<(), Malformed> {
        while self.left > 0 && self.next < offset {
            let (_, mark, mut body) = self.frame()?;
            if mark == 1 {
                let head = parse_head(&mut body)?;
                self.head = Some(head);
            }
            self.left -= 1;
            self.next = self.next.next();
        }
        Ok(())
    }

    fn frame(&mut self) -> Result<(u32, u8, Bytes), Malformed> {
        let length =
            usize::try_from(varint(&mut self.rest)?).map_err(|_| Malformed("a record is too long"))?;
        if self.rest.len() < length.saturating_add(4) || length == 0 {
            return Err(Malformed("a record runs past the end of its pack"));
        }
        let crc = self.rest.get_u32_le();
        let mut body = self.rest.split_to(length);
        let mark = body.get_u8();
        Ok((crc, mark, body))
    }

    fn take(&mut self, offset: Offset) -> Result<Record, Malformed> {
        let (crc, mark, mut rest) = self.frame()?;
        let bytes = rest.len() + 10;
        let found = if mark == 1 {
            let found = crc32c::crc32c(&rest);
            if found == crc {
                self.head = Some(parse_head(&mut rest)?);
            }
            found
        } else {
            let (head, _) = self.head.as_ref().ok_or(Malformed("the first record of a pack has no head"))?;
            crc32c::crc32c_append(*head, &rest)
        };
        if found != crc {
            return Err(Malformed("a record does not match its checksum"));
        }
        let (_, head) = self.head.as_ref().ok_or(Malformed("a record has no head"))?;
        if rest.len() < 2 {
            return Err(Malformed("a record is too short"));
        }
        let (bits, hops) = (rest.get_u8(), rest.get_u8());
        let received = UnixMillis(varint(&mut rest)?);
        let expires = if bits & REST_EXPIRES != 0 { Some(UnixMillis(varint(&mut rest)?)) } else { None };
        Ok(Record { head: head.clone(), rest, bits, hops, offset, bytes, received, expires })
    }
}

impl Record {
    /// Whether only its reader may remove it.
    pub(crate) fn keep(&self) -> bool {
        self.bits & REST_MAY_GO == 0
    }

    /// The message, and for a dead letter where it comes from.
    pub(crate) fn decode(self) -> Result<(Entry, Option<Death>), Malformed> {
        let Self { head, mut rest, bits, hops, received, expires, .. } = self;
        let creation_time =
            if bits & REST_CREATED != 0 { Some(UnixMillis(varint(&mut rest)?)) } else { None };
        let addressed = if bits & REST_ADDRESSED != 0 {
            Some(Arc::new(addressed::decode(&mut rest, &head.source)?))
        } else {
            None
        };
        let death = if head.dead { Some(decode_death(&mut rest)?) } else { None };
        let mut system = SystemProperties::new();
        system.creation_time = creation_time;
        for _ in 0..varint(&mut rest)? {
            let tag = rest.try_get_u8().map_err(|_| Malformed("a property is cut off"))?;
            let value = text(&mut rest)?;
            // A tag from a later version is left out rather than made a fault: the body still counts.
            if let Some(key) = SystemKey::from_tag(tag) {
                system.set(key, as_str(&value)?);
            }
        }
        let mut properties = Properties::new();
        for _ in 0..varint(&mut rest)? {
            let (key, value) = (text(&mut rest)?, text(&mut rest)?);
            properties.set(as_str(&key)?, as_str(&value)?);
        }
        let message = Message { body: rest, properties, system };
        let envelope = Arc::new(Envelope { message, source: head.source, received, hops });
        Ok((Entry { envelope, input: head.input, route: head.route, expires, addressed }, death))
    }
}

fn decode_death(rest: &mut Bytes) -> Result<Death, Malformed> {
    let level = rest.try_get_u8().map_err(|_| Malformed("a dead letter is cut off"))?;
    let priority = Priority::new(level).ok_or(Malformed("a dead letter has an unknown priority"))?;
    let offset = Offset(varint(rest)?);
    let attempts = u32::try_from(varint(rest)?).unwrap_or(u32::MAX);
    let reason = text(rest)?;
    Ok(Death { priority, offset, attempts, reason: as_str(&reason)?.into() })
}

/// Takes a head off, with its checksum.
fn parse_head(bytes: &mut Bytes) -> Result<(u32, Head), Malformed> {
    let whole = bytes.clone();
    if bytes.len() < 2 {
        return Err(Malformed("a head is cut off"));
    }
    let (flags, kind) = (bytes.get_u8(), bytes.get_u8());
    let first = name(&text(bytes)?)?;
    let second = if flags & HEAD_OPTION != 0 { Some(text(bytes)?) } else { None };
    let source = match kind {
        0 => Source::Module { module: first, output: second.as_ref().map(name).transpose()? },
        1 => {
            let topic = second
                .as_ref()
                .map(|t| Topic::new(as_str(t)?).map_err(|_| Malformed("a topic is not valid")));
            Source::Child { child: first, topic: topic.transpose()? }
        }
        2 => Source::TwinChange { device: first, module: second.as_ref().map(name).transpose()? },
        _ => return Err(Malformed("a source has an unknown kind")),
    };
    let input = if flags & HEAD_INPUT != 0 { Some(name(&text(bytes)?)?) } else { None };
    let route = as_str(&text(bytes)?)?.into();
    let (head, _) = whole.split_at_checked(whole.len() - bytes.len()).unwrap_or_default();
    Ok((crc32c::crc32c(head), Head { dead: flags & HEAD_DEAD != 0, source, input, route }))
}

#[cfg(test)]
mod tests;
