//! From the bytes of a `.wasm` file to something that can be instantiated, or to what is wrong with it.

use crate::cache::CodeCache;
use crate::compiler::Compiler;
use crate::host::Host;
use crate::imports::{
    BATCH_HANDLER, HANDLER, HANDLERS, INCOMING, METHOD_HANDLER, METHODS, OFFERED, RUN, TIMER_HANDLER,
    TWIN_HANDLER, bindings,
};
use crate::runtime::Runtime;
use bindings::exports::holdfast::module::{batch_handler, handler};
use wasmtime::component::types::{Component as Type, ComponentInstance, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex, InstancePre};
use wasmtime_wasi::p2::bindings::CommandIndices;
use wasmtime_wasi_http::p2::bindings::ProxyIndices;

/// Most bytes of a component file. Python and JavaScript engines have 10 to 40 MB.
pub(crate) const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A component that has been compiled and linked.
#[derive(Clone)]
pub(crate) struct Code {
    pub(crate) digest: String,
    pub(crate) pre: InstancePre<Host>,
    /// What it does.
    pub(crate) serves: Serves,
    /// `timer-handler.fire`, if the component exports it.
    pub(crate) fire: Option<ComponentExportIndex>,
    /// `twin-handler.desired`, if the component exports it.
    pub(crate) desired: Option<ComponentExportIndex>,
    /// `method-handler.invoke`, if the component exports it.
    pub(crate) invoke: Option<ComponentExportIndex>,
    /// `batch-handler`, if the component exports it.
    pub(crate) batch: Option<batch_handler::GuestIndices>,
    /// Whether it may wait for others inside a call.
    pub(crate) waits: bool,
}

/// What a component is for, by what it exports.
#[derive(Clone)]
pub(crate) enum Serves {
    /// It handles messages; and HTTP requests too, if it exports that as well.
    Messages(handler::GuestIndices, Option<ProxyIndices>),
    /// It answers HTTP requests.
    Requests(ProxyIndices),
    /// It is a program with a main function.
    Program(CommandIndices),
}

impl Serves {
    fn of(component: &Component, pre: &InstancePre<Host>) -> wasmtime::Result<Self> {
        let has = |start: &str| {
            let ty = component.component_type();
            ty.exports(component.engine()).any(|(name, _)| name.starts_with(start))
        };
        let requests = || ProxyIndices::new(pre);
        if component.get_export_index(None, HANDLER).is_some() {
            let requests = if has(INCOMING) { Some(requests()?) } else { None };
            return Ok(Self::Messages(handler::GuestIndices::new(pre)?, requests));
        }
        if has(INCOMING) {
            return Ok(Self::Requests(requests()?));
        }
        Ok(Self::Program(CommandIndices::new(pre)?))
    }

    /// What answers HTTP requests.
    pub(crate) const fn requests(&self) -> Option<&ProxyIndices> {
        match self {
            Self::Messages(_, Some(requests)) | Self::Requests(requests) => Some(requests),
            Self::Messages(_, None) | Self::Program(_) => None,
        }
    }

    /// Whether it handles messages.
    pub(crate) const fn messages(&self) -> bool {
        matches!(self, Self::Messages(..))
    }
}

/// Why a file is not a module. The text says what it is, what is missing, and the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAModule {
    #[error("the file is empty; copy the component again")]
    Empty,
    #[error(
        "the file is a core WebAssembly module, not a component; build it with --target wasm32-wasip2, or wrap it with \
         `wasm-tools component new`"
    )]
    CoreModule,
    #[error("the file is {0}, not a WebAssembly component; put the .wasm that your build wrote here")]
    NotWasm(&'static str),
    #[error("the component ends too early: it has {bytes} bytes and more are announced; copy it again")]
    Truncated { bytes: usize },
    #[error("the component is damaged or uses what is not supported: {0}; build or copy it again")]
    Invalid(String),
    #[error(
        "the compiler ended without a result ({0}); the component may be damaged or need more memory than there is: \
         build it again, smaller"
    )]
    CompilerFailed(String),
    #[error("the component exports neither {HANDLER} nor wasi:http/incoming-handler nor wasi:cli/run; {0}")]
    WrongWorld(String),
    #[error(
        "the component imports what this host does not offer: {}; it offers holdfast:module, wasi:config, wasi:keyvalue, \
         wasi:logging, wasi:http and WASI 0.2 (cli, clocks, filesystem, io, random, sockets)",
        .0.join(", ")
    )]
    UnknownImports(Vec<String>),
    #[error(
        "the component does not fit the interfaces of this host: {0}; build it against its version of wit/"
    )]
    Mismatch(String),
}

