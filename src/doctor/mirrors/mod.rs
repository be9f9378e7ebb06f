//! Every mirror by itself, and then beside the others.
//!
//! | file | one idea |
//! |---|---|
//! | `budget` | every wait has a deadline |
//! | `network` | its name, its addresses, TCP, TLS |
//! | `index` | its folder's index page, its clock |
//! | `survey` | what the mirrors list, folder by folder, as far as there is time |
//! | `answers` | what it answers about one of its files |
//! | `speed` | what it delivers, one mirror after the other |
//! | `sameness` | whether they have the same files, and the same bytes in them |

mod answers;
mod budget;
mod index;
mod network;
mod sameness;
mod speed;
mod survey;

use super::finding::{About, Finding};
use crate::config::plan::MountPlan;
use crate::metrics::Metrics;
use crate::mount::source_settings;
use crate::sources::{Failure, FailureKind, Listing, Source};
use answers::Answered;
use budget::Budget;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use std::sync::Arc;
use std::time::Duration;

/// To find and to reach a mirror, and to read its index page.
const REACH_MAX: Duration = Duration::from_secs(16);
/// Mirrors that are reached for at a time: each takes a descriptor for each of its addresses.
const REACHED_AT_ONCE: usize = 64;
/// To list what is below.
const SURVEY_MAX: Duration = Duration::from_secs(8);
/// To answer about one file.
const ANSWERS_MAX: Duration = Duration::from_secs(10);
/// To measure all of them, one after the other.
const SPEED_MAX: Duration = Duration::from_secs(10);
/// To compare files.
const SAMENESS_MAX: Duration = Duration::from_secs(10);

/// A mirror that is being looked at.
struct Looked {
    source: Arc<Source>,
    about: About,
    /// Without credentials.
    url: String,
    findings: Vec<Finding>,
    /// Its root, where it lists.
    root: Option<Listing>,
    /// What it answered about one of its files.
    answered: Option<Answered>,
}

/// All checks of all mirrors. `seed` decides which files and pages are compared.
pub fn check(plan: &MountPlan, seed: u64) -> Vec<Finding> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let seen = format!("no threads for the network can be had ({error}): no mirror was looked at");
            return vec![Finding::problem(
                &About::System,
                "network",
                seen,
                "end what takes the threads, and try again",
            )];
        }
    };
    let findings = runtime.block_on(look_at_all(plan, seed));
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    findings
}

async fn look_at_all(plan: &MountPlan, seed: u64) -> Vec<Finding> {
    let metrics = Arc::new(Metrics::default());
    let (mut mirrors, mut findings) = (Vec::new(), Vec::new());
    for mirror in &plan.mirrors {
        let (url, metrics) = (mirror.url.shown(), metrics.clone());
        let about = About::Mirror(url.clone());
        match source_settings(mirror, plan.ideas).and_then(|settings| Source::new(settings, metrics)) {
            Ok(source) => {
                let source = Arc::new(source);
                mirrors.push(Looked { source, about, url, findings: Vec::new(), root: None, answered: None });
            }
            Err(error) => findings.push(Finding::problem(
                &about,
                "settings",
                error.to_string(),
                "correct its [[mirror]] table, or leave it out",
            )),
        }
    }
    let budget = Budget::of(REACH_MAX);
    let reaching =
        stream::iter(mirrors.iter_mut()).for_each_concurrent(REACHED_AT_ONCE, |mirror| reach(mirror, &budget));
    reaching.await;
    let surveyed = survey::survey(&mirrors, &Budget::of(SURVEY_MAX)).await;
    let budget = Budget::of(ANSWERS_MAX);
    let samples = (0..mirrors.len()).map(|at| surveyed.sample_of(at)).collect::<Vec<_>>();
    let asked = mirrors.iter_mut().zip(&samples).filter(|(mirror, _)| mirror.root.is_some());
    join_all(asked.map(|(mirror, sample)| answers::check(mirror, sample.as_ref(), &budget))).await;
    speed::check(&mut mirrors, &Budget::of(SPEED_MAX)).await;
    let compared = sameness::check(&mirrors, &surveyed, seed, &Budget::of(SAMENESS_MAX)).await;
    findings.extend(mirrors.into_iter().flat_map(|mirror| mirror.findings));
    findings.extend(compared);
    findings
}

/// Find it, reach it, read its root.
async fn reach(mirror: &mut Looked, budget: &Budget) {
    if budget.is_over() {
        let seen = "not looked at: the time was over";
        let to_do = "the mirrors before it took it all; look at this one by itself";
        mirror.findings.push(Finding::warning(&mirror.about, "connection", seen, to_do));
    } else if network::check(mirror, budget).await {
        index::check(mirror, budget).await;
    }
}

/// What a person can do about a failure of a mirror.
fn way_out(failure: &Failure) -> &'static str {
    match failure.kind {
        FailureKind::Unreachable => "is it up, and is the URL right? Until then the others are read",
        FailureKind::Throttled { .. } => "ask it for less, by rate-limit in its [[mirror]] table, or try later",
        FailureKind::Missing => "give the URL of the dataset's folder",
        FailureKind::Refused => "give it credentials: headers = { Authorization = \"…\" } in its [[mirror]] table",
        FailureKind::NoRanges => "nothing: it serves small files; larger ones come from the others",
        FailureKind::Changed | FailureKind::Redated { .. } => "its files change: try again",
        FailureKind::Corrupt => "is this the dataset's folder, and a plain HTTP server? Tell who runs it otherwise",
    }
}

/// The failure's own words, without the address of the mirror, which stands above.
fn words(failure: &Failure, mirror: &Looked) -> String {
    failure.why.strip_prefix(&mirror.url).unwrap_or(&failure.why).trim_start().to_owned()
}

fn millis(length: Duration) -> f64 {
    (length.as_secs_f64() * 1e6).round() / 1e3
}

/// A path as it may be shown.
fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
