//! What a module exports: the [`Module`] trait, why a call may fail, and the macro that makes a component of it.

use crate::batches::Delivered;
use crate::methods::{Payload, Reply};
use crate::ports::{self, Ports};
use crate::twins::Change;
use crate::types::Message;
use std::fmt;

/// A module. The host calls one function at a time and never two at once.
pub trait Module: Sized + 'static {
    /// The inputs that it takes messages by, for `holdfast check` and whoever writes routes; any, unless it says so (see [`ports`]).
    const INPUTS: Ports = ports::ANY;

    /// The outputs that it sends by: a send by another one is refused. Any, unless it says so (see [`ports`]).
    const OUTPUTS: Ports = ports::ANY;

    /// Called once, before the first message: read the configuration, set timers. An error is a failed start; the
    /// restart policy applies.
    fn start() -> Result<Self, Error>;

    /// Called for each message, in order. Everything sent and stored in this call takes effect when it returns `Ok`.
    fn handle(&mut self, input: &str, message: Message) -> Result<(), Failure>;

    /// Called with two messages or more that wait, in order, if the module says `batches` to [`module!`](crate::module):
    /// see [`crate::batches`]. It is all or nothing: after a failure, of whichever kind, the messages come again one by one,
    /// through [`Module::handle`]. This one calls that for each message.
    fn handle_batch(&mut self, messages: Vec<Delivered>) -> Result<(), Failure> {
        messages.into_iter().try_for_each(|one| self.handle(&one.input, one.message))
    }

    /// Called when a timer of this module has run out (see [`crate::timers`]). Everything sent and stored in this call
    /// takes effect when it returns `Ok`.
    fn fire(&mut self, timer: &str) -> Result<(), Failure> {
        crate::log::warn!("timer {timer:?} has run out, but the module does not implement `Module::fire`");
        Ok(())
    }

    /// Called when the desired properties of this module have changed, between messages (see [`crate::twins`]). After
    /// [`Failure::Retry`] the module is started again; after [`Failure::Reject`] it goes on without the change.
    fn desired(&mut self, _change: Change) -> Result<(), Failure> {
        Ok(())
    }

    /// Called when somebody calls a method of this module, between messages (see [`crate::methods`]). The reply leaves
    /// when everything sent, stored and reported in this call is on disk. A failure is answered with status 500
    /// ([`Failure::Reject`]) or 503 ([`Failure::Retry`]).
    fn invoke(&mut self, method: &str, _payload: Payload) -> Result<Reply, Failure> {
        Ok(Reply::unknown(method))
    }

    /// Called before the module is stopped or replaced.
    fn stop(&mut self) {}
}

/// Why a module did not start: a text for the one who reads the log.
///
/// Every error converts into it, so `?` works on anything in [`Module::start`].
#[derive(Clone, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    /// An error with this text. Say what failed on what, and the fix.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// `Error` itself is no `std::error::Error`; that is what lets everything convert into it.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Self(text)
    }
}

/// Why a message was not handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Try again later, with back-off; after the attempts that the host allows the message becomes a dead letter.
    Retry(String),
    /// This message will never be handled: it becomes a dead letter at once.
    Reject(String),
}

impl Failure {
    /// Try again later.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self::Retry(reason.to_string())
    }

    /// Give the message up.
    pub fn reject(reason: impl fmt::Display) -> Self {
        Self::Reject(reason.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(reason) => write!(f, "retry: {reason}"),
            Self::Reject(reason) => write!(f, "reject: {reason}"),
        }
    }
}

impl std::error::Error for Failure {}

/// Turns an error, or a missing value, into a [`Failure`] and thereby says whether trying again can help.
///
/// ```
/// use holdfast_sdk::{Failure, OrFail};
/// assert_eq!("x".parse::<u8>().or_reject().unwrap_err(), Failure::reject("invalid digit found in string"));
/// assert_eq!(None::<u8>.or_retry().unwrap_err(), Failure::retry("nothing there"));
/// ```
pub trait OrFail<T> {
    /// Trying again may help.
    fn or_retry(self) -> Result<T, Failure>;
    /// Trying again will not help.
    fn or_reject(self) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> OrFail<T> for Result<T, E> {
    fn or_retry(self) -> Result<T, Failure> {
        self.map_err(Failure::retry)
    }

    fn or_reject(self) -> Result<T, Failure> {
        self.map_err(Failure::reject)
    }
}

impl<T> OrFail<T> for Option<T> {
    fn or_retry(self) -> Result<T, Failure> {
        self.ok_or_else(|| Failure::retry("nothing there"))
    }

