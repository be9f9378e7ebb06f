//! A slow read as spans: `read`, and below it `memory`, `disk` and each `fetch` that it may have waited for.
//!
//! What they are called is documented in docs/metrics.md, and kept. The part of a wait that lies within the read is shown: what
//! began before says by how much, and what went on when the read was answered ends with it.

use crate::chunk::{PAGE_BYTES, Pages};
use crate::clock::{self, Time};
use crate::control::protocol::PathText;
use crate::fetch::slow::{Bringer, Outcome, SlowRead, Wait};
use crate::fs::errno;
use serde_json::{Value, json};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A read that got its memory within this did not wait for it.
const NO_WAIT: Duration = Duration::from_millis(1);
/// Spans of work within this program, and of requests to others.
const INTERNAL: u8 = 1;
const CLIENT: u8 = 3;
/// The status of a span that failed.
const ERROR: u8 = 2;

/// What to add to a [`Time`] for nanoseconds since 1970.
#[derive(Clone, Copy)]
pub struct Wall(u64);

impl Wall {
    /// By the wall clock as it is now.
    pub fn now() -> Wall {
        Wall(clock::unix_nanos().saturating_sub(clock::now().0))
    }

    fn at(self, time: Time) -> String {
        self.0.saturating_add(time.0).to_string()
    }
}

/// Ids that no other mount has: numbers in order, hashed with keys that the system gave.
#[derive(Default)]
pub struct Ids {
    keys: [RandomState; 2],
    given: u64,
}

impl Ids {
    fn next(&mut self) -> [u64; 2] {
        self.given += 1;
        // None of them may be zero.
        self.keys.each_ref().map(|key| key.hash_one(self.given).max(1))
    }

    fn trace(&mut self) -> String {
        let [high, low] = self.next();
        format!("{high:016x}{low:016x}")
    }

    fn span(&mut self) -> String {
        format!("{:016x}", self.next()[0])
    }
}

/// Who sends spans.
pub fn resource(service: &str, dataset: &str, mountpoint: &Path) -> Value {
    json!({ "attributes": [
        text("service.name", service),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("braidfs.dataset", dataset),
        text("braidfs.mountpoint", &mountpoint.display().to_string()),
        number("process.pid", u64::from(std::process::id())),
    ]})
}

/// What is posted, and how many spans it has.
pub fn request(resource: &Value, reads: &[SlowRead], wall: Wall, ids: &mut Ids) -> (Value, u64) {
    let spans: Vec<Value> = reads.iter().flat_map(|read| of_read(read, wall, ids)).collect();
    let count = spans.len() as u64;
    let scope = json!({ "name": "braidfs", "version": env!("CARGO_PKG_VERSION") });
    let all = json!([{ "resource": resource, "scopeSpans": [{ "scope": scope, "spans": spans }] }]);
    (json!({ "resourceSpans": all }), count)
}

/// Where a child belongs.
struct Parent<'a> {
    read: &'a SlowRead,
    trace: String,
    span: String,
    wall: Wall,
}

fn of_read(read: &SlowRead, wall: Wall, ids: &mut Ids) -> Vec<Value> {
    let parent = Parent { read, trace: ids.trace(), span: ids.span(), wall };
    let errno = read.trouble.map_or(0, |trouble| errno::errno(trouble).code());
    let mut all = vec![json!({
        "traceId": parent.trace,
        "spanId": parent.span,
        "name": "read",
        "kind": INTERNAL,
        "startTimeUnixNano": wall.at(read.began),
        "endTimeUnixNano": wall.at(read.ended),
        "attributes": [
            text("file.path", &PathText(read.path.clone()).encode()),
            // All 64 bits of it are in use, and integers have a sign.
            text("braidfs.inode", &read.inode.0.to_string()),
            number("braidfs.offset", read.bytes.start),
            number("braidfs.length", read.bytes.end - read.bytes.start),
            number("braidfs.memory_bytes", read.memory_bytes),
            number("braidfs.disk_bytes", read.disk_bytes),
            number("braidfs.mirror_bytes", read.mirror_bytes),
            text("braidfs.class", "demand"),
            number("braidfs.errno", errno.unsigned_abs().into()),
        ],
        "status": read.trouble.map_or_else(|| json!({}), |trouble| failed(&trouble.to_string())),
    })];
    let equipped = read.equipped.unwrap_or(read.ended);
    if equipped.since(read.began) > NO_WAIT {
        let span = parent.child(ids, "memory", INTERNAL, (read.began, equipped), Vec::new());
        all.push(span);
    }
    for (at, wait) in read.waits.iter().enumerate() {
        all.push(parent.of_wait(ids, wait, &read.waits[..at]));
    }
    all
}

