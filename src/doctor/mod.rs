//! `braidfs doctor`: look at what a mount would meet, or at a live one, and say what is wrong and what to do. `braidfs
//! bench`: read a live one for a few seconds, and say what it delivers.
//!
//! # Map
//!
//! | file | one idea |
//! |---|---|
//! | `finding` | what one check found |
//! | `show` | findings for people and for programs |
//! | `system` | FUSE, its helper, the kernel, the control folder, the mountpoint |
//! | `limits` | open files and memory |
//! | `cache` `disk_speed` | the cache folder; how fast its disk is |
//! | `mirrors/` | every mirror by itself, and beside the others |
//! | `live` | a mount that is there |
//! | `bench/` | the figures of a mount |
//!
//! Nothing is mounted, nothing is changed, nothing is kept. Every check fails by a finding of its own, and never ends the
//! others; every wait has a deadline. Credentials are in no finding.

pub mod bench;
mod cache;
mod disk_speed;
mod finding;
mod limits;
mod live;
mod mirrors;
mod show;
mod system;

use crate::clock;
use crate::config::command_line::{DoctorCommand, looks_like_url};
use crate::config::defaults::Surroundings;
use crate::config::plan::MountPlan;
use crate::config::unplaced::plan_unplaced;
use crate::control::client::{ClientError, Desk};
use crate::control::commands::Screen;
use crate::control::mountinfo::{Device, Mount};
use finding::{About, Finding, Level};
use show::Report;
use std::collections::BTreeSet;
use std::path::Path;

/// Look, say what was found, and return the exit code: 0 where nothing is wrong, 1 where something is.
pub fn run(asked: &DoctorCommand, around: &Surroundings, desk: &Desk, screen: &mut Screen<'_>) -> u8 {
    let start = clock::now();
    let seed = asked.seed.unwrap_or(start.0);
    let findings = look(asked, around, desk, seed);
    let report = Report::new(findings, seed, clock::now().since(start).as_millis() as u64);
    let text = match asked.json {
        true => format!("{}\n", serde_json::to_string(&report).expect("findings have text for keys")),
        false => report.text(),
    };
    // A closed stdout is nobody's loss.
    drop(screen.out.write_all(text.as_bytes()).and_then(|()| screen.out.flush()));
    u8::from(report.problems > 0)
}

fn look(asked: &DoctorCommand, around: &Surroundings, desk: &Desk, seed: u64) -> Vec<Finding> {
    if let Some(mount) = live_mount(asked, desk) {
        let mut findings = system::check(None, None, around);
        findings.extend(live::check(desk, &mount, true));
        return findings;
    }
    if asked.places.is_empty() && asked.config.is_none() && asked.fuse.is_empty() {
        return all_mounts(around, desk);
    }
    match plan_unplaced(&asked.mount(), around) {
        Ok((plan, place)) => look_at_plan(&plan, place.as_deref(), around, seed),
        Err(error) => {
            let found = Finding::problem(&About::Configuration, "mount", error.to_string(), "correct that first");
            std::iter::once(found).chain(system::check(None, None, around)).collect()
        }
    }
}

/// The mount that the only word is a path in.
fn live_mount(asked: &DoctorCommand, desk: &Desk) -> Option<Mount> {
    match (asked.places.as_slice(), &asked.config) {
        ([only], None) if !looks_like_url(only) => desk.find(Path::new(only)).ok().map(|target| target.mount),
        _ => None,
    }
}

fn all_mounts(around: &Surroundings, desk: &Desk) -> Vec<Finding> {
    let mut findings = system::check(None, None, around);
    let mut known: BTreeSet<Device> = BTreeSet::new();
    match desk.mounts() {
        Ok(mounts) => {
            // A bind mount of one is no other.
            let ours = mounts.iter().filter(|mount| mount.is_braidfs() && known.insert(mount.device));
            findings.extend(ours.flat_map(|mount| live::check(desk, mount, false)));
        }
        Err(error) => findings.push(unreadable(&error)),
    }
    findings.push(Finding::note(
        &About::Configuration,
        "mirrors",
        "no SOURCE was given, so no mirror and no cache folder was looked at; give what you would give to `braidfs mount`",
    ));
    findings
}

fn unreadable(error: &ClientError) -> Finding {
    Finding::new(Level::Problem, &About::System, "mounts", error.to_string()).way_out("is /proc mounted?")
}

fn look_at_plan(plan: &MountPlan, place: Option<&Path>, around: &Surroundings, seed: u64) -> Vec<Finding> {
    let mut findings = vec![configuration(plan)];
    findings.extend(
        plan.warnings
            .iter()
            .map(|warning| Finding::new(Level::Warning, &About::Configuration, "warning", warning.clone())),
    );
    findings.extend(system::check(Some(plan), place, around));
    findings.extend(limits::check(plan, around));
    // Beside each other: each may take most of a minute where it hangs.
    let (cache, mirrors) = std::thread::scope(|scope| {
        let cache = scope.spawn(|| cache::check(plan, place.is_some()));
        let mirrors = mirrors::check(plan, seed);
        (cache.join().expect("a check does not panic"), mirrors)
    });
    findings.extend(cache);
    findings.extend(mirrors);
    findings
}

fn configuration(plan: &MountPlan) -> Finding {
    let file = plan.config_file.as_ref().map_or(String::new(), |file| format!(", from {}", file.display()));
    let mirrors = plan.mirrors.len();
    let seen = format!("{} mirror{}, as {}{file}", mirrors, if mirrors == 1 { "" } else { "s" }, plan.name);
    Finding::ok(&About::Configuration, "mount", seen)
}
