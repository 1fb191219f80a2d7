//! Telemetry of edges below, recorded in the log of this edge together with the marks.
//!
//! A mark is a document of the space `below/marks` under `{edge}/{epoch:016x}/{priority:02}`:
//! `{"v":1,"sequence":n,"gaps":n,"missing":n,"last_gap":[from,to,at]}`. It is written with the messages below it and stays for
//! as long as the store.

use crate::ingest::{Appended, Batch, Event, Gap, Keeps, Origin, Progress};
use holdfast_broker::{Broker, PassedOn};
use holdfast_link::{Mark, event};
use holdfast_store::DocumentWrite;
use holdfast_types::{Envelope, Name, Offset, Priority, Soon, Source, SystemKey, Text, UnixMillis};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const SPACE: &str = "below/marks";
const VERSION: u32 = 1;

/// Most marks of one edge: 11 priorities of some hundred lives of its store.
const MARKS_MAX: usize = 4096;

#[derive(Serialize, Deserialize)]
struct Kept {
    v: u32,
    sequence: u64,
    gaps: u64,
    missing: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_gap: Option<(u64, u64, u64)>,
}

/// Where the telemetry of edges below goes.
pub(super) struct Recorder(pub(super) Broker);

impl Keeps for Recorder {
    fn append(&self, batch: Batch, done: Appended) {
        let Batch { events, progress, order } = batch;
        let documents = progress.iter().map(|(edge, one)| write(edge, one)).collect();
        let messages = events.into_iter().map(passed_on).collect();
        let done = |result: Result<(), holdfast_broker::Refused>| {
            done(result.map_err(|refused| refused.to_string()));
        };
        self.0.pass_on(messages, documents, order.unwrap_or_default(), done);
    }

    fn progress<'a>(&'a self, edge: &'a Name) -> Soon<'a, Result<Vec<Progress>, String>> {
        Box::pin(async move {
            let prefix = format!("{edge}/");
            let all =
                self.0.documents().scan(SPACE, &prefix, MARKS_MAX).map_err(|error| error.to_string())?;
            all.into_iter().map(|(key, value)| read(&key, &value)).collect()
        })
    }
}

fn write(edge: &Name, progress: &Progress) -> DocumentWrite {
    let Progress { mark, gaps, missing, last_gap } = *progress;
    let last_gap = last_gap.map(|gap| (gap.from, gap.to, gap.at.0));
    let kept = Kept { v: VERSION, sequence: mark.sequence.0, gaps, missing, last_gap };
    let key = format!("{edge}/{:016x}/{:02}", mark.epoch, mark.priority.level());
    // Numbers always have a JSON form.
    let value = Some(serde_json::to_vec(&kept).unwrap_or_default().into());
    DocumentWrite { space: SPACE.into(), key: key.into(), value }
}

fn read(key: &Text, value: &[u8]) -> Result<Progress, String> {
    let bad = |why: &dyn std::fmt::Display| format!("the mark {key} cannot be read: {why}");
    let mut parts = key.rsplit('/');
    let level = parts.next().and_then(|text| text.parse().ok());
    let priority = level.and_then(Priority::new).ok_or_else(|| bad(&"its key has no priority"))?;
    let epoch = parts.next().and_then(|text| u64::from_str_radix(text, 16).ok());
    let epoch = epoch.ok_or_else(|| bad(&"its key has no epoch"))?;
    let kept: Kept = serde_json::from_slice(value).map_err(|error| bad(&error))?;
    if kept.v != VERSION {
        return Err(bad(&format!("it has version {}, and {VERSION} is known", kept.v)));
    }
    let last_gap = kept.last_gap.map(|(from, to, at)| Gap { from, to, at: UnixMillis(at) });
    let mark = Mark { epoch, priority, sequence: Offset(kept.sequence) };
    Ok(Progress { mark, gaps: kept.gaps, missing: kept.missing, last_gap })
}

/// A message as this edge records it. What another edge's module sent is, here, of that device; who it was there stands
/// beside its identity there.
fn passed_on(event: Event) -> PassedOn {
    let Envelope { mut message, source, .. } = Arc::unwrap_or_clone(event.envelope);
    let (edge, priority) = match &event.origin {
        Origin::Edge(id) => {
            message.system.set(SystemKey::Origin, &event::origin(id, &source));
            (Some(id.edge.clone()), id.priority)
        }
        Origin::Volatile(edge) => (Some(edge.clone()), Priority::DEFAULT),
        Origin::Direct => (None, Priority::DEFAULT),
    };
    let source = match (source, edge) {
        (Source::Module { module, .. }, Some(edge)) => {
            message.system.set(SystemKey::ConnectionModule, &module);
            Source::Child { child: edge, topic: None }
        }
        (source, _) => source,
    };
    PassedOn { source, message, priority }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;
    use holdfast_types::{Message, StableId};

    #[test]
    fn marks_come_back_as_they_were_written() {
        let edge = Name::new("edge-2").unwrap();
        let mark = Mark { epoch: 0xe0, priority: Priority::DEFAULT, sequence: Offset(17) };
        for last_gap in [None, Some(Gap { from: 3, to: 9, at: UnixMillis(5) })] {
            let progress = Progress { mark, gaps: 1, missing: 6, last_gap };
            let written = write(&edge, &progress);
            assert_eq!(&*written.key, "edge-2/00000000000000e0/10");
            assert_eq!(read(&written.key, &written.value.unwrap()).unwrap(), progress);
        }
        for (key, value) in [("edge-2/e0", "{}"), ("edge-2/e0/10", "{}"), ("edge-2/x/10", "{}")] {
            assert!(read(&key.into(), value.as_bytes()).is_err(), "{key}");
        }
    }

    #[test]
    fn what_a_module_of_another_edge_sent_is_of_that_device_here_and_keeps_who_it_was() {
        let name = |text: &str| Name::new(text).unwrap();
        let id =
            StableId { edge: name("edge-2"), epoch: 1, priority: Priority::DEFAULT, sequence: Offset(4) };
        let source = Source::Module { module: name("mean"), output: Some(name("out")) };
        let envelope =
            Arc::new(Envelope { message: Message::new("x"), source, received: UnixMillis(0), hops: 0 });
        let passed = passed_on(Event { envelope, origin: Origin::Edge(id), brought: None });
        assert_eq!(passed.source, Source::Child { child: name("edge-2"), topic: None });
        assert_eq!(passed.message.system.value(SystemKey::ConnectionModule), Some("mean"));
        let fields = event::encode(None, &passed.source, &passed.message);
        let told = |name: &str| fields.user.iter().find(|(key, _)| key == name).map(|(_, value)| &**value);
        assert_eq!(told("holdfast-origin"), Some("edge-2/0000000000000001/d/4"));
        assert_eq!(told("holdfast-source"), Some("m/mean/out"));
    }
}
