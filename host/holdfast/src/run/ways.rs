//! Whom the link goes to and by which ways, as the rooms want it.

use super::parts;
use crate::environment;
use anyhow::{Context, anyhow};
use holdfast_config::{self as config, UpstreamAddress};
use holdfast_net::{
    ClientTls, ClientTlsConfig, HostName, Identity, Names, PlainTcp, Proxy, QuicTls, Roots, Settings, Target,
    Way,
};
use holdfast_upstream::{Concierge, Place};

/// The hubs or brokers.
pub fn places(given: &config::Upstream, net: &config::Net) -> anyhow::Result<Vec<Place>> {
    let maker = Maker::new(given, net)?;
    let place = |place: &config::UpstreamPlace| {
        let targets = place.ways.iter().map(|way| maker.target(way)).collect::<anyhow::Result<_>>()?;
        let hub = place.name.as_deref().map(Into::into);
        Ok(Place { name: name(place).into(), hub, targets })
    };
    given.places.iter().map(place).collect()
}

/// Who says which hub is the active one.
pub fn concierge(given: &config::Upstream, net: &config::Net) -> anyhow::Result<Option<Concierge>> {
    let Some(asked) = &given.concierge else { return Ok(None) };
    let address = UpstreamAddress {
        transport: config::Transport::Tls,
        host: asked.host.clone(),
        port: asked.port,
        path: String::new(),
    };
    let mut target = Maker::new(given, net)?.target(&address)?;
    target.settings = Settings::new("upstream.concierge.url", "https://", "https://, nothing else");
    let (path, key, interval) = (asked.path.as_str().into(), asked.public_key, asked.interval);
    Ok(Some(Concierge { target, path, key, interval }))
}

/// What people call it. An address without a name has the usual port added, since a firewall asks for it.
fn name(place: &config::UpstreamPlace) -> String {
    if let Some(name) = &place.name {
        return name.clone();
    }
    match place.ways.as_slice() {
        [only] if only.host.contains(':') => format!("[{}]:{}", only.host, only.port),
        [only] => format!("{}:{}", only.host, only.port),
        _ => place.address.clone(),
    }
}

/// What all ways share. TLS is made once, so that sessions are resumed whatever way was taken before.
struct Maker<'c> {
    given: &'c config::Upstream,
    tls: Option<(ClientTls, QuicTls)>,
    network: Network,
}

/// How hosts are found and reached, as `[net]` says it.
#[derive(Clone, Default)]
pub struct Network {
    names: Names,
    /// The proxy, and the hosts that are reached without it.
    proxy: Option<(Proxy, Vec<String>)>,
}

impl Network {
    pub fn of(net: &config::Net) -> anyhow::Result<Self> {
        let names = Names::of_servers(&net.name_servers, "net.name_servers")
            .map_err(|why| anyhow!("net.name_servers cannot be used: {why}"))?;
        let proxy = net.proxy.as_ref().map(|given| anyhow::Ok((proxy(given)?, given.except.clone())));
        Ok(Self { names, proxy: proxy.transpose()? })
    }

    /// The same target, by these name servers and that proxy.
    pub fn lead(&self, target: Target) -> Target {
        let host = target.host.to_string();
        let proxy = self.proxy.as_ref().filter(|(_, except)| !environment::is_excepted(&host, except));
        Target { proxy: proxy.map(|(proxy, _)| proxy.clone()), names: self.names.clone(), ..target }
    }
}

impl<'c> Maker<'c> {
    fn new(given: &'c config::Upstream, net: &'c config::Net) -> anyhow::Result<Self> {
        let encrypted =
            given.places.iter().flat_map(|place| &place.ways).any(|way| way.transport.is_encrypted());
        let encrypted = encrypted || given.concierge.is_some();
        let tls = encrypted.then(|| tls(given)).transpose()?;
        Ok(Self { given, tls, network: Network::of(net)? })
    }

    fn target(&self, way: &UpstreamAddress) -> anyhow::Result<Target> {
        let settings = Settings {
            address: "upstream.url".into(),
            tls: "upstream.url = \"mqtts://…\"".into(),
            allow_plain: "upstream.allow_plain".into(),
        };
        let host = HostName::new(&way.host).with_context(|| format!("upstream.url names {way}"))?;
        let plain = if self.given.allow_plain { PlainTcp::Allowed } else { PlainTcp::LoopbackOnly };
        Ok(self.network.lead(Target { plain, ..Target::new(host, way.port, self.way(way)?, settings) }))
    }

    fn way(&self, way: &UpstreamAddress) -> anyhow::Result<Way> {
        let tls = || self.tls.as_ref().context("TLS was not set up");
        let path = || way.path.as_str().into();
        Ok(match way.transport {
            config::Transport::Tcp => Way::Tcp,
            config::Transport::Tls => Way::Tls(tls()?.0.clone()),
            config::Transport::WebSocket => Way::WebSocket(path()),
            config::Transport::WebSocketTls => Way::WebSocketTls(tls()?.0.clone(), path()),
            config::Transport::Quic => Way::Quic(tls()?.1.clone()),
        })
    }
}

fn tls(given: &config::Upstream) -> anyhow::Result<(ClientTls, QuicTls)> {
    let roots = match &given.ca_file {
        Some(file) => Roots::File(file.clone()),
        None => Roots::Native,
    };
    let identity = given.identity.as_ref().map(|identity| Identity {
        certificates: identity.cert_file.clone(),
        key: identity.key_file.clone(),
    });
    let config = ClientTlsConfig { roots, identity, ..ClientTlsConfig::default() };
    Ok((ClientTls::build(&config)?, QuicTls::build(&config)?))
}

fn proxy(given: &config::Proxy) -> anyhow::Result<Proxy> {
    let password = match parts::password(given.password.as_ref())? {
        Some(secret) => {
            String::from_utf8(secret.0.into()).context("the password of the proxy is not UTF-8")?
        }
        None => String::new(),
    };
    Ok(Proxy {
        host: HostName::new(&given.host).context("the host of the proxy")?,
        port: given.port,
        credentials: given.user.clone().map(|user| (user, password)),
        setting: "net.proxy.url".into(),
    })
}
