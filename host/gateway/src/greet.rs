//! The first packet: who is it, and on what terms?

use crate::{
    above::EdgeLink,
    connection::Terms,
    cuts::Thread,
    episodes::warn_once_of,
    hub::{self, Caller},
    plain::Plain,
    prove::{Refused, Who, prove},
    shared::Shared,
    stats::Stats,
    translate,
    wills::UserWill,
};
use bytes::BytesMut;
use holdfast_auth::{Action, Proved};
use holdfast_mqtt::{Codec, ConnAck, Connect, Packet, ReasonCode, Version, server::Rules};
use holdfast_types::{Name, Topic};
use rustls_pki_types::CertificateDer;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// Bytes asked for at once before the client is known.
const FIRST_READ_BYTES: usize = 512;

/// The first byte of CONNECT, and what a body of version 5 begins with.
const CONNECT: u8 = 0x10;
const V5_NAMED: &[u8] = b"\x00\x04MQTT\x05";

/// What of a CONNECT shows its version: a fixed header of five bytes at most, and the name.
const ANNOUNCED_BYTES: usize = 5 + V5_NAMED.len();

/// Longest time for these bytes. They stand in the first segment of whoever means it.
const ANNOUNCED_TIME_MAX: Duration = Duration::from_millis(200);

/// A client that has proved who it is.
pub(crate) struct Greeted {
    pub(crate) user: Name,
    /// What ties its connection to the registry, if it is a device or a module.
    pub(crate) thread: Option<Thread>,
    /// Who it is, if it speaks the dialect of IoT Hub.
    pub(crate) hub: Option<Caller>,
    /// The upper end, if it is the link of an edge.
    pub(crate) link: Option<EdgeLink>,
    pub(crate) client_id: String,
    /// Whether the client brought no identifier and has to be told the one it was given.
    pub(crate) assigned: bool,
    pub(crate) clean_start: bool,
    pub(crate) terms: Terms,
    pub(crate) will: Option<UserWill>,
    pub(crate) codec: Codec,
    /// Bytes that came behind CONNECT.
    pub(crate) rest: BytesMut,
}

/// A client is not let in.
pub(crate) enum NotLetIn {
    /// It was told why, and is given a little time to read that.
    Told,
    /// It is gone, or there is nothing to say to it.
    InSilence,
}

/// Reads CONNECT and decides.
pub(crate) async fn greet(
    shared: &Arc<Shared>,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    certificates: &[CertificateDer<'_>],
    peer: SocketAddr,
) -> Result<Greeted, NotLetIn> {
    let mut codec = Codec::server(shared.limits.connect_bytes_max);
    let mut buffer = BytesMut::with_capacity(FIRST_READ_BYTES);
    let connect = loop {
        // Of a packet that is refused nothing is left.
        let head = BytesMut::from(buffer.get(..ANNOUNCED_BYTES).unwrap_or(&buffer));
        match codec.decode(&mut buffer) {
            Ok(Some(Packet::Connect(connect))) => break connect,
            // The codec of a server gives nothing before CONNECT.
            Ok(Some(_)) => return Err(NotLetIn::InSilence),
            Ok(None) => {}
            Err(error) => {
                Stats::one(&shared.stats.protocol_errors);
                if error.reason == ReasonCode::PacketTooLarge {
                    Stats::one(&shared.stats.packets_over_limit);
                }
                let (kind, cause) = (format!("greet {}", peer.ip()), error.to_string());
                warn_once_of!(shared.episodes, &kind, &cause, %peer, error = %Plain(&error), "a client is refused");
                let version = announced(stream, head).await;
                let any = version == Version::V5;
                return Err(refuse(stream, &Codec::client(version, 0), error.reason, any).await);
            }
        }
        buffer.reserve(FIRST_READ_BYTES);
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return Err(NotLetIn::InSilence),
            Ok(_) => {}
        }
    };
    match decide(shared, *connect, certificates, peer).await {
        Ok(mut greeted) => {
            greeted.codec.max_packet_bytes = shared.limits.packet_bytes_max;
            greeted.rest = buffer;
            Ok(greeted)
        }
        Err(Refused { reason, why, known }) => {
            Stats::one(&shared.stats.connects_refused);
            let known = known.map(|known| known.to_string()).unwrap_or_default();
            let kind = format!("greet {} {known}", peer.ip());
            warn_once_of!(shared.episodes, &kind, &why, %peer, why = %Plain(&why), %reason, "a client is refused");
            Err(refuse(stream, &codec, reason, true).await)
        }
    }
}

