//! One connection: read requests, write answers at the pace and to the end that the script says.

use super::answer::{Answer, Body};
use super::log::Request;
use super::script::{End, Fault, Plan};
use super::{Life, Shared};
use braidfs::clock;
use percent_encoding::percent_decode;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Bytes written at a time: small enough that shapes and freezes act soon, large enough for full speed.
const WRITE_BYTES: u64 = 64 * 1024;
/// A shaped answer is written in steps of this length of time.
const SHAPE_STEP: Duration = Duration::from_millis(20);

/// Close so that the other side gets a reset: at once where nothing holds the socket, else when the last holder drops it.
pub fn abort(socket: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
    let _ = socket.shutdown(Shutdown::Both);
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// What becomes of the connection after an answer.
enum After {
    Keep,
    Close,
    Reset,
}

/// An accepted connection.
pub struct Connection {
    stream: BufReader<Box<dyn Stream>>,
    socket: TcpStream,
    shared: Arc<Shared>,
    number: u64,
}

impl Connection {
    /// Take it into the mirror's list.
    pub fn open(socket: TcpStream, shared: Arc<Shared>) -> io::Result<Connection> {
        socket.set_nodelay(true)?;
        let (listed, raw) = (socket.try_clone()?, socket.try_clone()?);
        let number = shared.change(|state| {
            state.connections_made += 1;
            state.connections.insert(state.connections_made, listed);
            state.connections_made
        });
        let stream: Box<dyn Stream> = match &shared.tls {
            Some(config) => {
                let session = rustls::ServerConnection::new(config.clone()).map_err(io::Error::other)?;
                Box::new(rustls::StreamOwned::new(session, raw))
            }
            None => Box::new(raw),
        };
        Ok(Connection { stream: BufReader::new(stream), socket, shared, number })
    }

    /// Until either side has had enough.
    pub fn serve(mut self) {
        let after = loop {
            match self.exchange() {
                Ok(After::Keep) => {}
                Ok(other) => break other,
                Err(_) => break After::Close,
            }
        };
        self.shared.change(|state| state.connections.remove(&self.number));
        match after {
            // No shutdown first: the other side is to see a reset, not an end. What it has not taken is lost.
            After::Reset => drop(rustix::net::sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO))),
            _ => drop(self.socket.shutdown(Shutdown::Write)),
        }
    }

    fn exchange(&mut self) -> io::Result<After> {
        let Some(request) = self.read_request()? else { return Ok(After::Close) };
        self.gate()?;
        let (answer, plan, number) = {
            let mut state = self.shared.state();
            let number = state.log.last().map_or(0, |last| last.number + 1);
            let request = Request { number, ..request };
            let plan = Plan::of(&state.rules, &request);
            let answer = Answer::to(&request, &state.tree, &plan);
            state.log.push(Request { status: 0, ..request });
            (answer, plan, number)
        };
        if !plan.delay.is_zero() {
            let version = self.shared.state().rules_version;
            self.shared.wait_until(Some(plan.delay), |state| state.rules_version != version);
        }
        for lie in &plan.lies {
            match lie {
                Fault::Silent => self.stall(),
                Fault::Hangup => return Ok(After::Close),
                _ => {}
            }
        }
        self.gate()?;
        self.note(number, |request| request.status = answer.status);
        self.stream.get_mut().write_all(answer.head().as_bytes())?;
        let ended = self.write_body(number, &answer.body, &plan)?;
        self.stream.get_mut().flush()?;
        Ok(match ended {
            Some(End::Reset) => After::Reset,
            Some(_) => After::Close,
            None if answer.closes => After::Close,
            None => After::Keep,
        })
    }

    /// Nothing moves while the mirror is frozen; an error once it is down.
    fn gate(&self) -> io::Result<()> {
        self.shared.wait_until(None, |state| state.life != Life::Frozen);
        match self.shared.state().life {
            Life::Down => Err(io::ErrorKind::ConnectionAborted.into()),
            _ => Ok(()),
        }
    }

    /// Until the rules are lifted.
    fn stall(&self) {
        let version = self.shared.state().rules_version;
        self.shared.wait_until(None, |state| state.rules_version != version);
    }

    fn note(&self, number: u64, note: impl FnOnce(&mut Request)) {
        let mut state = self.shared.state();
        // From the back: the request is among the last ones, unless the log was emptied meanwhile.
        if let Some(request) = state.log.iter_mut().rev().find(|request| request.number == number) {
            note(request);
        }
    }

    fn write_body(&mut self, number: u64, body: &Body, plan: &Plan) -> io::Result<Option<End>> {
        let mut sent = 0;
        let mut buffer = Vec::new();
        loop {
            let stop = plan.end.filter(|(at, _)| *at <= sent);
            match stop {
                // A stall that is lifted goes on to the end.
                Some((at, End::Stall)) if at == sent => self.stall(),
                Some((_, End::Stall)) | None => {}
                Some((_, end)) => {
                    self.stream.get_mut().flush()?;
                    return Ok(Some(end));
                }
            }
            let left = body.len() - sent;
            if left == 0 {
                return Ok(None);
            }
            let mut step = left.min(WRITE_BYTES);
            if let Some((at, _)) = plan.end.filter(|(at, _)| *at > sent) {
                step = step.min(at - sent);
            }
            if let Some((bytes_per_second, _)) = &plan.shape {
                let in_a_step = (*bytes_per_second as f64 * SHAPE_STEP.as_secs_f64()) as u64;
                step = step.min(in_a_step.max(1));
                self.keep_pace(step, plan);
            }
            self.gate()?;
            buffer.resize(step as usize, 0);
            body.read(sent, &mut buffer)?;
            self.stream.get_mut().write_all(&buffer)?;
            sent += step;
            self.note(number, |request| request.body_bytes = sent);
        }
    }

    /// Wait for this many bytes' turn.
    fn keep_pace(&self, bytes: u64, plan: &Plan) {
        let Some((bytes_per_second, pace)) = &plan.shape else { return };
        let now = clock::now();
        let mine = {
            let mut next = pace.lock().expect("nothing panics with the pace held");
            let mine = (*next).max(now);
            *next = mine + Duration::from_secs_f64(bytes as f64 / *bytes_per_second as f64);
            *next
        };
        self.shared.wait_until(Some(mine.since(now)), |_| false);
    }

    fn read_request(&mut self) -> io::Result<Option<Request>> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = percent_decode(path.trim_start_matches('/').as_bytes()).collect();
        let (method, query) = (method.to_owned(), query.to_owned());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            match line.trim_end().split_once(':') {
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
                None => break,
            }
        }
        Ok(Some(Request { number: 0, method, path, query, headers, status: 0, body_bytes: 0 }))
    }
}
