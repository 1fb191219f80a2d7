//! Asks for a socket, and sends what came of it.

wit_bindgen::generate!({
    inline: "
        package guest:sockets;

        world sockets {
            import wasi:sockets/tcp-create-socket@0.2.0;
        }

        package wasi:sockets@0.2.0 {
            interface network {
                enum error-code {
                    unknown, access-denied, not-supported, invalid-argument, out-of-memory, timeout,
                    concurrency-conflict, not-in-progress, would-block, invalid-state, new-socket-limit,
                    address-not-bindable, address-in-use, remote-unreachable, connection-refused,
                    connection-reset, connection-aborted, datagram-too-large, name-unresolvable,
                    temporary-resolver-failure, permanent-resolver-failure,
                }
                enum ip-address-family { ipv4, ipv6 }
            }
            interface tcp {
                resource tcp-socket;
            }
            interface tcp-create-socket {
                use network.{error-code, ip-address-family};
                use tcp.{tcp-socket};
                create-tcp-socket: func(address-family: ip-address-family) -> result<tcp-socket, error-code>;
            }
        }
    ",
    world: "sockets",
    generate_all,
});

use guest::{Failure, Handler, Message, out};
use wasi::sockets::network::IpAddressFamily;
use wasi::sockets::tcp_create_socket::create_tcp_socket;

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(_input: String, _message: Message) -> Result<(), Failure> {
        out(match create_tcp_socket(IpAddressFamily::Ipv4) {
            Ok(_) => "a socket".to_owned(),
            Err(error) => format!("refused {error:?}"),
        });
        Ok(())
    }

    fn stop() {}
}

guest::module!(Guest);
