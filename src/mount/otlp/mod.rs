//! Spans of slow reads, to a receiver of OpenTelemetry: `--otlp`.
//!
//! What is sent is the JSON of OTLP 1.x over HTTP, written here (`spans`) and posted by the HTTP client that is in the tree
//! anyway. That encoding is published and stable: hexadecimal ids, camelCase, 64-bit integers as text. The crates of
//! OpenTelemetry would bring their own model of spans, generated protobuf types and a second way to run exports, for one
//! request that is 300 lines here. They were measured: on two cores their crates
//! take 17 s to compile, one after the other, also without gRPC, since their JSON is made of the protobuf types.
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp>
//!
//! It runs where listings and the control socket do, never on the thread of the data. The queue before it is bounded; what
//! finds it full is counted and forgotten. A batch is sent once: a receiver that is down for a while loses the spans of that
//! while, and nobody waits for it but the end of the mount, for [`LAST_WITHIN`].

mod spans;

use crate::config::otlp::OtlpPlan;
use crate::config::plan::MountPlan;
use crate::fetch::Engine;
use crate::fetch::slow::SlowRead;
use crate::metrics::Metrics;
use crate::sources;
use anyhow::Context;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use spans::{Ids, Wall};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Slow reads in one request: with ten waits each some hundreds of KiB, less than receivers take (Go's collector: 20 MiB).
const BATCH_MAX: usize = 64;
/// A batch is gathered for so long. Meanwhile it becomes known how the fetches ended that were on their way still.
const GATHERED_WITHIN: Duration = Duration::from_secs(1);
/// A receiver that has not taken a batch after this is down.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// What is left at the end of a mount is sent within this, or not at all: shorter than any supervisor waits.
const LAST_WITHIN: Duration = Duration::from_secs(3);
/// Of an answer so much is read: it is a few words.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What sends them, before it runs.
pub struct Exporter {
    plan: OtlpPlan,
    client: reqwest::Client,
    headers: HeaderMap,
    resource: serde_json::Value,
}

/// What sends them, while it runs.
pub struct Exporting {
    finish: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

struct Running {
    exporter: Exporter,
    reads: mpsc::Receiver<SlowRead>,
    metrics: Arc<Metrics>,
    ids: Ids,
    /// The last export failed, and the log has it.
    is_failing: bool,
}

impl Exporter {
    /// As the plan of a mount has it; none where it has none. Nothing is sent yet, and nobody connected to.
    ///
    /// # Errors
    /// A header that cannot be sent.
    pub fn of(plan: &MountPlan, mountpoint: &Path) -> anyhow::Result<Option<Exporter>> {
        let Some(otlp) = plan.otlp.clone() else { return Ok(None) };
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        for (name, value) in &otlp.headers {
            let wrong = || format!("the header {name:?} of OTEL_EXPORTER_OTLP_HEADERS cannot be sent");
            let mut value = HeaderValue::from_str(value).with_context(wrong)?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_bytes(name.as_bytes()).with_context(wrong)?, value);
        }
        let settings = sources::Settings::parse(otlp.endpoint.as_str())?;
        let client = sources::http_client(&settings)?;
        let resource = spans::resource(&otlp.service, &plan.name, mountpoint);
        Ok(Some(Exporter { plan: otlp, client, headers, resource }))
    }

    /// Hear of slow reads and send them, until [`Exporting::finish`].
    pub fn start(self, engine: &Engine) -> Option<Exporting> {
        let reads = engine.watch_slow_reads(self.plan.slow)?;
        tracing::info!("spans of reads over {:?} go to {}", self.plan.slow, self.plan.shown());
        let (finish, finished) = oneshot::channel();
        let (metrics, ids) = (engine.metrics().clone(), Ids::default());
        let running = Running { exporter: self, reads, metrics, ids, is_failing: false };
        Some(Exporting { finish, task: engine.runtime().spawn(running.run(finished)) })
    }

    /// How many spans were not taken, and why.
    async fn post(&self, body: Vec<u8>) -> Result<Option<(u64, String)>, String> {
        let request = self.client.post(self.plan.endpoint.clone()).headers(self.headers.clone());
        let mut answer = request.timeout(TAKEN_WITHIN).body(body).send().await.map_err(innermost)?;
        if !answer.status().is_success() {
            return Err(format!("it answered {}", answer.status()));
        }
        let mut text = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(innermost)? {
            text.extend_from_slice(&part);
            if text.len() > ANSWER_BYTES_MAX {
                return Err("its answer is no answer of a receiver of spans: it is too long".into());
            }
        }
        Ok(rejected(&text))
    }
}

impl Exporting {
    /// Send what is left, and end. Call it when no read can end any more.
    pub fn finish(self, runtime: &Handle) {
        drop(self.finish);
        let ended = runtime.block_on(async { timeout(LAST_WITHIN, self.task).await });
        if ended.is_err() {
            tracing::warn!("the last spans were not taken within {LAST_WITHIN:?}");
        }
    }
}

impl Running {
    async fn run(mut self, mut finished: oneshot::Receiver<()>) {
        loop {
            let first = tokio::select! {
                read = self.reads.recv() => read,
                _ = &mut finished => break,
            };
            let Some(first) = first else { break };
            let mut batch = vec![first];
            tokio::select! {
                _ = timeout(GATHERED_WITHIN, gather(&mut self.reads, &mut batch)) => self.export(batch).await,
                _ = &mut finished => {
                    self.export(batch).await;
                    break;
                }
            }
        }
        self.reads.close();
        loop {
            let mut batch = Vec::new();
            gather(&mut self.reads, &mut batch).await;
            if batch.is_empty() {
                return;
            }
            self.export(batch).await;
        }
    }

    async fn export(&mut self, batch: Vec<SlowRead>) {
        let reads = batch.len() as u64;
        let (request, count) = spans::request(&self.exporter.resource, &batch, Wall::now(), &mut self.ids);
        let (rejected, why) = match self.exporter.post(request.to_string().into_bytes()).await {
            Ok(None) => (0, None),
            Ok(Some((rejected, why))) => {
                (rejected.min(count), Some(format!("{rejected} of {count} spans refused: {why}")))
            }
            Err(why) => (count, Some(why)),
        };
        self.metrics.exported_spans.add(count - rejected);
        let Some(why) = why else { return self.works_again() };
        self.metrics.export_failures.add(1);
        if rejected == count {
            self.metrics.slow_reads_dropped.add(reads);
        }
        // Once for each time that it begins to fail: a receiver may be down for days.
        if !std::mem::replace(&mut self.is_failing, true) {
            let url = self.exporter.plan.shown();
            tracing::warn!(url, why, "spans of slow reads are not taken; they are let go until that is over");
        }
    }

    fn works_again(&mut self) {
        if std::mem::replace(&mut self.is_failing, false) {
            tracing::info!(url = self.exporter.plan.shown(), "spans of slow reads are taken again");
        }
    }
}

/// As many as there are, until the batch is full or nobody sends any more.
async fn gather(reads: &mut mpsc::Receiver<SlowRead>, batch: &mut Vec<SlowRead>) {
    while batch.len() < BATCH_MAX
        && let Some(read) = reads.recv().await
    {
        batch.push(read);
    }
}

/// What a receiver says that took some of it only. Others answer in protobuf, or nothing.
fn rejected(answer: &[u8]) -> Option<(u64, String)> {
    let answer: serde_json::Value = serde_json::from_slice(answer).ok()?;
    let partial = &answer["partialSuccess"];
    let count = &partial["rejectedSpans"];
    let count = count.as_u64().or_else(|| count.as_str()?.parse().ok())?;
    let why = partial["errorMessage"].as_str().unwrap_or("it does not say why");
    (count > 0).then(|| (count, why.chars().take(200).collect()))
}

/// The innermost error: those around it repeat the address, which may hold credentials.
fn innermost(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut deepest: &dyn std::error::Error = &error;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_took_some_of_it_says_so_in_numbers_or_text() {
        for count in ["\"3\"", "3"] {
            let answer = format!(r#"{{"partialSuccess":{{"rejectedSpans":{count},"errorMessage":"full"}}}}"#);
            assert_eq!(rejected(answer.as_bytes()), Some((3, "full".into())));
        }
        for answer in
            ["", "{}", r#"{"partialSuccess":{}}"#, r#"{"partialSuccess":{"rejectedSpans":"0"}}"#, "\u{1}\u{2}"]
        {
            assert_eq!(rejected(answer.as_bytes()), None, "{answer}");
        }
    }
}
