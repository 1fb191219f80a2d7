//! What a failed TLS handshake or a broken stream means, and its fix.

use crate::quic;
use rustls::{AlertDescription, CertificateError};
use std::{io, time::Duration};

/// Why a TLS handshake failed. The message says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeFault {
    /// The peer's certificate is past its end.
    #[error(
        "the certificate of the other side expired {ago}; renew it there, or check the clock of this machine if that \
         seems wrong"
    )]
    Expired {
        /// How long ago, as text.
        ago: String,
    },
    /// The peer's certificate is not valid yet.
    #[error(
        "the certificate of the other side is not valid yet; check the clock of this machine (a device without a \
         battery clock starts in the past), or when the certificate begins"
    )]
    NotValidYet,
    /// No known authority signed the peer's certificate.
    #[error(
        "the certificate of the other side was issued by an authority that is not trusted here; name the file with the \
         certificate of that authority (ca_file), or add it to the certificates of the system"
    )]
    UnknownIssuer,
    /// The certificate is for other names.
    #[error(
        "the certificate of the other side is for {presented}, not for {expected}; dial one of those names, or have \
         the certificate issued for {expected} too"
    )]
    WrongName {
        /// What was dialled.
        expected: String,
        /// What the certificate holds, as text.
        presented: String,
    },
    /// The certificate was withdrawn by its authority.
    #[error("the certificate of the other side was revoked by its authority; have a new one issued")]
    Revoked,
    /// Some other fault of the peer's certificate.
    #[error("the certificate of the other side cannot be used ({0}); have a new one issued")]
    BadCertificate(String),
    /// The peer wants a client certificate and none was given, or it does not accept the one given.
    #[error(
        "the other side refused the certificate of this edge ({0}); give it a client certificate and key that the other \
         side trusts"
    )]
    OurCertificateRefused(String),
    /// No common version or cipher suite.
    #[error(
        "both sides have no TLS version or cipher suite in common ({0}); this side speaks TLS 1.2 and 1.3, so turn one \
         of them on at the other side"
    )]
    NothingInCommon(String),
    /// The peer answered with something else than TLS.
    #[error(
        "the other side does not speak TLS on this port; check the port (MQTT uses 8883 with TLS and 1883 without)"
    )]
    NotTls,
    /// The peer closed the connection in the middle of the handshake.
    #[error(
        "the other side closed the connection during the TLS handshake; it may want a client certificate, or not speak \
         TLS on this port"
    )]
    Closed,
    /// The peer did not ask for a WebSocket that carries MQTT. It was told what there is.
    #[error("the other side did not begin a WebSocket with MQTT: {0}")]
    NotWebSocket(String),
    /// The peer did not take the request for a WebSocket.
    #[error("the other side began no WebSocket: {0}; check the path and the port")]
    WebSocketRefused(String),
    /// QUIC failed, or the peer does not speak MQTT over it.
    #[error("the QUIC handshake failed: {0}; MQTT over QUIC is the protocol \"mqtt\" (ALPN) with TLS 1.3")]
    Quic(String),
    /// The handshake took too long.
    #[error(
        "the handshake did not end within {0:?}; the other side may not speak TLS on this port, or a firewall may \
         hold the bytes back"
    )]
    TimedOut(Duration),
    /// Anything else.
    #[error("the TLS handshake failed: {0}")]
    Other(String),
}

impl HandshakeFault {
    pub(crate) fn of(error: &io::Error) -> Self {
        match tls_error(error) {
            Some(error) => Self::of_tls(error),
            None => match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionAborted => Self::Closed,
                _ => Self::Other(error.to_string()),
            },
        }
    }

    pub(crate) fn of_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(fault) => Self::of_certificate(fault),
            rustls::Error::AlertReceived(alert) => Self::of_alert(*alert),
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            rustls::Error::PeerIncompatible(why) => Self::NothingInCommon(format!("{why:?}")),
            rustls::Error::NoCertificatesPresented => {
                Self::BadCertificate("it presented no certificate".to_owned())
            }
            other => Self::Other(other.to_string()),
        }
    }

    fn of_certificate(fault: &CertificateError) -> Self {
        match fault {
            CertificateError::Expired => Self::Expired { ago: "some time ago".to_owned() },
            CertificateError::ExpiredContext { time, not_after } => {
                let seconds = time.as_secs().saturating_sub(not_after.as_secs());
                Self::Expired { ago: format!("{} ago", roughly(seconds)) }
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotValidYet,
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
            CertificateError::NotValidForName => Self::WrongName {
                expected: "the name dialled".to_owned(),
                presented: "other names".to_owned(),
            },
            CertificateError::NotValidForNameContext { expected, presented } => Self::WrongName {
                expected: expected.to_str().into_owned(),
                presented: if presented.is_empty() { "no name".to_owned() } else { plain_names(presented) },
            },
            CertificateError::Revoked => Self::Revoked,
            other => Self::BadCertificate(other.to_string()),
        }
    }

    pub(crate) fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => Self::OurCertificateRefused(format!("{alert:?}")),
            AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => {
                Self::NothingInCommon(format!("{alert:?}"))
            }
            other => Self::Other(format!("the other side sent the alert {other:?}")),
        }
    }
}

/// What a read or write error on a stream means, in one phrase. TLS 1.3 tells a client only after the handshake that
/// its certificate was refused, so such a refusal surfaces here.
pub fn io_cause(error: &io::Error) -> String {
    if let Some(error) = tls_error(error) {
        return HandshakeFault::of_tls(error).to_string();
    }
    if let Some(cause) = quic::io_cause(error) {
        return cause;
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the other side closed the connection without a word".to_owned(),
        io::ErrorKind::ConnectionReset => "the other side reset the connection".to_owned(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => "the connection is broken".to_owned(),
        io::ErrorKind::TimedOut => "the network carried nothing for too long".to_owned(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "the network has no way to the other side".to_owned()
        }
        _ => error.to_string(),
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// rustls shows names as `DnsName("a")`; people write `a`.
fn plain_names(presented: &[String]) -> String {
    let bare = |name: &String| match name.split_once('(') {
        Some((_, rest)) => rest.trim_end_matches(')').trim_matches('"').to_owned(),
        None => name.clone(),
    };
    presented.iter().map(bare).collect::<Vec<_>>().join(", ")
}

fn roughly(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    if count == 1 { format!("{count} {unit}") } else { format!("{count} {unit}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_span_is_told_in_the_unit_that_people_use() {
        for (seconds, text) in [
            (1, "1 second"),
            (90, "90 seconds"),
            (600, "10 minutes"),
            (7_200, "2 hours"),
            (864_000, "10 days"),
        ] {
            assert_eq!(roughly(seconds), text);
        }
    }

    #[test]
    fn a_refusal_of_our_certificate_that_arrives_after_the_handshake_is_recognised() {
        let error = io::Error::other(rustls::Error::AlertReceived(AlertDescription::CertificateRequired));
        assert!(io_cause(&error).contains("client certificate"), "{}", io_cause(&error));
    }
}