impl Parent<'_> {
    fn child(
        &self,
        ids: &mut Ids,
        name: &str,
        kind: u8,
        (began, ended): (Time, Time),
        attributes: Vec<Value>,
    ) -> Value {
        let began = began.clamp(self.read.began, self.read.ended);
        let ended = ended.clamp(began, self.read.ended);
        json!({
            "traceId": self.trace,
            "spanId": ids.span(),
            "parentSpanId": self.span,
            "name": name,
            "kind": kind,
            "startTimeUnixNano": self.wall.at(began),
            "endTimeUnixNano": self.wall.at(ended),
            "attributes": attributes,
        })
    }

    /// `earlier`: those that began before it.
    fn of_wait(&self, ids: &mut Ids, wait: &Wait, earlier: &[Arc<Wait>]) -> Value {
        let (ended, outcome) = wait.end().unzip();
        let ended = ended.unwrap_or(self.read.ended);
        let word = match &outcome {
            None => "under way",
            Some(Outcome::Done) => "done",
            Some(Outcome::Cancelled) => "cancelled",
            Some(Outcome::Failed(_)) => "failed",
        };
        let mut attributes = vec![
            text("braidfs.range", &range(wait.pages)),
            number("braidfs.bytes", wait.brought_bytes()),
            text("braidfs.outcome", word),
        ];
        if wait.began < self.read.began {
            attributes.push(milliseconds("braidfs.began_before_ms", self.read.began.since(wait.began)));
        }
        let (name, kind) = match &wait.bringer {
            Bringer::Disk => ("disk", INTERNAL),
            Bringer::Fetch { fetch, mirror, class, is_hedge } => {
                attributes.extend([
                    text("braidfs.mirror", mirror),
                    number("braidfs.fetch", fetch.0),
                    number("braidfs.attempt", attempt(wait, earlier)),
                    text("braidfs.class", class.name()),
                    json!({ "key": "braidfs.hedge", "value": { "boolValue": is_hedge } }),
                ]);
                ("fetch", CLIENT)
            }
        };
        if let Some(first) = wait.first_byte() {
            attributes.push(milliseconds("braidfs.first_byte_ms", first.since(wait.began)));
        }
        let mut span = self.child(ids, name, kind, (wait.began, ended), attributes);
        if let Some(at) = wait.first_byte().filter(|at| (self.read.began..=self.read.ended.min(ended)).contains(at)) {
            span["events"] = json!([{ "timeUnixNano": self.wall.at(at), "name": "first byte" }]);
        }
        if let Some(Outcome::Failed(why)) = &outcome {
            span["status"] = failed(why);
        }
        span
    }
}

/// One more than fetches before it for some of the same pages.
fn attempt(wait: &Wait, earlier: &[Arc<Wait>]) -> u64 {
    let same = |other: &&Arc<Wait>| other.bringer != Bringer::Disk && !other.pages.intersect(wait.pages).is_empty();
    1 + earlier.iter().filter(same).count() as u64
}

/// In whole pages, as an HTTP range.
fn range(pages: Pages) -> String {
    format!("{}-{}", pages.start * PAGE_BYTES, (pages.end * PAGE_BYTES).saturating_sub(1))
}

