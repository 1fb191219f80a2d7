//! Outgoing connections, with `wasi:sockets` and `wasi:http/outgoing-handler`: only to granted hosts and ports, and a
//! bounded number at a time. A refusal names the line to add.

use crate::host::Host;
use crate::module_log::ModuleLog;
use crate::outgoing::{NotConnected, Outgoing};
use crate::settings::HostGrant;
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper::http::uri::Scheme;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::TcpSocket;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{Host as _, ResolveAddressStream};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, Host as _, IpAddressFamily, Network};
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket::Host as _;
use wasmtime_wasi::sockets::{SocketAddrUse, WasiSocketsView};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

const CREATE: &str = "wasi:sockets/tcp-create-socket@0.2.12";
const LOOKUP: &str = "wasi:sockets/ip-name-lookup@0.2.12";

/// The setting that grants hosts.
const HOSTS: &str = "grants.hosts";

/// How long a connection may take, and how long the first byte of an answer, if the module does not say.
const CONNECT_TIME: Duration = Duration::from_secs(10);
const ANSWER_TIME: Duration = Duration::from_secs(60);

type Answer = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

/// Whom one module may reach.
#[derive(Clone)]
pub(crate) struct Reach {
    pub(crate) granted: Arc<[HostGrant]>,
    pub(crate) outgoing: Option<Arc<dyn Outgoing>>,
    /// One place for each connection.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) places_max: u32,
    pub(crate) log: ModuleLog,
    /// Whether it is a shadow, which reaches nobody.
    pub(crate) shadow: bool,
}

impl Reach {
    fn allows(&self, host: &str, port: u16) -> bool {
        let allowed = self.granted.iter().any(|grant| grant.allows(host, port));
        if !allowed {
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            self.refuse(&format!("{host}:{port}"));
        }
        allowed
    }

    fn refuse(&self, wanted: &str) {
        if self.shadow {
            return self
                .log
                .refuse("shadow", || format!("refused: a shadow connects to nobody, so not to {wanted}"));
        }
        self.log.refuse(HOSTS, || {
            format!(
                "refused: it wants to connect to {wanted}, which is not granted; if it may, add to the module's .toml: \
                 [grants] hosts = [\"{wanted}\"]"
            )
        });
    }

    fn is_full(&self) -> Error {
        self.log.refuse("limits.connections", || {
            let most = self.places_max;
            format!(
                "refused: it has {most} connections, the most it may have; raise limits.connections in the module's .toml"
            )
        });
        Error::ConnectionLimitReached
    }

    /// Whether an address is one of a granted host. Names are looked up anew each time: addresses move.
    async fn allows_address(self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let by_name = |grant: &&HostGrant| {
            !grant.below
                && grant.port.is_none_or(|port| port == address.port())
                && grant.host.parse::<IpAddr>().is_err()
        };
        if self.granted.iter().any(|grant| grant.allows(&ip.to_string(), address.port())) {
            return true;
        }
        for grant in self.granted.iter().filter(by_name) {
            let Some(outgoing) = &self.outgoing else { continue };
            let found = timeout(CONNECT_TIME, outgoing.resolve(&grant.host, address.port())).await;
            if found
                .is_ok_and(|found| found.is_ok_and(|all| all.iter().any(|one| one.ip().to_canonical() == ip)))
            {
                return true;
            }
        }
        self.allows(&ip.to_string(), address.port())
    }

