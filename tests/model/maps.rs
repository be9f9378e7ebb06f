//! Readers by mmap: a child process, since a page that cannot be brought is SIGBUS.

use crate::support::state::Registered;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const SCRIPT: &str = r"
import sys, os, mmap, hashlib
maps = {}
for line in sys.stdin:
    word, key, rest = line.rstrip('\n').split(' ', 2)
    try:
        if word == 'open':
            with open(rest, 'rb') as f:
                about = os.fstat(f.fileno())
                maps[key] = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
            print(about.st_size, about.st_mtime_ns // 1000000000, flush=True)
        elif word == 'read':
            start, end = map(int, rest.split())
            print(hashlib.sha256(maps[key][start:end]).hexdigest(), flush=True)
        else:
            maps.pop(key).close()
            print('closed', flush=True)
    except OSError as error:
        print('errno', error.errno, flush=True)
    except ValueError as error:
        print('empty', flush=True)
";

/// A child that holds memory maps. Killed when dropped.
pub struct Maps {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    _registered: Registered,
}

impl Maps {
    pub fn start() -> Maps {
        let mut command = Command::new("python3");
        let child = command.args(["-I", "-S", "-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("tests/run has installed python3");
        let ask = child.stdin.take().expect("it was asked for");
        let answers = BufReader::new(child.stdout.take().expect("it was asked for"));
        Maps { _registered: Registered::process(child.id()), child, ask, answers }
    }

    /// Map a file: its size and date, or an errno; nothing for an empty one.
    pub fn open(&mut self, key: u64, path: &Path) -> Option<Result<(u64, i64), i32>> {
        let path = path.to_str().expect("test folders have plain names");
        let answer = self.put(&format!("open {key} {path}"))?;
        let words: Vec<&str> = answer.split(' ').collect();
        match words[..] {
            ["errno", errno] => Some(Err(errno.parse().expect("a number"))),
            [size, date] => Some(Ok((size.parse().expect("a size"), date.parse().expect("a date")))),
            _ => None,
        }
    }

    /// The SHA-256 of some bytes; nothing where a page could not be brought, which ends the child.
    pub fn read(&mut self, key: u64, start: u64, end: u64) -> Option<String> {
        self.put(&format!("read {key} {start} {end}"))
    }

    /// Unmap a file.
    pub fn close(&mut self, key: u64) {
        self.put(&format!("close {key} now"));
    }

    fn put(&mut self, question: &str) -> Option<String> {
        let mut answer = String::new();
        writeln!(self.ask, "{question}").ok()?;
        let read = self.answers.read_line(&mut answer).ok()?;
        (read > 0).then(|| answer.trim_end().to_owned())
    }
}

impl Drop for Maps {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
