//! `status` as OpenMetrics text, which Prometheus scrapes. The names are documented in docs/metrics.md, and kept.

use super::report::{MirrorReport, StatusReport};
use crate::metrics::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// What the text is, for HTTP.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The states of a mirror that a value is given for.
const MIRROR_STATES: [&str; 3] = ["closed", "half-open", "open"];
/// The states of a mount.
const MOUNT_STATES: [&str; 3] = ["online", "offline", "reading-through"];

/// The text of a mount.
pub fn exposition(report: StatusReport) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page(report)));
    let mut page = String::new();
    // Writing to a string does not fail.
    let _ = text::encode(&mut page, &registry);
    page
}

#[derive(Debug)]
struct Page(StatusReport);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        families(&self.0).iter().try_for_each(|family| family.encode(&mut encoder))
    }
}

/// Labels with their values.
type Labels = Vec<(&'static str, String)>;

/// A counter, or a gauge.
#[derive(Clone, Copy, Debug)]
enum Number {
    /// It only grows; its name ends in `_total`.
    Count(u64),
    /// It goes up and down.
    Level(f64),
}

/// One name, with all that stands under it.
#[derive(Debug)]
struct Family {
    /// Without `_total`.
    name: String,
    help: &'static str,
    points: Vec<(Labels, Number)>,
}

impl Family {
    fn encode(&self, encoder: &mut DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Some((_, first)) = self.points.first() else { return Ok(()) };
        let form = match first {
            Number::Count(_) => MetricType::Counter,
            Number::Level(_) => MetricType::Gauge,
        };
        let mut all = encoder.encode_descriptor(&self.name, self.help, None, form)?;
        let mut points = self.points.iter();
        points.try_for_each(|(labels, number)| write(*number, all.encode_family(labels)?))
    }
}

fn write(number: Number, encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
    match number {
        Number::Count(count) => ConstCounter::new(count).encode(encoder),
        Number::Level(level) => ConstGauge::new(level).encode(encoder),
    }
}

/// Every name that there is, with what stands under it.
fn families(report: &StatusReport) -> Vec<Family> {
    let mut all = of_the_mount(report);
    all.extend(of_mirrors(&report.mirrors));
    all.extend(of_the_engine(report));
    all
}

fn of_the_mount(report: &StatusReport) -> Vec<Family> {
    let one = |name: &str, help, level: f64| family(name, help, vec![(Labels::new(), Number::Level(level))]);
    let states = MOUNT_STATES.iter().map(|state| (vec![("state", (*state).to_owned())], is(report.state == *state)));
    let about = vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("name", report.name.clone()),
        ("mountpoint", report.mountpoint.clone()),
    ];
    let handoff = report.handoff.as_ref();
    let running = report.jobs.iter().filter(|job| job.state == "running").count();
    vec![
        family("about", "Always 1; its labels say which braidfs has mounted what where.", vec![(about, is(true))]),
        family("state", "1 for the state that the mount is in, 0 for the others.", states.collect()),
        one("uptime_seconds", "Since the mount.", report.uptime_s),
        one("memory_bytes", "Bytes that the memory pool holds.", report.memory_bytes as f64),
        one("memory_limit_bytes", "The most that it may hold.", report.memory_limit as f64),
        one("disk_bytes", "Bytes that the cache takes on disk.", report.disk_bytes as f64),
        one("disk_limit_bytes", "The most that it may take; 0 where nothing is kept.", report.disk_limit as f64),
        one("disk_usable", "1 where new bytes are kept on disk.", if report.disk_state == "ok" { 1.0 } else { 0.0 }),
        one("pinned_bytes", "Bytes of pinned files, when they were pinned.", report.pinned_bytes as f64),
        one(
            "oldest_operation_seconds",
            "How long the oldest read or lookup that waits has waited; 0 where none waits.",
            report.oldest_operation_ms.unwrap_or(0) as f64 / 1e3,
        ),
        one("jobs_running", "Prefetch jobs that run.", running as f64),
        one(
            "experiment_running",
            "1 while an experiment runs: `braidfs ab` shows it.",
            if report.experiment.is_some() { 1.0 } else { 0.0 },
        ),
        one(
            "handoff_p99_seconds",
            "From the last page's arrival to the answer of a read that waited, 99 of 100 at most, since the mount.",
            handoff.map_or(0.0, |handoff| handoff.p99_us / 1e6),
        ),
    ]
}

