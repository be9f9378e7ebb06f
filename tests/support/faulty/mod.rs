//! A real HTTP/1.1 mirror on loopback that can be wrong in every way that a mirror on the internet is.
//!
//! It writes its answers byte by byte with blocking threads, below any HTTP library: a library would
//! refuse to send a wrong Content-Length, half an answer or a reset. What it serves is a [`Tree`];
//! what goes wrong is a list of [`Rule`]s that may be changed while it runs. Without rules it is an
//! honest mirror that looks like nginx.

mod answer;
mod connection;
mod gzip;
mod log;
mod script;
mod tls;
mod tree;

#[cfg(test)]
mod tests;

pub use log::Request;
pub use script::{Fault, Hashed, Rule};
pub use tree::{Content, Tree, generate, percent_encode};

use connection::Connection;
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// A running mirror; dropping it ends it.
pub struct FaultyMirror {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
    certificate_pem: Option<String>,
}

/// What the mirror's threads and its owner both see.
struct Shared {
    state: Mutex<State>,
    /// Signalled at every change of `state` that a waiting thread may care about.
    changed: Condvar,
    tls: Option<Arc<rustls::ServerConfig>>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Life {
    Serving,
    /// Connections are accepted (by the kernel) and stay open; nothing moves on them. As SIGSTOP.
    Frozen,
    /// Connections are accepted and closed at once.
    Closing,
    /// Nobody listens; the port refuses.
    Down,
}

struct State {
    tree: Tree,
    rules: Vec<Rule>,
    log: Vec<Request>,
    life: Life,
    connections: HashMap<u64, TcpStream>,
    connections_made: u64,
    /// Grows when stalls are to end: with the rules, and at the end.
    rules_version: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of the mirror panics with the lock held")
    }

    /// Until `leave` holds or `patience` is over. Poked by every change.
    fn wait_until(&self, patience: Option<Duration>, mut leave: impl FnMut(&State) -> bool) {
        let stay = |state: &mut State| state.life != Life::Down && !leave(state);
        match patience {
            Some(patience) => drop(self.changed.wait_timeout_while(self.state(), patience, stay)),
            None => drop(self.changed.wait_while(self.state(), stay)),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_all();
        result
    }
}

impl FaultyMirror {
    /// An honest mirror of `tree` on a free port of 127.0.0.1.
    pub fn start(tree: Tree) -> FaultyMirror {
        FaultyMirror::start_with(tree, None, None)
    }

    /// The same by TLS, with a self-signed certificate for `localhost` and 127.0.0.1.
    pub fn start_tls(tree: Tree) -> FaultyMirror {
        let (config, pem) = tls::self_signed();
        FaultyMirror::start_with(tree, Some(config), Some(pem))
    }

