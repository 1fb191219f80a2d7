//! A link between the edge and its broker that can be cut.

use super::free_port;
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Forwards TCP from its own port to another.
pub struct Link {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    target: u16,
    cut: AtomicBool,
    ended: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Link {
    /// A whole link to this port of the loopback.
    pub fn to(target: u16) -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let shared = Arc::new(Shared {
            target,
            cut: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            open: Mutex::new(Vec::new()),
        });
        let served = shared.clone();
        thread::spawn(move || served.serve(&listener));
        Self { port, shared }
    }

    /// Where the edge connects.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Breaks every connection, with whatever is under way; new ones are closed at once.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        self.shared.close_all();
    }

    /// New connections go through again.
    pub fn mend(&self) {
        self.shared.cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.close_all();
        // Wakes the listening thread, which then ends.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn serve(self: &Arc<Self>, listener: &TcpListener) {
        for near in listener.incoming() {
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            let Ok(near) = near else { continue };
            let Ok(far) = TcpStream::connect(("127.0.0.1", self.target)) else { continue };
            self.forward(&near, &far);
        }
    }

    fn forward(self: &Arc<Self>, near: &TcpStream, far: &TcpStream) {
        let mut open = self.open.lock().unwrap();
        // Under the lock: a cut that comes now either sees these two or is seen here.
        if self.cut.load(Ordering::SeqCst) {
            return;
        }
        for stream in [near, far] {
            stream.set_nodelay(true).unwrap();
            open.push(stream.try_clone().unwrap());
        }
        for (from, to) in [(near, far), (far, near)] {
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            thread::spawn(move || copy(from, to));
        }
    }

    fn close_all(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            // Closed by the other side already: then it is cut as wished.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
