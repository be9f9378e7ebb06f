//! What a mirror answers about one of its files: size, date, ranges, version, encoding, and how soon.

use super::budget::Budget;
use super::survey::Sample;
use super::{Looked, millis, shown, way_out, words};
use crate::doctor::finding::Finding;
use crate::sources::{Examined, Failure, FailureKind, RangeAsk, Size, Source, Stat, Validator};
use std::time::Duration;

const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Asked for its first byte so often.
const EXAMINED: usize = 6;
/// A mirror that takes longer makes every small read slow.
const SLOW: Duration = Duration::from_millis(500);
/// A page, from the middle of the file.
const PAGE_BYTES: u64 = 4096;

/// What is known of the file now.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Below the mirror's folder.
    pub path: Vec<u8>,
    /// Its exact size.
    pub size_bytes: u64,
    /// It serves ranges of it.
    pub ranges: bool,
}

/// All checks with one file.
pub async fn check(mirror: &mut Looked, sample: Option<&Sample>, budget: &Budget) {
    let Some(sample) = sample else {
        let seen = "no file was found to try it with";
        return mirror.findings.push(Finding::note(&mirror.about, "file", seen));
    };
    let source = mirror.source.clone();
    let path = shown(&sample.path);
    let stat = match budget.within(ANSWER_MAX, source.stat(&sample.path)).await {
        Some(Ok(stat)) => stat,
        Some(Err(failure)) => {
            let seen = format!("{path}, which it lists: {}", words(&failure, mirror));
            let to_do = match failure.kind {
                FailureKind::Missing => "its index is not what it serves: tell who runs it",
                _ => way_out(&failure),
            };
            return mirror.findings.push(Finding::problem(&mirror.about, "file", seen, to_do));
        }
        None => {
            let seen = format!("{path}: no answer within {} s", ANSWER_MAX.as_secs());
            let to_do = "reads that need this mirror wait; they go to the others where there are";
            return mirror.findings.push(Finding::problem(&mirror.about, "file", seen, to_do));
        }
    };
    mirror.findings.push(listed_as(mirror, sample, &stat));
    mirror.findings.push(validators(mirror, &stat.validator));
    if stat.size_bytes == 0 {
        return;
    }
    let ranges = ranges(mirror, &source, &sample.path, &stat, budget).await;
    let usable = ranges.level < crate::doctor::finding::Level::Problem;
    mirror.findings.push(ranges);
    let mut examined = Vec::new();
    for _ in 0..EXAMINED {
        match budget.within(ANSWER_MAX, source.examine(&sample.path)).await {
            Some(Ok(seen)) => examined.push(seen),
            _ => break,
        }
    }
    mirror.findings.extend(soon(mirror, &examined));
    if usable {
        let ranges = stat.ranges != Some(false);
        mirror.answered = Some(Answered { path: sample.path.clone(), size_bytes: stat.size_bytes, ranges });
    }
}

/// Are size and date what its index says?
fn listed_as(mirror: &Looked, sample: &Sample, stat: &Stat) -> Finding {
    let path = shown(&sample.path);
    if let Size::Exact(listed) = sample.entry.size
        && listed != stat.size_bytes
    {
        let seen = format!("{path}: its index says {listed} bytes, and it serves {}", stat.size_bytes);
        let to_do =
            "such a file cannot be read from it until both agree: tell who runs it, or wait if it is being replaced";
        return Finding::problem(&mirror.about, "file", seen, to_do);
    }
    let minutes = sample
        .entry
        .modified
        .zip(stat.modified_unix_s)
        .map(|(listed, served)| listed.unix_s.div_euclid(60) - served.div_euclid(60));
    let seen = format!("{path}: {} bytes", stat.size_bytes);
    let found = match minutes {
        Some(minutes) if minutes != 0 && minutes % 15 == 0 && minutes.abs() <= 14 * 60 => Finding::warning(
            &mirror.about,
            "file",
            format!("{seen}; its index is dated {:+.2} h from UTC", minutes as f64 / 60.0),
            "it lists in a time zone of its own, and will not agree with mirrors that list in UTC: set its zone to UTC",
        ),
        Some(minutes) if minutes != 0 => Finding::warning(
            &mirror.about,
            "file",
            format!("{seen}; its index and its answers are dated {} min apart", minutes.abs()),
            "its index may be stale: tell who runs it",
        ),
        _ => Finding::ok(&mirror.about, "file", format!("{seen}, as it is listed")),
    };
    found.figure("size_bytes", stat.size_bytes).figure("minutes_apart", minutes)
}