/// Compiles `bytes`, or takes the code from the cache. Takes as long as a compile; not for async tasks.
pub(crate) fn load(
    runtime: &Runtime,
    cache: &CodeCache,
    compiler: &Compiler,
    bytes: &[u8],
    digest: String,
) -> Result<Code, NotAModule> {
    check_header(bytes)?;
    let component = match cache.load(runtime.engine(), &digest) {
        Some(component) => component,
        None => {
            let code = compiler.compile(runtime, bytes)?;
            let component = trusted(runtime, &code)?;
            check_world(runtime, &component)?;
            cache.keep(&code, &digest);
            // What can be mapped from the file is shared with the page cache, and can be given back under pressure.
            cache.load(runtime.engine(), &digest).unwrap_or(component)
        }
    };
    let mismatch = |error: wasmtime::Error| NotAModule::Mismatch(format!("{error:#}"));
    let pre = runtime.linker().instantiate_pre(&component).map_err(mismatch)?;
    let optional = |interface: &str, function: &str| {
        let handler = component.get_export_index(None, interface)?;
        component.get_export_index(Some(&handler), function)
    };
    let fire = optional(TIMER_HANDLER, "fire");
    let desired = optional(TWIN_HANDLER, "desired");
    let invoke = optional(METHOD_HANDLER, "invoke");
    let batch = component
        .get_export_index(None, BATCH_HANDLER)
        .map(|_| batch_handler::GuestIndices::new(&pre).map_err(mismatch))
        .transpose()?;
    let ty = component.component_type();
    let waits = ty.imports(runtime.engine()).any(|(name, import)| {
        // The types of the interface alone do not wait.
        let calls = |interface: &ComponentInstance| interface.get_export(runtime.engine(), "call").is_some();
        name.starts_with(METHODS)
            && matches!(import.ty, ComponentItem::ComponentInstance(ref interface) if calls(interface))
    });
    let serves = Serves::of(&component, &pre).map_err(mismatch)?;
    Ok(Code { digest, pre, serves, fire, desired, invoke, batch, waits })
}

/// Looks at the first bytes: what is it, if not a component?
fn check_header(bytes: &[u8]) -> Result<(), NotAModule> {
    match bytes {
        [] => Err(NotAModule::Empty),
        [b'\0', b'a', b's', b'm', 0x0d, 0x00, 0x01, 0x00, ..] => Ok(()),
        [b'\0', b'a', b's', b'm', 0x01, 0x00, 0x00, 0x00, ..] => Err(NotAModule::CoreModule),
        [b'\0', b'a', b's', b'm', ..] if bytes.len() < 8 => Err(NotAModule::Truncated { bytes: bytes.len() }),
        [b'\0', b'a', b's', b'm', ..] => {
            Err(NotAModule::NotWasm("WebAssembly of a version that is not known"))
        }
        [0x7f, b'E', b'L', b'F', ..] => Err(NotAModule::NotWasm("a native program (ELF)")),
        [b'M', b'Z', ..] => Err(NotAModule::NotWasm("a native program for Windows")),
        [0x1f, 0x8b, ..] => Err(NotAModule::NotWasm("compressed with gzip")),
        [b'(', ..] => {
            Err(NotAModule::NotWasm("WebAssembly text; turn it into a binary with `wasm-tools parse`"))
        }
        text if std::str::from_utf8(text.get(..text.len().min(512)).unwrap_or(text)).is_ok() => {
            Err(NotAModule::NotWasm("text"))
        }
        _ => Err(NotAModule::NotWasm("of no known kind")),
    }
}

fn trusted(runtime: &Runtime, code: &[u8]) -> Result<Component, NotAModule> {
    #[expect(unsafe_code, reason = "the code was made a moment ago by this very program")]
    // SAFETY: what is loaded must be what wasmtime wrote: it comes from `Engine::precompile_component`, called by this
    // process or by its own child running the same executable, over a pipe that nobody else holds.
    let component = unsafe { Component::deserialize(runtime.engine(), code) };
    component.map_err(|error| NotAModule::CompilerFailed(format!("{error:#}")))
}

fn check_world(runtime: &Runtime, component: &Component) -> Result<(), NotAModule> {
    let ty = component.component_type();
    let is_known = ty
        .exports(runtime.engine())
        .any(|(name, _)| name.starts_with(HANDLERS) || name.starts_with(RUN) || name.starts_with(INCOMING));
    if !is_known {
        return Err(NotAModule::WrongWorld(what_it_exports(runtime, &ty)));
    }
    let unknown: Vec<String> = ty
        .imports(runtime.engine())
        .map(|(name, _)| name.to_owned())
        .filter(|name| !OFFERED.iter().any(|offered| name.starts_with(offered)))
        .collect();
    if unknown.is_empty() { Ok(()) } else { Err(NotAModule::UnknownImports(unknown)) }
}

fn what_it_exports(runtime: &Runtime, ty: &Type) -> String {
    let exports: Vec<&str> = ty.exports(runtime.engine()).map(|(name, _)| name).collect();
    let has = |start: &str| exports.iter().any(|name| name.starts_with(start));
    if has("holdfast:module/handler@") {
        return format!(
            "it exports another version of it ({}); build it against this host's version of wit/",
            exports.join(", ")
        );
    }
    if has("wasi:cli/run@") || has("wasi:http/") {
        return format!(
            "it is made for another version of WASI ({}); build it for WASI 0.2",
            exports.join(", ")
        );
    }
    match exports.as_slice() {
        [] => "it exports nothing; see `holdfast module new` for a module to start from".to_owned(),
        some => {
            format!("it exports {}; see `holdfast module new` for a module to start from", some.join(", "))
        }
    }
}