    fn start_with(tree: Tree, tls: Option<Arc<rustls::ServerConfig>>, certificate_pem: Option<String>) -> FaultyMirror {
        let state = State {
            tree,
            rules: Vec::new(),
            log: Vec::new(),
            life: Life::Serving,
            connections: HashMap::new(),
            connections_made: 0,
            rules_version: 0,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), tls });
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let acceptor = Some(accept_on(listener, shared.clone()));
        FaultyMirror { shared, address, acceptor, certificate_pem }
    }

    /// Its base URL, ending in `/`.
    pub fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of a TLS mirror.
    pub fn certificate_pem(&self) -> &str {
        self.certificate_pem.as_deref().expect("only a TLS mirror has a certificate")
    }

    /// One more rule, in force from the next request on.
    pub fn add(&self, rule: Rule) {
        self.shared.change(|state| state.rules.push(rule));
    }

    /// One more rule: this fault in every answer about a file.
    pub fn always(&self, fault: Fault) {
        self.add(Rule::new(fault));
    }

    /// No rules any more; answers that stall go on.
    pub fn honest(&self) {
        self.shared.change(|state| {
            state.rules.clear();
            state.rules_version += 1;
        });
    }

    /// Nothing moves any more, nothing is closed: as a process under SIGSTOP.
    pub fn freeze(&self) {
        self.shared.change(|state| state.life = Life::Frozen);
    }

    /// Go on after [`FaultyMirror::freeze`] or [`FaultyMirror::close_at_accept`].
    pub fn thaw(&self) {
        self.shared.change(|state| state.life = Life::Serving);
    }

    /// New connections are closed at once; the open ones are reset.
    pub fn close_at_accept(&self) {
        self.shared.change(|state| state.life = Life::Closing);
        self.reset_connections();
    }

    /// Reset every open connection, once.
    pub fn reset_connections(&self) {
        self.shared.change(|state| state.connections.drain().for_each(|(_, socket)| connection::abort(&socket)));
    }

    /// Gone: open connections are reset, new ones refused.
    pub fn down(&mut self) {
        self.shared.change(|state| state.life = Life::Down);
        self.reset_connections();
        if let Some(acceptor) = self.acceptor.take() {
            // The acceptor sits in accept(2); a connection of our own makes it look at its life.
            let _ = TcpStream::connect(self.address);
            acceptor.join().expect("the acceptor does not panic");
        }
    }

    /// Back on the same port.
    pub fn up(&mut self) {
        if self.acceptor.is_none() {
            let listener = TcpListener::bind(self.address).expect("the port is still ours");
            self.shared.change(|state| state.life = Life::Serving);
            self.acceptor = Some(accept_on(listener, self.shared.clone()));
        }
    }

    /// Put or replace a file: newer date, another ETag.
    pub fn put(&self, path: impl AsRef<[u8]>, content: Content) {
        self.shared.change(|state| state.tree.put(path.as_ref(), content));
    }

    /// Put or replace a file of this date (seconds since 1970).
    pub fn put_dated(&self, path: impl AsRef<[u8]>, content: Content, mtime: i64) {
        self.shared.change(|state| state.tree.put_dated(path.as_ref(), content, mtime));
    }

    /// Take a file away: 404 from now on.
    pub fn remove(&self, path: impl AsRef<[u8]>) {
        self.shared.change(|state| state.tree.remove(path.as_ref()));
    }

    /// Every request since the start or the last [`FaultyMirror::forget`].
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().log.clone()
    }

    /// Forget the requests so far.
    pub fn forget(&self) {
        self.shared.change(|state| state.log.clear());
    }

    /// Requests of files' bytes, index pages left out.
    pub fn data_requests(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| !request.is_index()).collect()
    }

    /// Body bytes of files sent, index pages and redirects left out.
    pub fn data_bytes(&self) -> u64 {
        self.data_requests().iter().filter(|request| matches!(request.status, 200 | 206)).map(|r| r.body_bytes).sum()
    }

    /// Body bytes of one file sent.
    pub fn data_bytes_of(&self, path: impl AsRef<[u8]>) -> u64 {
        let of_it = |request: &&Request| request.path == path.as_ref() && matches!(request.status, 200 | 206);
        self.requests().iter().filter(of_it).map(|request| request.body_bytes).sum()
    }

    /// Connections accepted since the start.
    pub fn connections_made(&self) -> u64 {
        self.shared.state().connections_made
    }
}

impl Drop for FaultyMirror {
    fn drop(&mut self) {
        self.down();
    }
}

fn accept_on(listener: TcpListener, shared: Arc<Shared>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            shared.wait_until(None, |state| state.life != Life::Frozen);
            let life = shared.state().life;
            match life {
                Life::Down => return,
                Life::Closing => connection::abort(&socket),
                Life::Serving | Life::Frozen => {
                    let Ok(connection) = Connection::open(socket, shared.clone()) else { continue };
                    // Ends by itself once its socket is shut down, at the latest with the mirror.
                    std::thread::spawn(move || connection.serve());
                }
            }
        }
    })
}

/// An address that takes no connection and refuses none: its queue is full, so that a SYN gets no answer.
pub struct BlackHole {
    listener: TcpListener,
    _fill: Vec<TcpStream>,
}

impl BlackHole {
    /// On a free port of 127.0.0.1.
    pub fn open() -> BlackHole {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        rustix::net::listen(&listener, 0).expect("a listener may be told to queue nobody");
        let address = listener.local_addr().expect("a bound listener has an address");
        let mut fill = Vec::new();
        while let Ok(socket) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            fill.push(socket);
        }
        BlackHole { listener, _fill: fill }
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}/", self.listener.local_addr().expect("a bound listener has an address"))
    }
}