fn validators(mirror: &Looked, validator: &Validator) -> Finding {
    let about = &mirror.about;
    let date = if validator.last_modified.is_some() { ", Last-Modified" } else { "" };
    match (&validator.etag, validator.weak) {
        (Some(_), false) => Finding::ok(about, "versions", format!("a strong ETag{date}")),
        (Some(_), true) => {
            Finding::note(about, "versions", format!("a weak ETag{date}: equal ones do not promise equal bytes"))
        }
        (None, _) if validator.last_modified.is_some() => {
            Finding::note(about, "versions", "Last-Modified only: two changes within a second look like one")
        }
        (None, _) => Finding::warning(
            about,
            "versions",
            "neither ETag nor Last-Modified: a change of a file is noticed by its size only",
            "have it send one of them",
        ),
    }
}

/// A page from the middle, judged as every read is.
async fn ranges(mirror: &Looked, source: &Source, path: &[u8], stat: &Stat, budget: &Budget) -> Finding {
    let size_bytes = stat.size_bytes;
    let from = (size_bytes / 2).min(size_bytes.saturating_sub(PAGE_BYTES));
    // A range that is the whole file proves nothing.
    let bytes = match size_bytes {
        1 => 0..1,
        _ => from.max(1)..(from.max(1) + PAGE_BYTES).min(size_bytes),
    };
    let read = budget.within(ANSWER_MAX, read_range(source, path, bytes.clone(), size_bytes)).await;
    let asked = format!("bytes {}-{}", bytes.start, bytes.end - 1);
    match read {
        Some(Ok(_)) => {
            Finding::ok(&mirror.about, "ranges", format!("{asked} of {size_bytes} came as asked for, unencoded"))
        }
        Some(Err(failure)) if failure.kind == FailureKind::NoRanges => Finding::warning(
            &mirror.about,
            "ranges",
            words(&failure, mirror),
            "it is used for small files, and for larger ones where no other mirror can: have it serve ranges, as nginx, Apache and Caddy do",
        ),
        Some(Err(failure)) => {
            let to_do = match failure.kind {
                FailureKind::Corrupt => {
                    "such answers are never used: a proxy or a setting (compression) is in the way there"
                }
                _ => way_out(&failure),
            };
            Finding::problem(&mirror.about, "ranges", words(&failure, mirror), to_do)
        }
        None => Finding::problem(
            &mirror.about,
            "ranges",
            format!("{asked} did not come within {} s", ANSWER_MAX.as_secs()),
            "reads that need this mirror wait; they go to the others where there are",
        ),
    }
}

/// All bytes of a range.
///
/// # Errors
/// As [`Source::open`], and what breaks on the way.
pub async fn read_range(
    source: &Source,
    path: &[u8],
    bytes: std::ops::Range<u64>,
    size_bytes: u64,
) -> Result<Vec<u8>, Failure> {
    let mut answer = source.open(&RangeAsk { path, bytes, size_bytes, validator: None, whole: false }).await?;
    let mut read = Vec::new();
    while let Some(more) = answer.body.next().await? {
        read.extend_from_slice(&more);
    }
    Ok(read)
}

/// How soon the first byte comes, over a connection that is kept where it keeps any; and whose it is.
fn soon(mirror: &Looked, examined: &[Examined]) -> Vec<Finding> {
    let Some((first, later)) = examined.split_first() else { return Vec::new() };
    let about = &mirror.about;
    let mut findings = Vec::new();
    if let Some(to) = &first.led_to {
        findings.push(Finding::note(about, "redirect", format!("its files come from {to}")));
    }
    if let Some(encoding) = &first.encoding {
        let seen = format!("it sends {encoding} where plain bytes are asked for");
        let to_do = "such answers are never used: switch compression off there";
        findings.push(Finding::problem(about, "encoding", seen, to_do));
    }
    let mut lengths: Vec<Duration> = later.iter().map(|seen| seen.first_byte).collect();
    lengths.sort();
    if let Some(median) = lengths.get(lengths.len() / 2) {
        let seen = format!("{:.1} ms, the median of {}", millis(*median), lengths.len());
        let found = match *median > SLOW {
            true => Finding::warning(
                about,
                "first byte",
                seen,
                "small reads take as long where no other mirror is nearer: is there one?",
            ),
            false => Finding::ok(about, "first byte", seen),
        };
        findings.push(found.figure("median_ms", millis(*median)).figure("first_ms", millis(first.first_byte)));
    }
    let kept = examined.windows(2).filter(|pair| pair[0].connection == pair[1].connection).count();
    let pairs = examined.len() - 1;
    if pairs > 0 && first.connection.is_some() {
        findings.push(match kept {
            0 => Finding::warning(
                about,
                "keep-alive",
                "each request took a new connection",
                "that costs a round trip or three each time: have it keep connections",
            ),
            _ => {
                Finding::ok(about, "keep-alive", format!("{kept} of {pairs} requests went over the connection before"))
            }
        });
    }
    findings
}
