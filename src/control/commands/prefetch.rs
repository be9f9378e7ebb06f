//! `braidfs prefetch PATH... [--files-from FILE] [--no-wait] [--json]`.

use super::check::check;
use super::path_list::{Given, PathList};
use super::paths::{fitting, on_one_mount};
use super::profile::Profile;
use super::{Screen, prefetch_of};
use crate::control::client::{ClientError, Desk, Target};
use crate::control::human::{bytes, length, plain, rate};
use crate::control::protocol::{AskedRange, Command, PathText, Reply};
use crate::control::report::{FailedFile, PrefetchReport, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Without a terminal, a line of progress comes after so many percent more, …
const LINE_EVERY_PERCENT: u64 = 10;
/// … or after so many milliseconds.
const LINE_EVERY_MS: u64 = 30_000;

/// What is to be prefetched, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// Files, and folders with all that is below them.
    pub paths: &'a [PathBuf],
    /// More of these, after them.
    pub list: Option<PathList<'a>>,
    /// Nothing but the ranges of this profile; the path tells the mount.
    pub profile: Option<&'a Path>,
    /// Nothing but this part of the file: where it begins and how long it is, in bytes.
    pub range: Option<(u64, u64)>,
    /// Fetch nothing: say what is there.
    pub check: bool,
    /// Return when it has begun.
    pub no_wait: bool,
    /// Ask for no more than so many bytes in any second.
    pub rate: Option<u64>,
}

/// Fetch what is asked for into the cache, and return when all of it is durable on disk, or has begun with `no_wait`.
/// Returns the exit code.
pub fn prefetch(desk: &Desk, asked: &Asked<'_>, screen: &mut Screen<'_>) -> u8 {
    match run(desk, asked, screen) {
        Ok(code) => code,
        Err(error) => screen.fail(&error),
    }
}

fn run(desk: &Desk, asked: &Asked<'_>, screen: &mut Screen<'_>) -> Result<u8, ClientError> {
    let Wanted { target, paths, ranges, places } = wanted(desk, asked)?;
    if asked.check {
        return check(desk, &target, paths, places, screen);
    }
    let command = fitting(Command::Prefetch { paths, wait: !asked.no_wait, ranges, rate: asked.rate })?;
    let connection = desk.connect(&target.mount)?;
    let mut show = Show { places, ..Show::new(screen, &target.mount.mountpoint) };
    let answer = connection.run(&command, |reply| show.hear(reply));
    let failed = show.end();
    let report = prefetch_of(answer?)?;
    Ok(show_end(&report, failed, screen))
}

/// What a request asks for.
struct Wanted {
    target: Target,
    paths: Vec<PathText>,
    ranges: Vec<AskedRange>,
    places: HashMap<Vec<u8>, String>,
}

fn wanted(desk: &Desk, asked: &Asked<'_>) -> Result<Wanted, ClientError> {
    let one_path = |name: &str, what: &str| match asked.paths.len() {
        0 | 1 => Ok(asked.paths.first().map(PathBuf::as_path)),
        _ => Err(ClientError::Input { name: name.to_owned(), why: format!("{what}: give one PATH, not several") }),
    };
    if let Some(file) = asked.profile {
        let target = desk.find_or_here(one_path("--profile", "it names files of one mount, which PATH tells")?)?;
        let Profile { paths, ranges, lines } = Profile::read(file)?;
        let place = |(path, line): (&PathText, u64)| (path.0.clone(), format!("{}:{line}", file.display()));
        let places = paths.iter().zip(lines).map(place).collect();
        return Ok(Wanted { target, paths, ranges, places });
    }
    let mut given: Vec<Given> = asked.paths.iter().map(Given::from).collect();
    if let Some(list) = &asked.list {
        given.extend(list.read(&mut std::io::stdin().lock())?);
    }
    let (target, paths) = on_one_mount(desk, &given)?;
    let ranges = match asked.range {
        Some((offset_bytes, bytes)) => {
            one_path("--range", "it is a part of one file")?;
            vec![AskedRange(0, offset_bytes, bytes)]
        }
        None => Vec::new(),
    };
    let places = places(given, &paths);
    Ok(Wanted { target, paths, ranges, places })
}

