//! What stands in the messages of the streams. Numbers are big-endian; a text or a value is its length in four bytes and
//! its bytes; every message begins with the version, 1, and with who wrote it: the number of the process and a number that
//! grows within it, so that one who had no answer knows its own message again.
//!
//! *Telemetry* (stream `events`): the marks of the edge afterwards, all of them, and the events. What stands behind the marks:
//! their number in two bytes; for each the epoch, the priority in one byte, and six numbers: sequence, gaps, missing, and
//! of the last gap from, to and time. Then the number of events in four bytes; for each its way (one byte: 0 directly, 1
//! through an edge that stored it, 2 through the edge named by the text that follows), when the hub took it, its hops in
//! one byte, and its fields as they stand in a PUBLISH of the link: content type and correlation (one byte whether it is
//! there, then the text), the number of pairs in two bytes, the pairs, the body.
//!
//! *Documents* (stream `documents`): the number of batches in two bytes; for each the number of writes in four bytes; for each
//! the space, the key, whether there is a value (one byte), the value.

use bytes::{BufMut, Bytes, BytesMut};
use holdfast_hub::backend::{Event, Gap, Origin, Progress, Space, Write};
use holdfast_link::{Mark, event};
use holdfast_types::{Envelope, Name, Offset, Priority, Text, UnixMillis};
use std::sync::Arc;

const VERSION: u8 = 1;

/// Who wrote a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Author {
    pub(crate) process: u64,
    pub(crate) number: u64,
}

/// A document that was written; none is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) space: Space,
    pub(crate) key: Text,
    pub(crate) value: Option<Bytes>,
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    // Nothing that comes here is near 4 GiB.
    out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(bytes);
}

fn put_author(out: &mut BytesMut, author: Author) {
    out.put_u8(VERSION);
    out.put_u64(author.process);
    out.put_u64(author.number);
}