/// The version that a CONNECT which was refused as a whole begins with, so that its sender can be told why: its first bytes
/// say it, and they come a moment later at most. 3.1.1 if they do not.
async fn announced(stream: &mut (impl AsyncRead + Unpin), mut head: BytesMut) -> Version {
    let more = async {
        while head.len() < ANNOUNCED_BYTES && matches!(stream.read_buf(&mut head).await, Ok(1..)) {}
    };
    // Who does not say it does not get to know.
    let _ = timeout(ANNOUNCED_TIME_MAX, more).await;
    let is_length = |byte: &&u8| **byte & 0x80 != 0;
    let body = head.iter().skip(1).skip_while(is_length).skip(1);
    let is_v5 = body.take(V5_NAMED.len()).eq(V5_NAMED);
    if is_v5 && head.first() == Some(&CONNECT) { Version::V5 } else { Version::V311 }
}

/// Tells the client the reason in CONNACK. A client of version 3.1.1 that broke the protocol is told only what its version has a word for.
async fn refuse(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    codec: &Codec,
    reason: ReasonCode,
    any: bool,
) -> NotLetIn {
    let sayable =
        matches!(reason, ReasonCode::UnsupportedProtocolVersion | ReasonCode::ClientIdentifierNotValid);
    if any || sayable { tell(stream, codec, reason).await } else { NotLetIn::InSilence }
}

/// Tells a client in CONNACK why it is not let in.
pub(crate) async fn tell(
    stream: &mut (impl AsyncWrite + Unpin),
    codec: &Codec,
    reason: ReasonCode,
) -> NotLetIn {
    let mut bytes = BytesMut::new();
    if codec.encode(&Packet::ConnAck(Box::new(ConnAck::new(reason))), &mut bytes).is_err() {
        return NotLetIn::InSilence;
    }
    // A client that is gone cannot be told.
    let _ = stream.write_all(&bytes).await;
    // What an encrypted stream holds leaves with its end.
    let _ = stream.shutdown().await;
    NotLetIn::Told
}