/// Where paths stand in a list, by what the daemon calls them.
fn places(given: Vec<Given>, relative: &[PathText]) -> HashMap<Vec<u8>, String> {
    let listed = given.into_iter().zip(relative).filter_map(|(given, path)| Some((path.0.clone(), given.place?)));
    listed.collect()
}

fn show_end(report: &PrefetchReport, failed: u64, screen: &mut Screen<'_>) -> u8 {
    let progress = &report.progress;
    let failed = failed.max(progress.files_failed);
    if screen.json {
        screen.say_json(&serde_json::json!({ "result": report }));
    } else if !report.finished {
        screen.say(&format!("{}\n", report.job));
    } else {
        screen.say(&format!(
            "{} of {} files, {}, durable on disk after {}; {} fetched for it\n",
            progress.files_done,
            progress.files_total,
            bytes(progress.bytes_done),
            length(progress.elapsed_ms),
            bytes(report.bytes_fetched)
        ));
    }
    match failed {
        0 => 0,
        _ => {
            screen.complain(&format!("braidfs: {failed} files failed\n"));
            1
        }
    }
}

/// Shows a prefetch while it runs: a bar, lines, or JSON.
pub(super) struct Show<'s, 'a> {
    screen: &'s mut Screen<'a>,
    mountpoint: &'s Path,
    places: HashMap<Vec<u8>, String>,
    bar: Option<ProgressBar>,
    failed: u64,
    last: Option<Progress>,
}

impl<'s, 'a> Show<'s, 'a> {
    /// Of what ends soon.
    pub(super) fn without_bar(
        screen: &'s mut Screen<'a>,
        mountpoint: &'s Path,
        places: HashMap<Vec<u8>, String>,
    ) -> Show<'s, 'a> {
        Show { screen, mountpoint, places, bar: None, failed: 0, last: None }
    }

    fn new(screen: &'s mut Screen<'a>, mountpoint: &'s Path) -> Show<'s, 'a> {
        let bar = (screen.is_terminal && !screen.json).then(|| {
            let template =
                "{wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left\n{msg}";
            let style = ProgressStyle::with_template(template).expect("the template is a constant, drawn in a test");
            ProgressBar::new(0).with_style(style)
        });
        Show { screen, mountpoint, places: HashMap::new(), bar, failed: 0, last: None }
    }

    pub(super) fn hear(&mut self, reply: Reply) {
        if self.screen.json && reply != Reply::Alive {
            self.screen.say_json(&reply);
        }
        match reply {
            Reply::Failed(file) => {
                self.failed += 1;
                self.complain(&file);
            }
            Reply::Progress(progress) => match &self.bar {
                Some(bar) => {
                    let listing = if progress.listing { ", still listing" } else { "" };
                    bar.set_length(progress.bytes_total);
                    bar.set_position(progress.bytes_done);
                    let waiting = plain(&progress.waiting_text());
                    let (done, all) = (progress.files_done, progress.files_total);
                    bar.set_message(format!("{done} of {all} files{listing}{waiting}{}", from_text(&progress)));
                }
                None if !self.screen.json => self.line(progress),
                None => {}
            },
            Reply::Alive
            | Reply::Damaged(_)
            | Reply::Access(_)
            | Reply::Decision(_)
            | Reply::Result(_)
            | Reply::Error(_) => {}
        }
    }

    fn complain(&mut self, file: &FailedFile) {
        let path = self.mountpoint.join(String::from_utf8_lossy(&file.path.0).as_ref());
        let place = self.places.get(&file.path.0).map_or(String::new(), |place| format!("{}: ", plain(place)));
        let text = format!("{place}{}: {}\n", plain(&path.display().to_string()), plain(&file.reason));
        let screen = &mut *self.screen;
        match &self.bar {
            Some(bar) => bar.suspend(|| screen.complain(&text)),
            None => screen.complain(&text),
        }
    }

    fn line(&mut self, progress: Progress) {
        let percent = |progress: &Progress| progress.bytes_done * 100 / progress.bytes_total.max(1);
        let is_due = self.last.as_ref().is_none_or(|last| {
            percent(&progress) >= percent(last) + LINE_EVERY_PERCENT
                || progress.elapsed_ms >= last.elapsed_ms + LINE_EVERY_MS
                || progress.waits_until != last.waits_until
        });
        if is_due {
            self.screen.complain(&line_text(&progress, self.last.as_ref()));
            self.last = Some(progress);
        }
    }

