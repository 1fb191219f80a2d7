//! Tells who started the host how it is: systemd, if it did so with `Type=notify` (sd_notify(3)), or Windows, whose service it is.

/// What is told.
#[derive(Clone, Copy, Debug)]
pub enum Moment {
    /// Everything is spawned and the doors are open.
    Ready,
    /// The stop has begun.
    Stopping,
}

/// Tells it. Where nobody listens nothing happens; who listens badly is told of in the log, and the host goes on.
pub fn tell(moment: Moment) {
    #[cfg(windows)]
    super::service::tell(moment);
    #[cfg(unix)]
    tell_systemd(moment);
}

#[cfg(unix)]
fn tell_systemd(moment: Moment) {
    let text = match moment {
        Moment::Ready => "READY=1\n",
        Moment::Stopping => "STOPPING=1\n",
    };
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())
        && let Err(error) = send(&socket, text)
    {
        tracing::warn!(?moment, socket = %socket.to_string_lossy(), %error, "systemd was not told");
    }
}

#[cfg(unix)]
fn send(socket: &std::ffi::OsStr, text: &str) -> std::io::Result<()> {
    use std::os::unix::{
        ffi::OsStrExt,
        net::{SocketAddr, UnixDatagram},
    };
    let from = UnixDatagram::unbound()?;
    let to = match socket.as_bytes().strip_prefix(b"@") {
        #[cfg(target_os = "linux")]
        Some(name) => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    from.send_to_addr(text.as_bytes(), &to)?;
    Ok(())
}
