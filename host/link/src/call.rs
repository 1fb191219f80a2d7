//! The calls that there are, and how they are answered.

use crate::{CALL_TOPIC_PREFIX, Document};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Who makes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The edge.
    Up,
    /// The hub.
    Down,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $direction:ident;)*) => {
        /// A call, by its name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Call {
            $($(#[$doc])* $variant,)*
        }
        impl Call {
            /// Every call.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Who makes it.
            pub const fn direction(self) -> Direction {
                match self { $(Self::$variant => Direction::$direction),* }
            }
        }
    };
}
calls! {
    /// The first of a connection: [`crate::Hello`], answered with [`crate::Welcome`].
    Hello = "hello", Up;
    /// Asks for a page of what the edge should know: [`crate::SyncRequest`], answered with [`crate::Page`].
    Sync = "sync", Up;
    /// What an identity reports of itself: [`crate::TwinReport`], answered with [`crate::ReportedVersion`], or with 409 and
    /// [`crate::ReportedVersion`]'s number in the problem where the hub has another state than the report is made from.
    TwinReport = "twin-report", Up;
    /// Asks for one twin: [`crate::TwinGet`], answered with [`crate::TwinRecord`].
    TwinGet = "twin-get", Up;
    /// How a deployment fares: [`crate::DeploymentReport`], answered with [`crate::Done`].
    DeploymentStatus = "deployment-status", Up;
    /// Which children have come and gone: [`crate::ChildStates`], answered with [`crate::Done`].
    ChildState = "child-state", Up;
    /// What has changed of what the edge should know: [`crate::Delta`], answered with [`crate::Revision`].
    Delta = "delta", Down;
    /// A desired change: [`crate::DesiredChange`], answered with [`crate::Revision`] of the desired properties.
    Desired = "desired", Down;
    /// Calls a method of the edge's modules or of a child: [`crate::MethodRequest`], answered with [`crate::MethodAnswer`].
    Method = "method", Down;
    /// A message to a child: [`crate::CloudToDevice`], answered with [`crate::Done`] when it is on the edge's disk.
    CloudToDevice = "cloud-to-device", Down;
}

impl Call {
    /// The topic that it is published to.
    pub fn topic(self) -> String {
        format!("{CALL_TOPIC_PREFIX}{}", self.name())
    }

    /// The call of a topic.
    pub fn of_topic(topic: &str) -> Option<Self> {
        let name = topic.strip_prefix(CALL_TOPIC_PREFIX)?;
        Self::ALL.iter().copied().find(|call| call.name() == name)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a call was answered: numbers as HTTP has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status(pub u16);

impl Status {
    /// Done.
    pub const OK: Self = Self(200);
    /// The document is none that this call takes.
    pub const BAD: Self = Self(400);
    /// The caller may not.
    pub const FORBIDDEN: Self = Self(403);
    /// There is no such target.
    pub const NOT_FOUND: Self = Self(404);
    /// The other side has a newer state, or one that this call does not follow upon.
    pub const CONFLICT: Self = Self(409);
    /// Larger than may be.
    pub const TOO_LARGE: Self = Self(413);
    /// Too many calls, or no room; later.
    pub const BUSY: Self = Self(429);
    /// It went wrong at the other side.
    pub const FAILED: Self = Self(500);
    /// The other side is stopping or not ready; later.
    pub const UNAVAILABLE: Self = Self(503);
    /// The target did not answer in time.
    pub const TIMED_OUT: Self = Self(504);

    /// Whether the call was done.
    pub const fn is_success(self) -> bool {
        matches!(self.0, 200..=299)
    }

    /// Whether the same call may succeed later.
    pub const fn is_for_now(self) -> bool {
        matches!(self.0, 429 | 500 | 502 | 503 | 504)
    }

    /// Reads the value of [`crate::STATUS_PROPERTY`].
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|status| (100..=599).contains(status)).map(Self)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The body of an answer that is none of success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What went wrong, on what, and what to do.
    pub error: String,
    /// The version or revision that the answering side has, where that is why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

impl Document for Problem {
    const NAME: &'static str = "problem";
}

impl Problem {
    /// A problem in words.
    pub fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), version: None }
    }
}
