//! `braidfs config`: whether a file is right, what a mount would use, and what a file may have.

use super::command_line::{Config, MountCommand};
use super::defaults::Surroundings;
use super::duration::Length;
use super::file::ConfigFile;
use super::options::Given;
use super::origin::Origin;
use super::plan::{CacheDir, MirrorPlan, MountPlan, plan_mount};
use super::rate::Rate;
use super::rule::RuleTable;
use super::size::Size;
use super::source::MirrorUrl;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

/// Stands for the place of a mount where only its options are asked for.
const NO_MOUNTPOINT: &str = "/";

/// Do it. A closed stdout is nobody's loss.
///
/// # Errors
/// What is wrong with the configuration.
pub fn config(what: &Config, around: &Surroundings, out: &mut dyn Write) -> anyhow::Result<()> {
    let text = match what {
        Config::Check { file } => check(file, around)?,
        Config::Show(command) => show(command, around)?,
        Config::Schema => format!("{:#}\n", schemars::schema_for!(Given).to_value()),
    };
    drop(out.write_all(text.as_bytes()));
    Ok(())
}

/// The whole of it, as a mount would.
fn check(file: &Path, around: &Surroundings) -> anyhow::Result<String> {
    let plan = plan_mount(&of_file(file)?, &Surroundings { variables: Vec::new(), ..around.clone() })?;
    let warnings: String = plan.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    let count = |number: usize, what| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let (mirrors, options) = (count(plan.mirrors.len(), "mirror"), count(plan.origins.len(), "option"));
    Ok(format!("{warnings}{} is right: {mirrors}, {options}\n", file.display()))
}

/// `braidfs mount --config FILE /`.
fn of_file(file: &Path) -> anyhow::Result<MountCommand> {
    use super::command_line::{Command, CommandLine};
    let words: [OsString; 5] = ["braidfs".into(), "mount".into(), "--config".into(), file.into(), NO_MOUNTPOINT.into()];
    match CommandLine::read(words)?.command {
        Command::Mount(command) => Ok(*command),
        other => anyhow::bail!("{other:?} is no mount"),
    }
}

fn show(command: &MountCommand, around: &Surroundings) -> anyhow::Result<String> {
    let mut command = command.clone();
    let is_lone_file = command.places.len() == 1 && command.config.is_none() && Path::new(&command.places[0]).is_file();
    // Where it would be mounted is of no concern here.
    if is_lone_file || command.places.is_empty() && command.config.is_some() {
        command.places.push(NO_MOUNTPOINT.into());
    }
    let plan = plan_mount(&command, around)?;
    let typed: Vec<MirrorUrl> = command.places.iter().filter_map(|place| place.to_str()?.parse().ok()).collect();
    let mut lines: Vec<(String, String)> = Vec::new();
    for (name, value) in values(&plan) {
        let origin = plan.origins.get(name).copied().unwrap_or(Origin::BuiltIn);
        match value {
            Some(value) => lines.push((format!("{name} = {value}"), origin.to_string())),
            None => lines.push((format!("# {name}"), format!("{origin}: not set"))),
        }
    }
    for mirror in &plan.mirrors {
        let is_typed = typed.contains(&mirror.url);
        let origin = if is_typed { Origin::CommandLine } else { Origin::File };
        push_table(&mut lines, "[[mirror]]", origin, mirror_values(mirror));
    }
    if let Some(file) = &plan.config_file {
        for rule in &ConfigFile::read(file)?.given.rule {
            push_table(&mut lines, "[[rule]]", Origin::File, rule_values(rule));
        }
    }
    let width = lines.iter().map(|(line, _)| line.chars().count()).filter(|width| *width < 60).max().unwrap_or(0);
    let line = |(line, origin): (String, String)| match origin.is_empty() {
        true => format!("{line}\n"),
        false => format!("{line:<width$}  # {origin}\n"),
    };
    let file = plan.config_file.as_ref().map_or(String::new(), |file| format!("# file: {}\n", file.display()));
    let warnings: String = plan.warnings.iter().map(|warning| format!("# warning: {warning}\n")).collect();
    Ok(format!("{file}{warnings}{}", lines.into_iter().map(line).collect::<String>()))
}

fn push_table(lines: &mut Vec<(String, String)>, head: &str, origin: Origin, values: Vec<String>) {
    lines.push((String::new(), String::new()));
    lines.push((head.to_owned(), origin.to_string()));
    lines.extend(values.into_iter().map(|line| (line, String::new())));
}