fn of_mirrors(mirrors: &[MirrorReport]) -> Vec<Family> {
    let each = |name: &str, help, number: &dyn Fn(&MirrorReport) -> Option<Number>| {
        let point = |mirror: &MirrorReport| Some((vec![("mirror", mirror.url.clone())], number(mirror)?));
        family(name, help, mirrors.iter().filter_map(point).collect())
    };
    let level = |value: f64| Some(Number::Level(value));
    let states = mirrors.iter().flat_map(|mirror| {
        let labels = |state: &str| vec![("mirror", mirror.url.clone()), ("state", state.to_owned())];
        MIRROR_STATES.iter().map(move |state| (labels(state), is(mirror.state == *state)))
    });
    vec![
        family(
            "mirror_state",
            "1 for the state that a mirror is in, 0 for the others: closed is in use, open left alone.",
            states.collect(),
        ),
        each("mirror_fetched_bytes", "Body bytes that a mirror delivered.", &|mirror| {
            Some(Number::Count(mirror.bytes_fetched))
        }),
        each("mirror_failures", "Failures of a mirror.", &|mirror| Some(Number::Count(mirror.failures))),
        each("mirror_throughput_bytes_per_second", "As measured; 0 before that.", &|mirror| {
            level(mirror.throughput_bytes_per_second)
        }),
        each("mirror_first_byte_seconds", "Usual time to the first byte; missing before it is measured.", &|mirror| {
            mirror.time_to_first_byte_ms.map(|ms| Number::Level(ms / 1e3))
        }),
        each("mirror_in_flight_bytes", "Bytes asked of a mirror that have not come yet.", &|mirror| {
            level(mirror.in_flight_bytes as f64)
        }),
        each("mirror_in_flight_fetches", "Requests to a mirror on their way.", &|mirror| {
            level(mirror.in_flight_fetches as f64)
        }),
        each("mirror_load", "How overloaded a mirror is, 0 to 1.", &|mirror| level(mirror.load)),
        each("mirror_weight", "Its live weight, 0.1 to 1; 0 before it is known.", &|mirror| level(mirror.weight)),
    ]
}

/// The counters and gauges of `metrics`, by their own names.
fn of_the_engine(report: &StatusReport) -> Vec<Family> {
    let value = |name: &str| report.counters.get(name).copied().unwrap_or(0);
    let counters = Metrics::counters().iter();
    let counters =
        counters.map(|(name, help)| family(name, help.trim(), vec![(Labels::new(), Number::Count(value(name)))]));
    let gauges = Metrics::gauges().iter();
    let gauges =
        gauges.map(|(name, help)| family(name, help.trim(), vec![(Labels::new(), Number::Level(value(name) as f64))]));
    counters.chain(gauges).collect()
}

fn family(name: &str, help: &'static str, points: Vec<(Labels, Number)>) -> Family {
    Family { name: format!("braidfs_{name}"), help, points }
}

fn is(so: bool) -> Number {
    Number::Level(if so { 1.0 } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::{HandoffReport, JobReport};

    fn report() -> StatusReport {
        let mirror = MirrorReport {
            url: "https://a/\"b\\\n".into(),
            state: "open".into(),
            bytes_fetched: u64::MAX,
            time_to_first_byte_ms: Some(12.5),
            ..MirrorReport::default()
        };
        StatusReport {
            state: "online".into(),
            handoff: Some(HandoffReport { p99_us: 250.0, ..HandoffReport::default() }),
            mirrors: vec![mirror],
            jobs: vec![JobReport { state: "running".into(), ..JobReport::default() }],
            counters: [("reads".to_owned(), 7)].into(),
            ..StatusReport::default()
        }
    }

    #[test]
    fn a_mount_looks_like_this() {
        let page = exposition(report());
        for line in [
            "# TYPE braidfs_reads counter",
            "braidfs_reads_total 7",
            "# TYPE braidfs_waiting_reads gauge",
            "braidfs_waiting_reads 0.0",
            "braidfs_state{state=\"online\"} 1.0",
            "braidfs_state{state=\"offline\"} 0.0",
            "braidfs_handoff_p99_seconds 0.00025",
            "braidfs_jobs_running 1.0",
            "braidfs_mirror_state{mirror=\"https://a/\\\"b\\\\\\n\",state=\"open\"} 1.0",
            "braidfs_mirror_fetched_bytes_total{mirror=\"https://a/\\\"b\\\\\\n\"} 18446744073709551615",
            "braidfs_mirror_first_byte_seconds{mirror=\"https://a/\\\"b\\\\\\n\"} 0.0125",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn what_is_not_measured_is_left_out() {
        let mut report = report();
        report.mirrors[0].time_to_first_byte_ms = None;
        assert!(!exposition(report).contains("first_byte_seconds"));
    }

    /// Names, kinds and meanings are promised there.
    #[test]
    fn the_documentation_has_every_name_and_no_other() {
        let page = include_str!("../../docs/metrics.md");
        let documented: Vec<&str> = page.lines().filter(|line| line.starts_with("| `braidfs_")).collect();
        let row = |family: Family| {
            let (total, form) = match family.points[0].1 {
                Number::Count(_) => ("_total", "counter"),
                Number::Level(_) => ("", "gauge"),
            };
            let labels: Vec<_> = family.points[0].0.iter().map(|(label, _)| format!("`{label}`")).collect();
            format!("| `{}{total}` | {form} | {} | {} |", family.name, labels.join(" "), family.help)
        };
        let wanted: Vec<String> = families(&report()).into_iter().map(row).collect();
        assert!(documented == wanted, "docs/metrics.md should have these rows:\n{}", wanted.join("\n"));
    }
}