    fn or_reject(self) -> Result<T, Failure> {
        self.ok_or_else(|| Failure::reject("nothing there"))
    }
}

/// Makes a component of a [`Module`]: exports the world `full-module` of the contract.
///
/// Call it once, in the root of a crate of type `cdylib`: `module!(Counter);`. What the module does besides stands behind its name, in
/// any order: `module!(Counter, batches, http);`
///
/// - `batches`: it takes several messages at once where several wait (see [`batches`](crate::batches)).
/// - `http`: it answers HTTP requests (`http::Handler`, with the feature `http`).
///
/// On targets other than WebAssembly it exports nothing, so the same crate runs its unit tests on the machine at hand.
#[macro_export]
macro_rules! module {
    ($module:ty $(, $more:ident)* $(,)?) => {
        $crate::module_exports!($module, $($more)*);
    };
}

/// What a module does besides, by the word for it. Not for direct use.
#[doc(hidden)]
#[macro_export]
macro_rules! module_more {
    (export batches $module:ty) => {
        impl $crate::batch_bindings::exports::holdfast::module::batch_handler::Guest for Exports {
            fn handle_batch(
                messages: ::std::vec::Vec<
                    $crate::batch_bindings::exports::holdfast::module::batch_handler::Delivered,
                >,
            ) -> ::core::result::Result<(), ::std::string::String> {
                MODULE.with(|slot| slot.handle_batch(messages.into_iter().map(Into::into).collect()))
            }
        }

        $crate::batch_bindings::export!(Exports with_types_in $crate::batch_bindings);
    };
    (check batches $module:ty) => {};
    ($what:ident http $module:ty) => {
        $crate::module_http!($what $module);
    };
    (export $other:ident $module:ty) => {};
    (check $other:ident $module:ty) => {
        ::core::compile_error!(::core::concat!(
            "module! knows `batches` and `http`, not `",
            ::core::stringify!($other),
            "`"
        ));
    };
}

/// What becomes of the word `http`. Not for direct use.
#[doc(hidden)]
#[cfg(feature = "http")]
#[macro_export]
macro_rules! module_http {
    (export $module:ty) => {
        impl $crate::wasip2::exports::http::incoming_handler::Guest for Exports {
            fn handle(
                request: $crate::wasip2::http::types::IncomingRequest,
                out: $crate::wasip2::http::types::ResponseOutparam,
            ) {
                $crate::http::serve::<$module>(request, out);
            }
        }

        $crate::wasip2::http::proxy::export!(Exports with_types_in $crate::wasip2);
    };
    (check $module:ty) => {
        const _: () = $crate::http::is_handler::<$module>();
    };
}

/// What becomes of the word `http`. Not for direct use.
#[doc(hidden)]
#[cfg(not(feature = "http"))]
#[macro_export]
macro_rules! module_http {
    (export $module:ty) => {};
    (check $module:ty) => {
        ::core::compile_error!(
            "module!(…, http) needs the feature `http` of the SDK; write in Cargo.toml: holdfast-sdk = { …, features = [\"http\"] }"
        );
    };
}

/// What [`module!`] comes to. Not for direct use.
#[doc(hidden)]
#[macro_export]
macro_rules! module_exports {
    ($module:ty, $($more:ident)*) => {
        $($crate::module_more!(check $more $module);)*

        #[cfg(target_family = "wasm")]
        const _: () = {
            ::std::thread_local! {
                static MODULE: $crate::handler::Slot<$module> = const { $crate::handler::Slot::empty() };
            }

            struct Exports;

            const DECLARATION_BYTES: usize = $crate::ports::declaration_bytes(
                <$module as $crate::Module>::INPUTS,
                <$module as $crate::Module>::OUTPUTS,
            );

            // A section of the component: what it declares can be read before it runs.
            #[used]
            #[unsafe(link_section = "holdfast-grants")]
            static DECLARATION: [u8; DECLARATION_BYTES] = $crate::ports::declaration(
                <$module as $crate::Module>::INPUTS,
                <$module as $crate::Module>::OUTPUTS,
            );

            impl $crate::bindings::exports::holdfast::module::handler::Guest for Exports {
                fn start() -> ::core::result::Result<(), ::std::string::String> {
                    MODULE.with($crate::handler::Slot::start)
                }

                fn handle(
                    input: ::std::string::String,
                    message: $crate::bindings::holdfast::module::types::Message,
                ) -> ::core::result::Result<(), $crate::bindings::exports::holdfast::module::handler::Failure>
                {
                    MODULE.with(|slot| slot.handle(&input, message.into()))
                }

                fn stop() {
                    MODULE.with($crate::handler::Slot::stop)
                }
            }

            impl $crate::bindings::exports::holdfast::module::timer_handler::Guest for Exports {
                fn fire(
                    name: ::std::string::String,
                ) -> ::core::result::Result<(), $crate::bindings::exports::holdfast::module::handler::Failure>
                {
                    MODULE.with(|slot| slot.fire(&name))
                }
            }

            impl $crate::bindings::exports::holdfast::module::twin_handler::Guest for Exports {
                fn desired(
                    version: u64,
                    patch: ::std::string::String,
                ) -> ::core::result::Result<(), $crate::bindings::exports::holdfast::module::handler::Failure>
                {
                    MODULE.with(|slot| slot.desired(version, patch))
                }
            }

            impl $crate::bindings::exports::holdfast::module::method_handler::Guest for Exports {
                fn invoke(
                    name: ::std::string::String,
                    payload: ::std::string::String,
                ) -> ::core::result::Result<
                    $crate::bindings::holdfast::module::types::MethodReply,
                    $crate::bindings::exports::holdfast::module::handler::Failure,
                > {
                    MODULE.with(|slot| slot.invoke(&name, payload))
                }
            }

            $crate::bindings::export!(Exports with_types_in $crate::bindings);

            $($crate::module_more!(export $more $module);)*
        };

        #[cfg(not(target_family = "wasm"))]
        const _: fn() = || {
            fn is_module<M: $crate::Module>() {}
            is_module::<$module>();
        };
    };
}

/// Holds the one instance of a module inside its component.
#[doc(hidden)]
#[cfg(target_family = "wasm")]
pub struct Slot<M>(std::cell::RefCell<Option<M>>);

#[cfg(target_family = "wasm")]
impl<M: Module> Slot<M> {
    pub const fn empty() -> Self {
        Self(std::cell::RefCell::new(None))
    }

