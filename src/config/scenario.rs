//! Scenario files of `braidfs simulate`: TOML, tables `[[mirror]]`, `[[reader]]` and `[[prefetch]]`.
//!
//! Every error says file, line and column, shows the line, and names what would have been right.

use super::duration::Length;
use super::file::{FileError, read_text, with_nearest, wrong_at};
use super::size::Size;
use crate::chunk::MIRRORS_MAX;
use crate::simulate::mirror::{Change, Health};
use crate::simulate::scenario::{MirrorPlan, Order, PlannedChange, PrefetchPlan, ReaderPlan, Scenario};
use serde::de::{self, Deserialize, Deserializer};
use std::path::Path;
use std::time::Duration;
use toml::Spanned;

/// Readers of a scenario at most, and the bytes of all its files: what a simulation keeps in memory.
const READERS_MAX: usize = 10_000;
const BYTES_MAX: u64 = 1 << 38;
/// It ends after this where nothing else is said, and can last so long at most.
const UNTIL: Duration = Duration::from_secs(600);
const UNTIL_MAX: Duration = Duration::from_secs(24 * 3600);
/// The shortest time after which a change comes again.
const EVERY_MIN: Duration = Duration::from_millis(10);

/// Bytes per second, as people write them: `20MB/s`.
#[derive(Clone, Copy, Debug)]
struct Rate(f64);

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rate, D::Error> {
        let text = String::deserialize(deserializer)?;
        let size = text.strip_suffix("/s").and_then(|size| size.trim().parse::<Size>().ok());
        let size =
            size.ok_or_else(|| de::Error::custom(format!("{text:?} is not a rate; write 20MB/s or 512KiB/s")))?;
        Ok(Rate(size.0 as f64))
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ScenarioTable {
    /// For people.
    #[serde(rename = "about")]
    _about: Option<String>,
    seed: Option<u64>,
    until: Option<Spanned<Length>>,
    memory: Option<Spanned<Size>>,
    hedging: Option<bool>,
    #[serde(default)]
    mirror: Vec<Spanned<MirrorTable>>,
    #[serde(default)]
    reader: Vec<Spanned<ReaderTable>>,
    #[serde(default)]
    prefetch: Vec<Spanned<PrefetchTable>>,
}

#[derive(serde::Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum HealthName {
    Up,
    BlackHole,
    Refusing,
    Throttling,
    Bodiless,
}

