//! Which version of the reported properties of each twin a hub has taken.
//!
//! On disk: space `link/reported`, key as of the twin, value the number.

use bytes::Bytes;
use holdfast_broker::{Documents, Refused};
use holdfast_types::Identity;

const SPACE: &str = "link/reported";

/// The version that a hub has taken; none if none ever did. One that cannot be read makes the hub be asked, which costs a
/// question.
pub(crate) fn read(documents: &Documents, who: &Identity) -> Option<u64> {
    let found = documents.value(SPACE, &who.to_string());
    let number = |bytes: Bytes| std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
    found.ok().flatten().and_then(number)
}

/// Notes what a hub has taken of each; none forgets it.
pub(crate) async fn write(
    documents: &Documents,
    all: impl IntoIterator<Item = (&Identity, Option<u64>)>,
) -> Result<(), Refused> {
    let value = |version: u64| Bytes::from(version.to_string());
    let values = all.into_iter().map(|(who, version)| (who.to_string().as_str().into(), version.map(value)));
    documents.write_all(SPACE, values.collect()).await
}