    pub fn start(&self) -> Result<(), String> {
        *self.0.borrow_mut() = Some(M::start().map_err(|error| error.0)?);
        Ok(())
    }

    pub fn handle(&self, input: &str, message: Message) -> Result<(), crate::imports::WireFailure> {
        self.with(|module| module.handle(input, message))
    }

    pub fn handle_batch(&self, messages: Vec<Delivered>) -> Result<(), String> {
        self.call(|module| module.handle_batch(messages)).map_err(|failure| failure.to_string())
    }

    pub fn fire(&self, timer: &str) -> Result<(), crate::imports::WireFailure> {
        self.with(|module| module.fire(timer))
    }

    pub fn desired(&self, version: u64, patch: String) -> Result<(), crate::imports::WireFailure> {
        self.with(|module| module.desired(Change { version, patch }))
    }

    pub fn invoke(
        &self,
        name: &str,
        payload: String,
    ) -> Result<crate::imports::WireReply, crate::imports::WireFailure> {
        let reply = self.with(|module| module.invoke(name, Payload(payload)))?;
        Ok(crate::imports::WireReply { status: reply.status, payload_json: reply.payload })
    }

    pub fn stop(&self) {
        if let Some(mut module) = self.0.borrow_mut().take() {
            module.stop();
        }
    }

    fn with<T>(
        &self,
        call: impl FnOnce(&mut M) -> Result<T, Failure>,
    ) -> Result<T, crate::imports::WireFailure> {
        self.call(call).map_err(Into::into)
    }

    fn call<T>(&self, call: impl FnOnce(&mut M) -> Result<T, Failure>) -> Result<T, Failure> {
        match self.0.borrow_mut().as_mut() {
            Some(module) => call(module),
            None => Err(Failure::retry("the module was called before it was started")),
        }
    }
}