pub(crate) fn encode_event(out: &mut BytesMut, event: &Event) {
    let Event { envelope, origin, .. } = event;
    let id = match origin {
        Origin::Direct => {
            out.put_u8(0);
            None
        }
        Origin::Edge(id) => {
            out.put_u8(1);
            Some(id)
        }
        Origin::Volatile(edge) => {
            out.put_u8(2);
            put_bytes(out, edge.as_str().as_bytes());
            None
        }
    };
    out.put_u64(envelope.received.0);
    out.put_u8(envelope.hops);
    let fields = event::encode(id, &envelope.source, &envelope.message);
    for field in [fields.content_type.as_deref().map(str::as_bytes), fields.correlation.as_deref()] {
        out.put_u8(field.is_some().into());
        field.into_iter().for_each(|field| put_bytes(out, field));
    }
    out.put_u16(u16::try_from(fields.user.len()).unwrap_or(u16::MAX));
    for (name, value) in &fields.user {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
    put_bytes(out, &envelope.message.body);
}

/// Telemetry whose events are encoded already.
pub(crate) fn encode_telemetry(author: Author, marks: &[Progress], count: u32, events: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(32 + 64 * marks.len() + events.len());
    put_author(&mut out, author);
    out.put_u16(u16::try_from(marks.len()).unwrap_or(u16::MAX));
    for progress in marks {
        put_progress(&mut out, progress);
    }
    out.put_u32(count);
    out.put_slice(events);
    out.freeze()
}

/// The marks alone, as a document.
pub(crate) fn encode_marks(marks: &[Progress]) -> Bytes {
    let mut out = BytesMut::with_capacity(64 * marks.len());
    marks.iter().for_each(|progress| put_progress(&mut out, progress));
    out.freeze()
}

pub(crate) fn decode_marks(bytes: Bytes) -> Option<Vec<Progress>> {
    let mut input = Input(bytes);
    let mut marks = Vec::new();
    while !input.0.is_empty() {
        marks.push(input.progress()?);
    }
    Some(marks)
}

fn put_progress(out: &mut BytesMut, progress: &Progress) {
    let Progress { mark, gaps, missing, last_gap } = progress;
    let gap = last_gap.unwrap_or(Gap { from: 0, to: 0, at: UnixMillis(0) });
    out.put_u64(mark.epoch);
    out.put_u8(mark.priority.level());
    for one in [mark.sequence.0, *gaps, *missing, gap.from, gap.to, gap.at.0] {
        out.put_u64(one);
    }
}

pub(crate) fn encode_documents(author: Author, batches: &[Vec<Write>]) -> Bytes {
    let mut out = BytesMut::new();
    put_author(&mut out, author);
    out.put_u16(u16::try_from(batches.len()).unwrap_or(u16::MAX));
    for batch in batches {
        out.put_u32(u32::try_from(batch.len()).unwrap_or(u32::MAX));
        for write in batch {
            put_bytes(&mut out, write.space.name().as_bytes());
            put_bytes(&mut out, write.key.as_bytes());
            out.put_u8(write.value.is_some().into());
            write.value.iter().for_each(|value| put_bytes(&mut out, value));
        }
    }
    out.freeze()
}

/// The bytes of a message that are not read yet.
pub(crate) struct Input(pub(crate) Bytes);

impl Input {
    fn take(&mut self, count: usize) -> Option<Bytes> {
        (self.0.len() >= count).then(|| self.0.split_to(count))
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.as_ref().try_into().ok()?))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.as_ref().try_into().ok()?))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.as_ref().try_into().ok()?))
    }

    pub(crate) fn bytes(&mut self) -> Option<Bytes> {
        let count = usize::try_from(self.u32()?).ok()?;
        self.take(count)
    }

    pub(crate) fn text(&mut self) -> Option<Text> {
        Some(std::str::from_utf8(&self.bytes()?).ok()?.into())
    }

    fn optional(&mut self) -> Option<Option<Bytes>> {
        match self.u8()? {
            0 => Some(None),
            _ => Some(Some(self.bytes()?)),
        }
    }

    pub(crate) fn author(&mut self) -> Option<Author> {
        (self.u8()? == VERSION).then_some(())?;
        Some(Author { process: self.u64()?, number: self.u64()? })
    }

    fn progress(&mut self) -> Option<Progress> {
        let (epoch, priority) = (self.u64()?, Priority::new(self.u8()?)?);
        let sequence = Offset(self.u64()?);
        let (gaps, missing) = (self.u64()?, self.u64()?);
        let gap = Gap { from: self.u64()?, to: self.u64()?, at: UnixMillis(self.u64()?) };
        let last_gap = (gap.to > gap.from).then_some(gap);
        Some(Progress { mark: Mark { epoch, priority, sequence }, gaps, missing, last_gap })
    }

    fn event(&mut self) -> Option<Event> {
        let way = self.u8()?;
        let edge = if way == 2 { Some(Name::new(&self.text()?).ok()?) } else { None };
        let (received, hops) = (UnixMillis(self.u64()?), self.u8()?);
        let (content_type, correlation) = (self.optional()?, self.optional()?);
        let mut user = Vec::new();
        for _ in 0..self.u16()? {
            user.push((self.text()?, self.text()?));
        }
        let body = self.bytes()?;
        let content_type = content_type.as_deref().map(std::str::from_utf8).transpose().ok()?;
        let pairs = user.iter().map(|(name, value)| (&**name, &**value));
        let event::Event { id, source, message, .. } =
            event::decode(body, content_type, correlation.as_deref(), pairs).ok()?;
        let origin = match (edge, id) {
            (Some(edge), _) => Origin::Volatile(edge),
            (None, Some(id)) => Origin::Edge(id),
            (None, None) => Origin::Direct,
        };
        let envelope = Arc::new(Envelope { message, source, received, hops });
        Some(Event { envelope, origin, brought: None })
    }

    fn marks(&mut self) -> Option<Vec<Progress>> {
        (0..self.u16()?).map(|_| self.progress()).collect()
    }
}

/// Who wrote telemetry, and the marks of it; what stands behind them is not looked at.
pub(crate) fn decode_head(bytes: Bytes) -> Option<(Author, Vec<Progress>)> {
    let mut input = Input(bytes);
    Some((input.author()?, input.marks()?))
}

