//! The network for tests: connections on this machine, a door that listens, and a client.

use holdfast_engine::{Connection, HttpDoor, Later, NotConnected, Outgoing};
use std::net::{SocketAddr, ToSocketAddrs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Opens plain connections; the name "here.test" is this machine.
#[derive(Debug)]
pub struct Here;

fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, NotConnected> {
    let host = if host == "here.test" { "127.0.0.1" } else { host };
    let found = (host, port).to_socket_addrs().map_err(|error| NotConnected::Unknown(error.to_string()))?;
    Ok(found.collect())
}

impl Outgoing for Here {
    fn connect(&self, host: &str, port: u16, tls: bool) -> Later<Result<Box<dyn Connection>, NotConnected>> {
        let found = addresses(host, port);
        Box::pin(async move {
            assert!(!tls, "the tests have no TLS here");
            let stream = TcpStream::connect(found?[0]).await;
            let stream = stream.map_err(|error| NotConnected::Unreachable(error.to_string()))?;
            Ok(Box::new(stream) as Box<dyn Connection>)
        })
    }

    fn resolve(&self, host: &str, port: u16) -> Later<Result<Vec<SocketAddr>, NotConnected>> {
        let found = addresses(host, port);
        Box::pin(async move { found })
    }
}

/// Brings connections to the door.
pub async fn listen(door: HttpDoor) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let door = door.clone();
            tokio::spawn(async move { door.connection(Box::new(stream)).await });
        }
    });
    address
}

/// Makes one request. Gives the status and everything behind the heads.
pub async fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
