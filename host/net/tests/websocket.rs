//! A WebSocket as a stream of bytes: what a browser's library says to it, and what hostile clients do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests are free"
)]

use holdfast_net::{Door, HandshakeFault, ListenConfig, Listener, PlainTcp, Settings, Stream, Transport};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tungstenite::{
    Error, Message, WebSocket,
    client::IntoClientRequest,
    protocol::frame::{
        Frame,
        coding::{CloseCode, Data, OpCode},
    },
};

const SOON: Duration = Duration::from_secs(10);

async fn listen() -> Listener {
    Listener::bind(ListenConfig {
        address: "127.0.0.1:0".parse().unwrap(),
        door: Door::WebSocket,
        plain: PlainTcp::LoopbackOnly,
        settings: Settings::of_section("gateway"),
    })
    .await
    .unwrap()
}

/// A client in a thread of its own, as it blocks; and what it gives.
fn client<T: Send + 'static>(
    address: SocketAddr,
    talk: impl FnOnce(&mut WebSocket<TcpStream>) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    thread::spawn(move || {
        let stream = TcpStream::connect(address).unwrap();
        let mut request = format!("ws://{address}/mqtt").into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", "mqtt".parse().unwrap());
        let (mut socket, answer) = tungstenite::client(request, stream).unwrap();
        assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], "mqtt");
        talk(&mut socket)
    })
}

async fn accept(listener: &Listener) -> Result<Stream, HandshakeFault> {
    listener.accept().await.unwrap().handshake(SOON).await
}

#[tokio::test]
async fn the_borders_of_frames_mean_nothing_and_pings_are_answered() {
    let listener = listen().await;
    let talking = client(listener.local(), |socket| {
        for part in [&b"on"[..], b"", b"e t", b"wo"] {
            socket.send(Message::Binary(part.to_vec().into())).unwrap();
        }
        // One message in three frames, with a ping between them.
        let part =
            |text: &'static str, code, last| Message::Frame(Frame::message(text, OpCode::Data(code), last));
        socket.send(part(" th", Data::Binary, false)).unwrap();
        socket.send(Message::Ping("still there?".into())).unwrap();
        socket.send(part("re", Data::Continue, false)).unwrap();
        socket.send(part("e", Data::Continue, true)).unwrap();
        let (mut heard, mut pongs) = (Vec::new(), 0);
        loop {
            match socket.read() {
                Ok(Message::Binary(bytes)) => heard.extend_from_slice(&bytes),
                Ok(Message::Pong(text)) => {
                    assert_eq!(&text[..], b"still there?");
                    pongs += 1;
                }
                Ok(Message::Close(_)) => {}
                Ok(other) => panic!("{other:?}"),
                Err(Error::ConnectionClosed) => return (heard, pongs),
                Err(error) => panic!("{error}"),
            }
        }
    });
    let mut inside = accept(&listener).await.unwrap();
    assert_eq!(inside.transport(), Transport::WebSocket);
    let mut text = [0; 13];
    inside.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"one two three");
    let large: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    inside.write_all(&large).await.unwrap();
    inside.shutdown().await.unwrap();
    assert_eq!(inside.read(&mut text).await.unwrap(), 0, "the client closes in turn");
    let (heard, pongs) = talking.join().unwrap();
    assert!(heard == large && pongs == 1);
}

#[tokio::test]
async fn a_frame_over_the_bound_ends_the_connection_before_it_is_sent() {
    let listener = listen().await;
    for (raised, announced) in [(false, 64 << 10), (true, 1 << 20)] {
        let talking = client(listener.local(), move |socket| {
            let mut fits = vec![0_u8; announced];
            socket.send(Message::Binary(std::mem::take(&mut fits).into())).unwrap();
            // The head of a frame that is one byte longer, and none of its bytes.
            let raw = socket.get_mut();
            raw.write_all(&[0x82, 0xff]).unwrap();
            raw.write_all(&(announced as u64 + 1).to_be_bytes()).unwrap();
            raw.write_all(&[0; 4]).unwrap();
            loop {
                if let Message::Close(frame) = socket.read().unwrap() {
                    return frame.unwrap().code;
                }
            }
        });
        let mut inside = accept(&listener).await.unwrap();
        if raised {
            inside.set_frame_bytes_max(1 << 20);
        }
        let mut bytes = vec![0; announced];
        inside.read_exact(&mut bytes).await.unwrap();
        let error = inside.read(&mut bytes).await.unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
        drop(inside);
        assert_eq!(talking.join().unwrap(), CloseCode::Size);
    }
}

#[tokio::test]
async fn text_frames_and_ends_in_the_middle_of_a_frame_are_noticed() {
    let listener = listen().await;
    let talking = client(listener.local(), |socket| {
        socket.send(Message::Text("hello".into())).unwrap();
        let Message::Close(frame) = socket.read().unwrap() else { panic!("no close") };
        frame.unwrap().code
    });
    let mut inside = accept(&listener).await.unwrap();
    let error = inside.read_u8().await.unwrap_err();
    assert!(error.to_string().contains("MQTT goes in binary frames"), "{error}");
    drop(inside);
    assert_eq!(talking.join().unwrap(), CloseCode::Unsupported);

    let talking = client(listener.local(), |socket| {
        // Ten bytes are announced, three come.
        socket.get_mut().write_all(&[0x82, 0x8a, 0, 0, 0, 0, 1, 2, 3]).unwrap();
    });
    let mut inside = accept(&listener).await.unwrap();
    assert_eq!(inside.read(&mut [0; 16]).await.unwrap(), 0, "half a frame is no bytes");
    talking.join().unwrap();
}

#[tokio::test]
async fn who_does_not_ask_for_a_websocket_is_told_and_who_is_slow_is_let_go() {
    let listener = listen().await;
    let address = listener.local();
    let ask = move |text: Vec<u8>| {
        thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(&text).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        })
    };
    for (text, status) in [
        (b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n".to_vec(), "HTTP/1.1 404 Not Found"),
        (b"\x16\x03\x01\r\n\r\n".to_vec(), "HTTP/1.1 400 Bad Request"),
        ([b"GET /mqtt HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 8200]].concat(), "HTTP/1.1 431"),
    ] {
        let asking = ask(text);
        let fault = accept(&listener).await.unwrap_err();
        assert!(matches!(fault, HandshakeFault::NotWebSocket(_)), "{fault}");
        assert!(asking.join().unwrap().unwrap().starts_with(status));
    }
    let silent = TcpStream::connect(address).unwrap();
    let within = Duration::from_millis(50);
    let fault = listener.accept().await.unwrap().handshake(within).await.unwrap_err();
    assert_eq!(fault, HandshakeFault::TimedOut(within));
    drop(silent);
}