fn failed(why: &str) -> Value {
    json!({ "code": ERROR, "message": why })
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// Integers have 64 bits with a sign, and are text in JSON.
fn number(key: &str, value: u64) -> Value {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn milliseconds(key: &str, length: Duration) -> Value {
    json!({ "key": key, "value": { "doubleValue": length.as_secs_f64() * 1e3 } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{Class, FetchId, Inode};
    use crate::fetch::Trouble;

    fn fetch(number: u64, pages: Pages, is_hedge: bool) -> Arc<Wait> {
        let (fetch, mirror) = (FetchId(number), "http://a.test/".to_owned());
        Arc::new(Wait::new(Bringer::Fetch { fetch, mirror, class: Class::Demand, is_hedge }, pages))
    }

    fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
        let all = span["attributes"].as_array().unwrap();
        let found = all.iter().find(|one| one["key"] == key).unwrap_or_else(|| panic!("no {key} in {span:#}"));
        found["value"].as_object().unwrap().values().next().unwrap()
    }

    #[test]
    fn what_a_read_waited_for_lies_within_it_and_tells_its_attempts() {
        let old = fetch(1, Pages::new(0, 8), false);
        let began = clock::now() + Duration::from_nanos(1);
        while clock::now() <= began {}
        let (failed, next, other) =
            (fetch(2, Pages::new(2, 4), false), fetch(3, Pages::new(2, 3), true), fetch(4, Pages::new(9, 12), false));
        failed.answered();
        failed.ended(Outcome::Failed("http://a.test/ broke off".into()));
        let ended = clock::now();
        next.ended(Outcome::Done);
        let read = SlowRead {
            path: b"a \xff".to_vec(),
            inode: Inode(u64::MAX - 7),
            bytes: 4096..8192,
            began,
            equipped: Some(began),
            ended,
            memory_bytes: 96,
            disk_bytes: 0,
            mirror_bytes: 4000,
            trouble: Some(Trouble::Stalled),
            waits: vec![old, failed, next, other],
        };
        let (request, count) = request(&json!({}), &[read], Wall(1 << 60), &mut Ids::default());
        let spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
        assert_eq!((count, spans.len()), (5, 5));
        let time = |span: &Value, name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
        let (start, end) = ("startTimeUnixNano", "endTimeUnixNano");
        for child in &spans[1..] {
            assert_eq!((&child["parentSpanId"], &child["traceId"]), (&spans[0]["spanId"], &spans[0]["traceId"]));
            assert!(
                time(&spans[0], start) <= time(child, start) && time(child, end) <= time(&spans[0], end),
                "{child:#}"
            );
        }
        let tell = |name| spans[1..].iter().map(|span| attribute(span, name).clone()).collect::<Vec<_>>();
        assert_eq!(tell("braidfs.attempt"), ["1", "2", "3", "1"]);
        assert_eq!(tell("braidfs.outcome"), ["under way", "failed", "done", "under way"]);
        assert_eq!(tell("braidfs.hedge"), [false, false, true, false].map(Value::from));
        assert_eq!((attribute(&spans[0], "braidfs.errno"), &spans[0]["status"]["code"]), (&json!("5"), &json!(2)));
        assert_eq!(attribute(&spans[0], "braidfs.inode"), "18446744073709551608", "no integer: it has a sign in OTLP");
        assert_eq!(spans[2]["status"]["message"], "http://a.test/ broke off");
        assert!(spans[2]["events"][0]["name"] == "first byte" && spans[1]["events"].is_null());
        assert!(attribute(&spans[1], "braidfs.began_before_ms").as_f64().unwrap() > 0.0);
    }

    #[test]
    fn ids_are_hexadecimal_and_each_another() {
        let mut ids = Ids::default();
        let (trace, spans): (_, std::collections::BTreeSet<_>) = (ids.trace(), (0..1000).map(|_| ids.span()).collect());
        assert!(trace.len() == 32 && spans.len() == 1000 && spans.iter().all(|id| id.len() == 16));
        assert!(Ids::default().trace() != trace, "another mount has others");
    }
}