async fn decide(
    shared: &Arc<Shared>,
    connect: Connect,
    certificates: &[CertificateDer<'_>],
    peer: SocketAddr,
) -> Result<Greeted, Refused> {
    let refused = |reason, why| Refused { reason, why, known: None };
    if let Some(method) = &connect.authentication_method {
        let why = format!("authentication method {method:?} is not known");
        return Err(refused(ReasonCode::BadAuthenticationMethod, why));
    }
    let Who { name: user, proved, hub, link } = prove(shared, &connect, certificates, peer).await?;
    let hub = match (&proved, hub) {
        (Some(proved), Some(_)) if !link => {
            Some(caller(shared, proved, &connect).map_err(|why| refused(ReasonCode::NotAuthorized, why))?)
        }
        _ => None,
    };
    let link = match &shared.links {
        Some(links) if link => {
            // It has tasks.
            let _home = shared.home.enter();
            Some(links.link(&user).map_err(|why| refused(ReasonCode::NotAuthorized, why))?)
        }
        _ => None,
    };
    let thread = match proved {
        Some(proved) => {
            let entered = shared.cuts.enter(proved, &shared.registry);
            Some(entered.map_err(|cut| refused(ReasonCode::NotAuthorized, format!("{user}: {cut}")))?)
        }
        None => None,
    };
    let will = match &connect.will {
        // A link has none.
        Some(_) if link.is_some() => None,
        // The dialect has looked at it.
        Some(will) if hub.is_some() => {
            Some(UserWill { user: user.clone(), will: will.clone(), origin: None, kept: None })
        }
        Some(will) => {
            let topic = Topic::new(&will.topic)
                .map_err(|why| refused(ReasonCode::TopicNameInvalid, why.to_string()))?;
            shared
                .registry
                .may(&user, Action::Publish(&topic))
                .map_err(|why| refused(ReasonCode::NotAuthorized, format!("its will is refused: {why}")))?;
            if !translate::is_what_it_says(&will.payload, Some(&will.properties)) {
                let why = "its will says that it is UTF-8 text and is not".to_owned();
                return Err(refused(ReasonCode::PayloadFormatInvalid, why));
            }
            Some(UserWill { user: user.clone(), will: will.clone(), origin: None, kept: None })
        }
        None => None,
    };
    let assigned = connect.client_id.is_empty();
    let client_id = if assigned { shared.assign_client_id() } else { connect.client_id.to_string() };
    let mut terms = terms(shared, &connect);
    if hub.is_some() {
        terms.rules.keep_alive_s = hub::keep_alive_s(terms.rules.keep_alive_s);
    }
    let greeted = Greeted {
        user,
        thread,
        hub,
        link,
        client_id,
        assigned,
        clean_start: connect.clean_start,
        terms,
        will,
        codec: codec(&connect),
        rest: BytesMut::new(),
    };
    tracing::debug!(
        %peer, user = %greeted.user, client_id = %Plain(&greeted.client_id), version = %connect.version,
        dialect = greeted.hub.is_some(), "a client has connected"
    );
    Ok(greeted)
}

/// Who speaks the dialect, and whether it may now. A will has to be telemetry of its own.
fn caller(shared: &Shared, proved: &Proved, connect: &Connect) -> Result<Caller, String> {
    shared.hub.may_be(&shared.broker, &proved.identity)?;
    let caller = Caller::new(proved);
    match connect.will.as_ref().filter(|will| !caller.may_will(&will.topic)) {
        Some(will) => Err(format!("its will on {:?} is not telemetry of {}", &*will.topic, proved.identity)),
        None => Ok(caller),
    }
}

fn codec(connect: &Connect) -> Codec {
    let mut codec = Codec::client(connect.version, 0);
    if let Some(bytes) = connect.maximum_packet_bytes {
        codec.peer_max_packet_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    }
    codec
}

fn terms(shared: &Shared, connect: &Connect) -> Terms {
    let limits = &shared.limits;
    let expiry_max_s = u32::try_from(limits.session_expiry_max.as_secs()).unwrap_or(u32::MAX);
    let asked_s = match connect.version {
        Version::V311 if connect.clean_start => 0,
        Version::V311 => u32::MAX,
        Version::V5 => connect.session_expiry_s,
    };
    let window = connect.receive_maximum.map_or(u16::MAX, Into::into).min(limits.window_max);
    // Version 3.1.1 has no word for it: its clients keep what they asked for.
    let server_keep_alive_s = limits.keep_alive_max_s.filter(|max| {
        connect.version == Version::V5 && (connect.keep_alive_s == 0 || connect.keep_alive_s > *max)
    });
    Terms {
        rules: Rules {
            version: connect.version,
            keep_alive_s: server_keep_alive_s.unwrap_or(connect.keep_alive_s),
            window,
            unacked_max: limits.unacked_max,
            topic_alias_maximum: limits.topic_aliases_max,
            client_aliases: connect.topic_alias_maximum.min(limits.client_aliases_max),
        },
        problem_information: connect.request_problem_information,
        server_keep_alive_s,
        session_expiry_s: asked_s.min(expiry_max_s),
        expiry_shortened: asked_s > expiry_max_s,
    }
}