    /// The answer to WASI before it uses an address.
    pub(crate) fn check(
        &self,
        address: SocketAddr,
        used: SocketAddrUse,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + Sync>> {
        match used {
            SocketAddrUse::TcpConnect => {
                // A handle of a task can be shared between threads, as WASI wants it; what looks names up cannot.
                let looked_up = tokio::spawn(self.clone().allows_address(address));
                Box::pin(async move { looked_up.await.unwrap_or(false) })
            }
            // What connects is bound to an address and a port of the system's choice before.
            SocketAddrUse::TcpBind => {
                let any = address.ip().is_unspecified() && address.port() == 0;
                Box::pin(async move { any })
            }
            _ => Box::pin(async { false }),
        }
    }

    /// Sends a request, and gives the answer with what reads the rest of it.
    async fn send(self, request: Request<WasiBody>, options: RequestOptions) -> Answer {
        let uri = request.uri();
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        if !self.allows(&host, port) {
            return Err(Error::HttpRequestDenied);
        }
        let place = self.places.clone().try_acquire_owned().map_err(|_| self.is_full())?;
        let outgoing = self.outgoing.as_ref().ok_or(Error::DestinationUnavailable)?;
        let connected = timeout(
            options.connect_timeout.unwrap_or(CONNECT_TIME).min(CONNECT_TIME),
            outgoing.connect(&host, port, tls),
        )
        .await
        .map_err(|_| Error::ConnectionTimeout)?;
        let stream = connected.map_err(|why| {
            tracing::debug!(%host, port, %why, "a module could not connect");
            match why {
                NotConnected::Unknown(_) => Error::DestinationNotFound,
                NotConnected::Unreachable(_) => Error::ConnectionRefused,
                NotConnected::Untrusted(_) => Error::TlsCertificateError,
                NotConnected::TooSlow(_) => Error::ConnectionTimeout,
            }
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = wasmtime_wasi::runtime::spawn(async move {
            let ended = connection.await;
            drop(place);
            ended.map_err(Error::from)
        });
        let (mut head, body) = request.into_parts();
        head.uri =
            head.uri.path_and_query().map_or_else(|| Uri::from_static("/"), |path| path.clone().into());
        let most = options.first_byte_timeout.unwrap_or(ANSWER_TIME);
        let answer = timeout(most, sender.send_request(Request::from_parts(head, body)))
            .await
            .map_err(|_| Error::ConnectionReadTimeout)??;
        Ok((answer.map(|body| body.map_err(Error::from).boxed_unsync()), Box::new(connection)))
    }
}

/// `wasi:http` asks here how to send a request.
pub(crate) struct Requests(pub(crate) Reach);

impl WasiHttpHooks for Requests {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Answer> + Send> {
        Box::new(self.0.clone().send(request, options.unwrap_or_default()))
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.requests, table: &mut self.table, ctx: &mut self.http }
    }
}

/// The sockets that an instance has, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Sockets(Vec<u32>);

/// Puts the looks at names and counts in front of WASI's own functions.
pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    linker.instance(CREATE)?.func_wrap(
        "create-tcp-socket",
        |mut store: StoreContextMut<'_, Host>, (family,): (IpAddressFamily,)| {
            let host = store.data_mut();
            if host.requests.0.granted.is_empty() {
                host.requests.0.refuse("HOST:PORT");
            }
            // Numbers of sockets that are gone may be those of something else now.
            let table = &host.table;
            host.sockets.0.retain(|number| table.get(&Resource::<TcpSocket>::new_borrow(*number)).is_ok());
            if host.sockets.0.len() >= host.limits.connections as usize {
                let _ = host.requests.0.is_full();
                return Ok((Err(ErrorCode::NewSocketLimit),));
            }
            let created = host.sockets().create_tcp_socket(family);
            if let Ok(socket) = &created {
                host.sockets.0.push(socket.rep());
            }
            match created {
                Ok(socket) => Ok((Ok(socket),)),
                Err(error) => Ok((Err(host.sockets().convert_error_code(error)?),)),
            }
        },
    )?;
    linker.instance(LOOKUP)?.func_wrap(
        "resolve-addresses",
        |mut store: StoreContextMut<'_, Host>, (network, name): (Resource<Network>, String)| {
            let host = store.data_mut();
            if !host.requests.0.granted.iter().any(|grant| grant.names(&name)) {
                host.requests.0.refuse(&format!("{name}:PORT"));
                return Ok((Err(ErrorCode::AccessDenied),));
            }
            let found: Result<Resource<ResolveAddressStream>, _> =
                host.sockets().resolve_addresses(network, name);
            match found {
                Ok(found) => Ok((Ok(found),)),
                Err(error) => Ok((Err(host.sockets().convert_error_code(error)?),)),
            }
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}
