//! A receiver of spans: takes what is posted, keeps it, and answers as a collector does.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A running one; dropping it closes its port.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Head and body of each request.
    requests: Mutex<Vec<(String, String)>>,
    connections: AtomicUsize,
    answers: bool,
    ended: AtomicBool,
}

impl Receiver {
    /// One on a free port.
    pub fn start() -> Receiver {
        Receiver::listen("127.0.0.1:0".parse().expect("an address"), true)
    }

    /// One where another was.
    pub fn start_at(address: SocketAddr) -> Receiver {
        Receiver::listen(address, true)
    }

    /// One that takes requests and never answers.
    pub fn silent() -> Receiver {
        Receiver::listen("127.0.0.1:0".parse().expect("an address"), false)
    }

    fn listen(address: SocketAddr, answers: bool) -> Receiver {
        let listener = TcpListener::bind(address).expect("the port is free");
        let address = listener.local_addr().expect("it listens");
        let shared = Arc::new(Shared { answers, ..Shared::default() });
        let acceptor = shared.clone();
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if acceptor.ended.load(Ordering::Relaxed) {
                    return;
                }
                acceptor.connections.fetch_add(1, Ordering::Relaxed);
                let shared = acceptor.clone();
                std::thread::spawn(move || stream.map(|stream| shared.serve(stream)));
            }
        });
        Receiver { address, shared, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often somebody connected.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Head and body of all that came.
    pub fn requests(&self) -> Vec<(String, String)> {
        self.shared.requests.lock().expect("nobody panics with it").clone()
    }

    /// All spans that came.
    pub fn spans(&self) -> Vec<Value> {
        let spans = |(_, body): &(String, String)| {
            let body: Value = serde_json::from_str(body).expect("the body is JSON");
            body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("a list of spans").clone()
        };
        self.requests().iter().flat_map(spans).collect()
    }
}

impl Shared {
    /// One request after another, until the connection ends.
    fn serve(&self, stream: TcpStream) {
        let mut from = BufReader::new(stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if !matches!(from.read_line(&mut head), Ok(count) if count > 0) {
                    return;
                }
            }
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.expect("a body has a length")];
            if from.read_exact(&mut body).is_err() {
                return;
            }
            let body = String::from_utf8(body).expect("JSON is text");
            self.requests.lock().expect("nobody panics with it").push((head, body));
            let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 21\r\n\r\n{\"partialSuccess\":{}}";
            if self.answers && from.get_mut().write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // It wakes up by a connection, and sees that it has ended.
        drop(TcpStream::connect(self.address));
        drop(self.acceptor.take().map(std::thread::JoinHandle::join));
    }
}
