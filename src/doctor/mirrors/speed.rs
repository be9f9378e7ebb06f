//! What each mirror delivers, one after the other, so that none takes another's share of the line.

use super::answers::Answered;
use super::budget::Budget;
use super::{Looked, words};
use crate::clock::now;
use crate::control::human::{bytes, rate};
use crate::doctor::finding::Finding;
use crate::sources::{Failure, RangeAsk, Source};
use std::time::Duration;

/// Fetched of each at most: enough for a connection to come up to speed on most lines.
const BYTES_MAX: u64 = 4 << 20;
/// Less says more of the latency than of the line.
const BYTES_MIN: u64 = 64 << 10;
/// One mirror takes no longer.
const MIRROR_MAX: Duration = Duration::from_secs(2);

/// All mirrors that answer.
pub async fn check(mirrors: &mut [Looked], budget: &Budget) {
    for mirror in mirrors {
        let Some(answered) = mirror.answered.clone() else { continue };
        let found = one(mirror, &answered, budget).await;
        mirror.findings.push(found);
    }
}

async fn one(mirror: &Looked, answered: &Answered, budget: &Budget) -> Finding {
    if answered.size_bytes < BYTES_MIN {
        let seen = format!("not measured: the largest file found has {}", bytes(answered.size_bytes));
        return Finding::note(&mirror.about, "speed", seen);
    }
    if budget.is_over() {
        return Finding::note(&mirror.about, "speed", "not measured: the time was over");
    }
    let mut fetched = 0;
    let start = now();
    let ended = budget.within(MIRROR_MAX, fetch(&mirror.source, answered, &mut fetched)).await;
    let seconds = now().seconds_since(start).max(1e-6);
    let per_second = fetched as f64 / seconds;
    match ended {
        Some(Err(failure)) => Finding::problem(
            &mirror.about,
            "speed",
            words(&failure, mirror),
            "what has come is kept, and the rest fetched elsewhere: tell who runs it if it stays so",
        ),
        None if fetched == 0 => Finding::problem(
            &mirror.about,
            "speed",
            format!("nothing came within {} s", MIRROR_MAX.as_secs()),
            "reads go to the others where there are",
        ),
        _ => {
            let seen = format!("{} by one connection ({} in {seconds:.2} s)", rate(per_second), bytes(fetched));
            Finding::ok(&mirror.about, "speed", seen)
        }
    }
    .figure("bytes", fetched)
    .figure("bytes_per_second", per_second)
}

async fn fetch(source: &Source, answered: &Answered, fetched: &mut u64) -> Result<(), Failure> {
    let Answered { path, size_bytes, ranges } = answered;
    let bytes = 0..(*size_bytes).min(BYTES_MAX);
    let ask = RangeAsk { path, bytes, size_bytes: *size_bytes, validator: None, whole: !ranges };
    let mut answer = source.open(&ask).await?;
    while let Some(more) = answer.body.next().await? {
        *fetched += more.len() as u64;
        if *fetched >= BYTES_MAX {
            break;
        }
    }
    Ok(())
}
