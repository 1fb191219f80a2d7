//! Connects to a port of this machine over TCP, and prints what it reads there.

use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

fn main() -> Result<(), ErrorCode> {
    let port = std::env::args().nth(1).and_then(|text| text.parse().ok()).expect("a port");
    let address = IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (127, 0, 0, 1) });
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_connect(&instance_network(), address)?;
    let (input, output) = loop {
        match socket.finish_connect() {
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            ended => break ended?,
        }
    };
    output.blocking_write_and_flush(b"ping").expect("it is sent");
    let mut text = Vec::new();
    while let Ok(bytes) = input.blocking_read(1_000) {
        text.extend(bytes);
    }
    print!("{}", String::from_utf8_lossy(&text));
    Ok(())
}
