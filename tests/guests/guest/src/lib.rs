//! What the test guests share: the bindings, and short names for what they do.

wit_bindgen::generate!({
    path: "../../../wit",
    world: "module",
    generate_all,
    pub_export_macro: true,
    default_bindings_module: "guest",
});

pub use exports::holdfast::module::handler::{Failure, Guest as Handler, Message};
pub use holdfast::module::metrics;
pub use holdfast::module::outbox::SendError;
pub use holdfast::module::timers;
pub use holdfast::module::types::{Outgoing, Source, SystemProperties};
pub use wasi::config::store as config;
pub use wasi::keyvalue::store as keyvalue;
pub use wasi::logging::logging;

/// Sends `body` to `output`.
pub fn send(output: &str, body: impl Into<Vec<u8>>) -> Result<(), SendError> {
    let system = SystemProperties {
        message_id: None,
        correlation_id: None,
        content_type: None,
        content_encoding: None,
        creation_time: None,
    };
    let message = Outgoing { body: body.into(), properties: Vec::new(), system };
    holdfast::module::outbox::send(output, &message)
}

/// Sends `body` to the output "out", which the tests look at.
pub fn out(body: impl Into<Vec<u8>>) {
    send("out", body).expect("the message is taken");
}

/// The body as text.
pub fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.body).into_owned()
}

/// Exports a type that implements [`Handler`].
#[macro_export]
macro_rules! module {
    ($type:ident) => {
        $crate::export!($type with_types_in $crate);
    };
}
