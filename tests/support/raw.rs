//! A client that hides nothing: what exactly came back, and how it ended.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer as it came.
#[derive(Debug)]
pub struct Raw {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Why the body is shorter than promised, if it is.
    pub broken: Option<io::ErrorKind>,
}

impl Raw {
    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(have, _)| have == name).map_or("", |(_, value)| value.as_str())
    }
}

/// `GET /path` with `range` (`0-99`, or nothing) and more header lines, on a connection of its own.
pub fn get(address: SocketAddr, path: &str, range: &str, more: &str) -> io::Result<Raw> {
    get_over(TcpStream::connect(address)?, path, range, more)
}

/// The same over a stream that is there already. A silence of two seconds counts as broken by `TimedOut`.
pub fn get_over(stream: TcpStream, path: &str, range: &str, more: &str) -> io::Result<Raw> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    exchange(stream, path, range, more)
}

/// Over any stream.
pub fn exchange(mut stream: impl Read + Write, path: &str, range: &str, more: &str) -> io::Result<Raw> {
    let range = if range.is_empty() { String::new() } else { format!("Range: bytes={range}\r\n") };
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{range}{more}\r\n").as_bytes())?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status line");
    let mut headers = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
            None => break,
        }
    }
    let mut raw = Raw { status, headers, body: Vec::new(), broken: None };
    if raw.header("transfer-encoding") == "chunked" {
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            read_body(&mut stream, length, &mut raw);
            stream.read_line(&mut line)?;
            if length == 0 || raw.broken.is_some() {
                return Ok(raw);
            }
        }
    }
    let length = raw.header("content-length").parse().expect("an answer without chunks has a length");
    read_body(&mut stream, length, &mut raw);
    Ok(raw)
}

/// `length` more bytes of the body, or as many as come.
fn read_body(stream: &mut impl Read, length: usize, raw: &mut Raw) {
    let promised = raw.body.len() + length;
    let mut buffer = [0; 16 * 1024];
    while raw.body.len() < promised && raw.broken.is_none() {
        let room = buffer.len().min(promised - raw.body.len());
        match stream.read(&mut buffer[..room]) {
            Ok(0) => raw.broken = Some(io::ErrorKind::UnexpectedEof),
            Ok(count) => raw.body.extend(&buffer[..count]),
            // A timeout is WouldBlock on Linux; it is called what it is.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => raw.broken = Some(io::ErrorKind::TimedOut),
            Err(error) => raw.broken = Some(error.kind()),
        }
    }
}