    fn end(self) -> u64 {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        self.failed
    }
}

/// Rate and time left go by what came since the line `before`: what was there when the job began cost no time.
fn line_text(progress: &Progress, before: Option<&Progress>) -> String {
    let since = |before: &Progress| {
        let elapsed_ms = progress.elapsed_ms.saturating_sub(before.elapsed_ms);
        progress.bytes_done.saturating_sub(before.bytes_done) as f64 * 1e3 / elapsed_ms.max(1) as f64
    };
    let bytes_per_second = before.map(since);
    let left = progress.bytes_total.saturating_sub(progress.bytes_done) as f64;
    let left = match (progress.listing, bytes_per_second) {
        (true, _) => ", still listing".to_owned(),
        (false, Some(rate)) if rate >= 1.0 => format!(", {} left", length((left / rate * 1e3) as u64)),
        (false, _) => String::new(),
    };
    format!(
        "{} of {} ({} %), {} of {} files{}{left}{}{}\n",
        bytes(progress.bytes_done),
        bytes(progress.bytes_total),
        progress.bytes_done * 100 / progress.bytes_total.max(1),
        progress.files_done,
        progress.files_total,
        bytes_per_second.map_or(String::new(), |bytes_per_second| format!(", {}", rate(bytes_per_second))),
        plain(&progress.waiting_text()),
        from_text(progress)
    )
}

/// Who brings it.
fn from_text(progress: &Progress) -> String {
    match plain(&progress.shares_text()) {
        shares if shares.is_empty() => shares,
        shares => format!("; from {shares}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::PathText;
    use crate::control::report::MirrorShare;

    #[test]
    fn a_line_has_rate_and_time_left() {
        let progress = Progress {
            bytes_done: 1 << 20,
            bytes_total: 4 << 20,
            files_done: 1,
            files_total: 5,
            elapsed_ms: 1000,
            ..Progress::default()
        };
        let before = Progress { bytes_done: 1 << 19, elapsed_ms: 500, ..progress.clone() };
        let text = |progress: &Progress| line_text(progress, Some(&before));
        assert_eq!(text(&progress), "1.00 MiB of 4.00 MiB (25 %), 1 of 5 files, 1.00 MiB/s, 3.0 s left\n");
        assert_eq!(line_text(&progress, None), "1.00 MiB of 4.00 MiB (25 %), 1 of 5 files\n");
        let waits = Progress { files_waiting: 4, waits_until: Some("01:00".into()), ..progress.clone() };
        assert!(text(&waits).ends_with("left, 4 files wait until 01:00\n"));
        let listing = Progress { listing: true, ..progress.clone() };
        assert!(text(&listing).ends_with("1.00 MiB/s, still listing\n"));
        assert_eq!(line_text(&Progress::default(), None), "0 B of 0 B (0 %), 0 of 0 files\n");
        let share = |url: &str, bytes_fetched| MirrorShare { url: url.into(), bytes_fetched };
        let shares =
            vec![share("http://a:80/", 600), share("https://b/c/", 300), share("http://d/", 99), share("http://e/", 1)];
        let shared = Progress { mirrors: shares, ..progress };
        assert!(text(&shared).ends_with("left; from a:80 60 %, b/c 30 %, d 10 %, 1 more\n"), "{}", text(&shared));
    }

    #[test]
    fn the_bar_can_be_drawn() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen { out: &mut out, err: &mut err, is_terminal: true, json: false };
        let mut show = Show::new(&mut screen, Path::new("/mnt"));
        show.hear(Reply::Progress(Progress { bytes_done: 5, bytes_total: 10, ..Progress::default() }));
        assert_eq!(show.bar.as_ref().map(|bar| (bar.position(), bar.length())), Some((5, Some(10))));
        show.hear(Reply::Failed(FailedFile { path: PathText(b"a/\xff\n".to_vec()), reason: "gone".into() }));
        assert_eq!(show.end(), 1);
        assert_eq!(String::from_utf8(err).unwrap(), "/mnt/a/\u{fffd}\u{fffd}: gone\n");
    }
}
