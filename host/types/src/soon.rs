//! What is there later, behind a box.

use std::pin::Pin;

/// What is there later. At the border of a room, where no message passes, futures are given in this box: the code behind it is
/// then compiled in the room that it belongs to, once, and not anew in every room that awaits it.
pub type Soon<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