/// How many events a message of telemetry holds.
pub(crate) fn decode_count(bytes: Bytes) -> Option<u32> {
    let mut input = Input(bytes);
    input.author()?;
    input.marks()?;
    input.u32()
}

/// The events of a message of telemetry.
pub(crate) fn decode_events(bytes: Bytes) -> Option<Vec<Event>> {
    let mut input = Input(bytes);
    input.author()?;
    input.marks()?;
    let count = input.u32()?;
    (0..count).map(|_| input.event()).collect()
}

pub(crate) fn decode_documents(bytes: Bytes) -> Option<(Author, Vec<Vec<Written>>)> {
    let mut input = Input(bytes);
    let author = input.author()?;
    let mut batches = Vec::new();
    for _ in 0..input.u16()? {
        let mut batch = Vec::new();
        for _ in 0..input.u32()? {
            let (space, key) = (Space::of(&input.text()?)?, input.text()?);
            // A copy: a slice would keep the whole message in memory.
            let value = input.optional()?.map(|value| Bytes::copy_from_slice(&value));
            batch.push(Written { space, key, value });
        }
        batches.push(batch);
    }
    Some((author, batches))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::{Message, Source, StableId};

    fn event(origin: Origin) -> Event {
        let mut message = Message::new("body");
        message.properties.set("level", "alarm");
        message.system.set(holdfast_types::SystemKey::ContentType, "text/plain");
        let source = Source::Child { child: Name::new("press").unwrap(), topic: None };
        let envelope = Arc::new(Envelope { message, source, received: UnixMillis(7), hops: 2 });
        Event { envelope, origin, brought: None }
    }

    #[test]
    fn telemetry_comes_back_as_it_was_and_cut_off_it_is_nothing() {
        let edge = Name::new("edge-1").unwrap();
        let id = StableId { edge: edge.clone(), epoch: 3, priority: Priority::DEFAULT, sequence: Offset(9) };
        let events = [event(Origin::Direct), event(Origin::Edge(id)), event(Origin::Volatile(edge))];
        let mark = Mark { epoch: 3, priority: Priority::DEFAULT, sequence: Offset(9) };
        let gap = Some(Gap { from: 2, to: 4, at: UnixMillis(5) });
        let marks = [Progress { mark, gaps: 1, missing: 2, last_gap: gap }];
        let mut body = BytesMut::new();
        events.iter().for_each(|event| encode_event(&mut body, event));
        let author = Author { process: 1, number: 2 };
        let bytes = encode_telemetry(author, &marks, 3, &body);
        assert_eq!(decode_events(bytes.clone()).unwrap(), events);
        assert_eq!(decode_marks(encode_marks(&marks)).unwrap(), marks);
        assert_eq!(decode_head(bytes.clone()).unwrap(), (author, marks.to_vec()));
        assert_eq!(decode_count(bytes.clone()), Some(3));
        for cut in 0..bytes.len() {
            assert!(decode_events(bytes.slice(..cut)).is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn documents_come_back_as_they_were_and_cut_off_they_are_nothing() {
        let batches = [vec![Write::set(Space::Twins, "a", "1"), Write::delete(Space::Hub, "b/c")], vec![]];
        let bytes = encode_documents(Author { process: 1, number: 2 }, &batches);
        let (author, read) = decode_documents(bytes.clone()).unwrap();
        assert_eq!((author.process, author.number, read.len()), (1, 2, 2));
        let [first, second] = read.first().unwrap().as_slice() else { panic!("{read:?}") };
        assert_eq!(
            (first.space, &*first.key, first.value.as_deref()),
            (Space::Twins, "a", Some(b"1".as_slice()))
        );
        assert_eq!((second.space, &*second.key, second.value.as_deref()), (Space::Hub, "b/c", None));
        for cut in 0..bytes.len() {
            assert!(decode_documents(bytes.slice(..cut)).is_none(), "cut at {cut}");
        }
    }
}