/// What a rule gives; the plan has it in a form that is good for matching only.
fn rule_values(rule: &RuleTable) -> Vec<String> {
    let pair = |name: &str, text: String| format!("{name} = {}", toml::Value::from(text));
    let mut lines = vec![pair("path", rule.path.get_ref().0.glob().to_owned())];
    lines.extend(rule.class.map(|class| pair("class", class.0.name().to_owned())));
    lines.extend(rule.objective.as_ref().map(|objective| pair("objective", objective.get_ref().to_string())));
    lines.extend(rule.prefetch_hours.map(|hours| pair("prefetch-hours", hours.0.to_string())));
    lines
}

/// Every option but the place, with its value as a file has it.
pub(super) fn values(plan: &MountPlan) -> Vec<(&'static str, Option<String>)> {
    let text = |text: &str| Some(toml::Value::from(text).to_string());
    let path = |path: &Path| text(&path.display().to_string());
    let rate = |rate: Option<u64>| rate.and_then(|rate| text(&Rate(rate).to_string()));
    let cache_dir = match &plan.cache {
        CacheDir::Default(folder) | CacheDir::At(folder) => path(folder),
        CacheDir::None => text("none"),
    };
    vec![
        ("name", text(&plan.name)),
        ("cache-dir", cache_dir),
        ("cache-size", plan.cache_size.and_then(|bytes| text(&Size(bytes).to_string()))),
        ("scrub-rate", rate(plan.scrub_rate).or_else(|| text("none"))),
        ("memory", text(&Size(plan.memory).to_string())),
        ("read-timeout", text(&Length(plan.read_timeout).to_string())),
        ("read-deadline", text(&Length(plan.read_deadline).to_string())),
        ("entry-lifetime", text(&Length(plan.entry_lifetime).to_string())),
        ("strategy", text(&plan.strategy.to_string())),
        ("verify", text(&plan.verify.to_string())),
        ("hedging", Some(plan.hedging.to_string())),
        ("passthrough", Some(plan.passthrough.to_string())),
        ("rate-limit", rate(plan.rate_limit)),
        ("metrics", plan.metrics.and_then(|address| text(&address.to_string()))),
        ("otlp", plan.otlp.as_ref().and_then(|otlp| text(&otlp.shown()))),
        ("otlp-slow", plan.otlp.as_ref().and_then(|otlp| text(&Length(otlp.slow).to_string()))),
        ("web", plan.web.and_then(|address| text(&address.to_string()))),
        ("allow-other", Some(plan.allow_other.to_string())),
        ("uid", Some(plan.uid.to_string())),
        ("gid", Some(plan.gid.to_string())),
        ("umask", text(&format!("{:03o}", plan.umask))),
        ("fsname", text(&plan.fsname)),
        ("noexec", Some(plan.noexec.to_string())),
        ("background", Some(plan.background.to_string())),
        ("fuse-fd", plan.fuse_fd.map(|number| number.to_string())),
        ("log-file", plan.log_file.as_deref().and_then(path)),
        ("log", plan.log.and_then(|format| text(&format.to_string()))),
        ("log-level", text(&plan.log_level.to_string())),
    ]
}

/// What is told of a mirror. Headers are secrets, and are named only.
pub(super) fn mirror_values(mirror: &MirrorPlan) -> Vec<String> {
    let text = |text: String| toml::Value::from(text).to_string();
    let mut lines = vec![
        format!("url = {}", text(mirror.url.shown())),
        format!("weight = {}", mirror.weight),
        format!("tier = {}", mirror.tier),
    ];
    lines.extend(mirror.headers.0.keys().map(|name| format!("# headers: {name} = …")));
    lines.extend(mirror.user_agent.clone().map(|agent| format!("user-agent = {}", text(agent))));
    lines.extend(mirror.ca_file.as_ref().map(|file| format!("ca-file = {}", text(file.display().to_string()))));
    lines.extend(
        mirror.connect_timeout.map(|timeout| format!("connect-timeout = {}", text(Length(timeout).to_string()))),
    );
    lines.push(format!("http2 = {}", mirror.http2));
    lines.extend(mirror.rate_limit.map(|limit| format!("rate-limit = {}", text(Rate(limit).to_string()))));
    lines
}