impl HealthName {
    fn with(self, retry_after: Option<Length>) -> Health {
        match self {
            HealthName::Up => Health::Up,
            HealthName::BlackHole => Health::BlackHole,
            HealthName::Refusing => Health::Refusing,
            HealthName::Throttling => Health::Throttling(retry_after.map_or(1, |length| length.0.as_secs())),
            HealthName::Bodiless => Health::Bodiless,
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct MirrorTable {
    count: Option<Spanned<usize>>,
    bandwidth: Rate,
    latency: Length,
    jitter: Option<Length>,
    connection_bandwidth: Option<Rate>,
    joining: Option<Spanned<f64>>,
    wobble: Option<Spanned<f64>>,
    losses_per_second: Option<Spanned<f64>>,
    reset_every: Option<u64>,
    stall_every: Option<u64>,
    stall_request: Option<u64>,
    health: Option<HealthName>,
    retry_after: Option<Length>,
    ranges: Option<bool>,
    other_content: Option<bool>,
    #[serde(default)]
    change: Vec<Spanned<ChangeTable>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ChangeTable {
    at: Length,
    every: Option<Spanned<Length>>,
    bandwidth: Option<Rate>,
    latency: Option<Length>,
    health: Option<HealthName>,
    retry_after: Option<Length>,
    #[serde(default)]
    reset: bool,
    hold: Option<Length>,
}

#[derive(serde::Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum PatternName {
    Sequential,
    Backward,
    Random,
    Strided,
    SmallFiles,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ReaderTable {
    count: Option<Spanned<usize>>,
    pattern: PatternName,
    size: Spanned<Size>,
    #[serde(default)]
    shared: bool,
    read: Option<Spanned<Size>>,
    reads: Option<u64>,
    files: Option<u64>,
    stride: Option<Spanned<Size>>,
    rate: Option<Spanned<Rate>>,
    arrivals_per_second: Option<Spanned<f64>>,
    start: Option<Length>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct PrefetchTable {
    size: Spanned<Size>,
    start: Option<Length>,
}

type Wrong = (std::ops::Range<usize>, String);

/// Read and check a scenario file.
///
/// # Errors
/// It cannot be read, or the first thing that is wrong in it.
pub fn read(path: &Path) -> Result<Scenario, FileError> {
    let text = read_text(path)?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Scenario, FileError> {
    let wrong = |(span, message): Wrong| FileError::Wrong(wrong_at(path, text, span, message));
    let table: ScenarioTable =
        toml::from_str(text).map_err(|error| wrong((error.span().unwrap_or(0..0), with_nearest(error.message()))))?;
    let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    scenario(name, table).map_err(wrong)
}

fn scenario(name: String, table: ScenarioTable) -> Result<Scenario, Wrong> {
    let mut mirrors = Vec::new();
    for mirror in &table.mirror {
        let count = count(mirror.get_ref().count.as_ref(), MIRRORS_MAX - mirrors.len(), "mirrors")?;
        let plan = mirror_plan(mirror.get_ref())?;
        mirrors.extend(std::iter::repeat_n(plan, count));
    }
    let mut readers = Vec::new();
    for reader in &table.reader {
        let count = count(reader.get_ref().count.as_ref(), READERS_MAX - readers.len(), "readers")?;
        let plan = reader_plan(reader)?;
        readers.extend(std::iter::repeat_n(plan, count));
    }
    let prefetch = |table: &PrefetchTable| PrefetchPlan {
        size_bytes: table.size.get_ref().0,
        start: table.start.map_or(Duration::ZERO, |length| length.0),
    };
    let prefetches: Vec<PrefetchPlan> = table.prefetch.iter().map(|table| prefetch(table.get_ref())).collect();
    if mirrors.is_empty() {
        return Err((0..0, "no mirrors: give at least one [[mirror]] with bandwidth and latency".into()));
    }
    if readers.is_empty() && prefetches.is_empty() {
        return Err((0..0, "nobody reads: give a [[reader]] with pattern and size, or a [[prefetch]]".into()));
    }
    check_bytes(&table)?;
    let until = table.until.as_ref().map_or(UNTIL, |until| until.get_ref().0);
    if let Some(given) = table.until.as_ref().filter(|_| until > UNTIL_MAX || until.is_zero()) {
        return Err((given.span(), "until is the virtual time at which it ends at the latest: 1ms to 24h".into()));
    }
    let memory_bytes = table.memory.as_ref().map_or(256 << 20, |size| size.get_ref().0);
    if let Some(given) = table.memory.as_ref().filter(|_| memory_bytes < 1 << 20) {
        return Err((given.span(), "memory is what the pool holds: 1MiB or more".into()));
    }
    let hedging = table.hedging.unwrap_or(true);
    Ok(Scenario { name, mirrors, readers, prefetches, memory_bytes, hedging, until, seed: table.seed.unwrap_or(1) })
}

fn count(given: Option<&Spanned<usize>>, left: usize, what: &str) -> Result<usize, Wrong> {
    let Some(given) = given else { return if left > 0 { Ok(1) } else { Err((0..0, format!("too many {what}"))) } };
    let count = *given.get_ref();
    if (1..=left).contains(&count) {
        return Ok(count);
    }
    Err((given.span(), format!("count = {count}: 1 to {left} more {what} are possible here")))
}

/// A number of some range; its error says which.
fn within(given: Option<&Spanned<f64>>, least: f64, most: f64, default: f64) -> Result<f64, Wrong> {
    let Some(given) = given else { return Ok(default) };
    let value = *given.get_ref();
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err((given.span(), format!("{value} is not possible here; give {least} to {most}")))
}

fn mirror_plan(table: &MirrorTable) -> Result<MirrorPlan, Wrong> {
    let mut plan = MirrorPlan::new(table.bandwidth.0, table.latency.0);
    plan.jitter = table.jitter.map_or(Duration::ZERO, |length| length.0);
    plan.connection_bandwidth = table.connection_bandwidth.map_or(f64::INFINITY, |rate| rate.0);
    plan.joining = within(table.joining.as_ref(), 0.01, 1.0, 1.0)?;
    plan.wobble = within(table.wobble.as_ref(), 0.0, 0.95, 0.0)?;
    plan.losses_per_second = within(table.losses_per_second.as_ref(), 0.0, 5.0, 0.0)?;
    plan.reset_every = table.reset_every.unwrap_or(0);
    plan.stall_every = table.stall_every.unwrap_or(0);
    plan.stall_request = table.stall_request.unwrap_or(0);
    plan.health = table.health.unwrap_or(HealthName::Up).with(table.retry_after);
    plan.ranges = table.ranges.unwrap_or(true);
    plan.other_content = table.other_content.unwrap_or(false);
    for change in &table.change {
        plan.changes.extend(changes(change)?);
    }
    Ok(plan)
}

fn changes(spanned: &Spanned<ChangeTable>) -> Result<Vec<PlannedChange>, Wrong> {
    let table = spanned.get_ref();
    let every = table.every.as_ref().map(|every| every.get_ref().0);
    if let Some(given) = table.every.as_ref().filter(|given| given.get_ref().0 < EVERY_MIN) {
        return Err((given.span(), "every is too short; give 10ms or more".into()));
    }
    let health = table.health.map(|name| Change::Health(name.with(table.retry_after)));
    let all = [
        table.bandwidth.map(|rate| Change::Rate(rate.0)),
        table.latency.map(|length| Change::Latency(length.0)),
        health,
        table.reset.then_some(Change::Reset),
        table.hold.map(|length| Change::Hold(length.0)),
    ];
    let all: Vec<_> = all.into_iter().flatten().map(|change| PlannedChange { at: table.at.0, every, change }).collect();
    if all.is_empty() {
        let message = "nothing changes: give bandwidth, latency, health, reset = true or hold";
        return Err((spanned.span(), message.into()));
    }
    Ok(all)
}

fn reader_plan(spanned: &Spanned<ReaderTable>) -> Result<ReaderPlan, Wrong> {
    let table = spanned.get_ref();
    let needs = |key: &str, example: &str| {
        (spanned.span(), format!("this pattern needs the key {key:?}, such as {key} = {example}"))
    };
    let order = match table.pattern {
        PatternName::Sequential => Order::Sequential,
        PatternName::Backward => Order::Backward,
        PatternName::Random => Order::Random(table.reads.ok_or_else(|| needs("reads", "1000"))?),
        PatternName::SmallFiles => Order::Files(table.files.ok_or_else(|| needs("files", "500"))?),
        PatternName::Strided => {
            Order::Strided(table.stride.as_ref().ok_or_else(|| needs("stride", "\"1MiB\""))?.get_ref().0)
        }
    };
    if let Some(stride) = table.stride.as_ref().filter(|stride| stride.get_ref().0 < 4096) {
        return Err((stride.span(), "a stride is a page or more: give 4096 or more".into()));
    }
    if let Some(given) = table.arrivals_per_second.as_ref().filter(|_| table.pattern != PatternName::Random) {
        return Err((given.span(), "only random reads arrive by themselves; others take a rate".into()));
    }
    if let Some(given) = table.rate.as_ref().filter(|given| given.get_ref().0 < 1.0) {
        return Err((given.span(), "a reader at this rate never ends; give 1B/s or more".into()));
    }
    let read_bytes = table.read.as_ref().map_or(128 << 10, |size| size.get_ref().0);
    if let Some(given) = table.read.as_ref().filter(|_| !(1..=16 << 20).contains(&read_bytes)) {
        return Err((given.span(), "one read is 1 byte to 16MiB".into()));
    }
    let arrivals = within(table.arrivals_per_second.as_ref(), 1e-3, 1e6, 1.0)?;
    Ok(ReaderPlan {
        order,
        size_bytes: table.size.get_ref().0,
        shared: table.shared,
        read_bytes,
        rate: table.rate.as_ref().map(|rate| rate.get_ref().0),
        arrivals_per_second: table.arrivals_per_second.as_ref().map(|_| arrivals),
        start: table.start.map_or(Duration::ZERO, |length| length.0),
    })
}

/// Nothing is empty, and the tables of all files fit into memory.
fn check_bytes(table: &ScenarioTable) -> Result<(), Wrong> {
    let readers = table.reader.iter().map(|reader| {
        let reader = reader.get_ref();
        let count = if reader.shared { 1 } else { reader.count.as_ref().map_or(1, |count| *count.get_ref()) };
        (&reader.size, count as u64)
    });
    let mut left = BYTES_MAX;
    for (size, count) in readers.chain(table.prefetch.iter().map(|prefetch| (&prefetch.get_ref().size, 1))) {
        let bytes = size.get_ref().0.saturating_mul(count);
        if bytes == 0 || bytes > left {
            return Err((size.span(), "the sizes of all files together are 1 byte to 256GiB".into()));
        }
        left -= bytes;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Scenario, String> {
        parse(Path::new("dir/some.toml"), text).map_err(|error| error.to_string())
    }

    const READER: &str = "[[reader]]\npattern = \"sequential\"\nsize = \"1MiB\"\n";

    #[test]
    fn a_scenario_is_read_whole() {
        let text = "seed = 7\nuntil = \"1min\"\n[[mirror]]\ncount = 3\nbandwidth = \"20MB/s\"\nlatency = \"10ms\"\n\
                    other-content = true\n[[mirror.change]]\nat = \"2s\"\nevery = \"4s\"\nbandwidth = \"5MB/s\"\n\
                    [[mirror.change]]\nat = \"3s\"\nhealth = \"throttling\"\nretry-after = \"5s\"\n\
                    [[reader]]\ncount = 2\npattern = \"random\"\nsize = \"1GiB\"\nreads = 5\nread = \"4KiB\"\n\
                    [[prefetch]]\nsize = \"1MiB\"\n";
        let scenario = read_text(text).unwrap();
        assert_eq!((scenario.name.as_str(), scenario.seed, scenario.mirrors.len()), ("some", 7, 3));
        assert_eq!((scenario.mirrors[2].bandwidth, scenario.mirrors[2].other_content), (20e6, true));
        assert_eq!(scenario.mirrors[0].changes[0].change, Change::Rate(5e6));
        assert_eq!(scenario.mirrors[0].changes[1].change, Change::Health(Health::Throttling(5)));
        assert_eq!((scenario.readers.len(), scenario.readers[1].order), (2, Order::Random(5)));
        assert_eq!((scenario.prefetches.len(), scenario.until), (1, Duration::from_secs(60)));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let mirror = "[[mirror]]\nbandwidth = \"1MB/s\"\nlatency = \"10ms\"\n";
        for (text, wanted) in [
            ("", "no mirrors"),
            (mirror, "nobody reads"),
            (
                "[[mirror]]\nbandwith = \"1MB/s\"\n",
                "some.toml:2:1: unknown key \"bandwith\", did you mean \"bandwidth\"?",
            ),
            ("[[mirror]]\nbandwidth = \"1MB\"\n", ":2:13: \"1MB\" is not a rate; write 20MB/s"),
            ("[[mirror]]\nlatency = \"10ms\"\n", "missing key `bandwidth`"),
            (&format!("{mirror}health = \"ill\"\n"), "unknown variant `ill`"),
            (&format!("{mirror}wobble = 2.0\n{READER}"), ":4:10: 2 is not possible here; give 0 to 0.95"),
            (&format!("{mirror}count = 2000\n"), ":4:9: count = 2000: 1 to 1024 more mirrors"),
            (&format!("{mirror}[[mirror.change]]\nat = \"1s\"\n"), ":4:1: nothing changes"),
            (
                &format!("{mirror}[[reader]]\npattern = \"random\"\nsize = 5\n"),
                ":4:1: this pattern needs the key \"reads\"",
            ),
            (&format!("{mirror}{READER}arrivals-per-second = 2.0\n"), ":7:23: only random reads"),
            (&format!("until = \"30h\"\n{mirror}{READER}"), ":1:9: until"),
            (&format!("{mirror}[[prefetch]]\nsize = \"1TiB\"\n"), ":5:8: the sizes of all files"),
        ] {
            let said = read_text(text).expect_err(text);
            assert!(said.contains(wanted), "{text:?}: {said}");
        }
    }
}
