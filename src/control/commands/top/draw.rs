//! A frame of `top`.

use super::keys::HELP;
use super::model::{Model, Rates};
use crate::control::human::{bytes, length, plain, rate};
use crate::control::reading::ReadingReport;
use crate::control::report::{JobReport, MirrorDetail, MirrorReport, MirrorsReport, StatusReport};
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, RenderDirection, Row, Sparkline, Table, TableState};

/// Below this nothing can be told from anything.
const WIDTH_MIN: u16 = 60;
const HEIGHT_MIN: u16 = 16;
/// Lines of the two charts, their frames included.
const CHARTS_HEIGHT: u16 = 6;
/// Jobs that are shown.
const JOBS_MAX: usize = 3;
/// Columns of a mirror's bar.
const BAR_COLUMNS: usize = 12;
/// Columns of a mirror's state at least: `half-open`.
const STATE_COLUMNS: u16 = 9;
/// Columns of a mirror's row beside its URL and its state, and those between columns.
const OTHER_COLUMNS: u16 = 1 + BAR_COLUMNS as u16 + 12 + 10 + 6 + 6 + 6 + 8;

/// Draw all of it.
pub fn draw(frame: &mut Frame<'_>, model: &Model) {
    let area = frame.area();
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        let text =
            format!("This terminal has {} x {}:\nmake it {WIDTH_MIN} x {HEIGHT_MIN} or more.", area.width, area.height);
        return frame.render_widget(Paragraph::new(text), area);
    }
    let Some((status, report)) = model.seen() else {
        let text = model.trouble.clone().unwrap_or_else(|| "…".to_owned());
        return frame.render_widget(Paragraph::new(plain(&text)), area);
    };
    let jobs: Vec<&JobReport> = status.jobs.iter().filter(|job| job.state == "running").take(JOBS_MAX).collect();
    let mirrors = u16::try_from(report.mirrors.len() + report.taken_out.len()).unwrap_or(u16::MAX);
    let parts = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(CHARTS_HEIGHT),
        Constraint::Length(2),
        // A head and a blank line beside the rows; files have what is left.
        Constraint::Length((mirrors + 2).min(area.height / 3)),
        Constraint::Min(2),
        Constraint::Length(jobs.len() as u16),
        Constraint::Length(1),
    ])
    .split(area);
    frame.render_widget(title(model, status, report), parts[0]);
    charts(frame, parts[1], model);
    frame.render_widget(Paragraph::new(vec![cache_line(status), wait_line(status, report)]), parts[2]);
    // Scrolled so that the selected one can be seen.
    let at = model.selected.as_ref().and_then(|url| model.urls().iter().position(|known| known == url));
    let mut state = TableState::default().with_selected(at);
    frame.render_stateful_widget(mirrors_table(model, report, parts[3].width), parts[3], &mut state);
    frame.render_widget(files_table(model, &status.files), parts[4]);
    frame.render_widget(Paragraph::new(jobs.into_iter().map(job_line).collect::<Vec<_>>()), parts[5]);
    frame.render_widget(help(model), parts[6]);
}

/// The letters of a frame, without blanks at the ends of lines.
pub fn text(buffer: &Buffer) -> String {
    let line = |y: u16| (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    let lines: Vec<String> = (0..buffer.area.height).map(|y| line(y).trim_end().to_owned()).collect();
    let end = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |at| at + 1);
    lines[..end].iter().map(|line| format!("{line}\n")).collect()
}

fn state_colour(state: &str) -> Color {
    match state {
        "online" | "closed" => Color::Green,
        "offline" | "open" => Color::Red,
        _ => Color::Yellow,
    }
}

fn title<'a>(model: &Model, status: &StatusReport, report: &MirrorsReport) -> Line<'a> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut spans = vec![
        Span::styled(plain(&status.mountpoint), bold),
        Span::raw(format!("  {}  ", plain(&status.name))),
        Span::styled(plain(&status.state), Style::new().fg(state_colour(&status.state))),
        Span::raw(format!("  for {}  {}", length((status.uptime_s * 1e3) as u64), plain(&report.strategy))),
    ];
    if let Some(trouble) = model.trouble.as_ref().or(model.refused.as_ref()) {
        spans.push(Span::styled(format!("  {}", plain(trouble)), Style::new().fg(Color::Red)));
    } else if model.is_paused {
        spans.push(Span::styled("  paused", Style::new().fg(Color::Yellow)));
    }
    Line::from(spans)
}

fn charts(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let halves = Layout::horizontal([Constraint::Ratio(1, 2); 2]).split(area);
    let last = model.history.back().copied().unwrap_or_default();
    let of =
        |part: fn(&Rates) -> f64| -> Vec<u64> { model.history.iter().rev().map(|rates| part(rates) as u64).collect() };
    let all = [("read", last.read, of(|rates| rates.read)), ("fetched", last.fetched, of(|rates| rates.fetched))];
    for ((name, now, history), half) in all.into_iter().zip(halves.iter()) {
        let most = history.iter().copied().max().unwrap_or(0);
        let title = format!(" {name} {}, at most {} ", rate(now), rate(most as f64));
        let colour = if name == "read" { Color::Cyan } else { Color::Blue };
        // The newest is at the right end.
        let chart = Sparkline::default()
            .block(Block::bordered().title(title))
            .data(history)
            .direction(RenderDirection::RightToLeft)
            .style(Style::new().fg(colour));
        frame.render_widget(chart, *half);
    }
}

fn cache_line<'a>(status: &StatusReport) -> Line<'a> {
    let hits = status.hit_ratio.map_or("-".to_owned(), |ratio| format!("{:.0} %", ratio * 100.0));
    let amplification = status.read_amplification.map_or("-".to_owned(), |factor| format!("{factor:.2}"));
    let disk = match status.disk_limit {
        0 => "none".to_owned(),
        limit => format!("{} of {} ({})", bytes(status.disk_bytes), bytes(limit), plain(&status.disk_state)),
    };
    Line::from(format!(
        "without waiting {hits}   fetched per byte read {amplification}   memory {} of {}   disk {disk}",
        bytes(status.memory_bytes),
        bytes(status.memory_limit)
    ))
}

fn wait_line<'a>(status: &StatusReport, report: &MirrorsReport) -> Line<'a> {
    let oldest =
        status.oldest_operation_ms.map_or("nothing waits".to_owned(), |ms| format!("oldest wait {}", length(ms)));
    let p99 = report
        .demand_p99_ms
        .map_or(String::new(), |ms| format!("   P99 {ms:.0} ms of {:.0}", report.demand_objective_ms));
    let errors = if status.read_errors > 0 { format!("   {} reads failed", status.read_errors) } else { String::new() };
    let style = if status.read_errors > 0 { Style::new().fg(Color::Red) } else { Style::new() };
    Line::from(vec![Span::raw(format!("{oldest}{p99}")), Span::styled(errors, style)])
}

fn mirrors_table<'a>(model: &Model, report: &MirrorsReport, columns: u16) -> Table<'a> {
    let most = model.mirror_rates.values().copied().fold(1.0, f64::max);
    let mut rows: Vec<Row<'a>> = model.mirrors().into_iter().map(|mirror| mirror_row(model, mirror, most)).collect();
    rows.extend(report.taken_out.iter().map(|url| {
        let cells = [mark(model, url), plain(url), "out".to_owned()].map(Span::raw);
        Row::new(cells).style(Style::new().add_modifier(Modifier::DIM))
    }));
    let head = ["", "MIRROR", "STATE", "", "RATE", "FIRST BYTE", "SHARE", "WEIGHT", "FAILED"];
    // What is left of URLs goes to why mirrors are left alone.
    let urls = report
        .mirrors
        .iter()
        .map(|mirror| mirror.status.url.as_str())
        .chain(report.taken_out.iter().map(String::as_str));
    let longest_url = longest(urls.map(str::len));
    let longest_state = longest(report.mirrors.iter().map(|mirror| state_text(&mirror.status).len()));
    let room = columns.saturating_sub(OTHER_COLUMNS).saturating_sub(longest_url);
    let state_columns = longest_state.min(room).max(STATE_COLUMNS);
    let widths = [1, 0, state_columns, BAR_COLUMNS as u16, 12, 10, 6, 6, 6].map(|width| match width {
        0 => Constraint::Min(12),
        width => Constraint::Length(width),
    });
    Table::new(rows, widths).header(Row::new(head).style(Style::new().add_modifier(Modifier::BOLD)))
}

/// The columns of the longest of some texts: more than a terminal can have count as that.
fn longest(lengths: impl Iterator<Item = usize>) -> u16 {
    lengths.max().map_or(0, |length| u16::try_from(length).unwrap_or(u16::MAX))
}

fn mark(model: &Model, url: &str) -> String {
    if model.selected.as_deref() == Some(url) { ">" } else { "" }.to_owned()
}

fn state_text(status: &MirrorReport) -> String {
    status.reason.as_ref().map_or_else(|| status.state.clone(), |reason| format!("{} {reason}", status.state))
}

fn mirror_row<'a>(model: &Model, mirror: &MirrorDetail, most: f64) -> Row<'a> {
    let status = &mirror.status;
    let now = model.mirror_rates.get(&status.url).copied().unwrap_or(0.0);
    let filled = ((now / most) * BAR_COLUMNS as f64).round() as usize;
    let colour = state_colour(&status.state);
    Row::new([
        Span::raw(mark(model, &status.url)),
        Span::raw(plain(&status.url)),
        Span::styled(plain(&state_text(status)), Style::new().fg(colour)),
        Span::styled("█".repeat(filled.min(BAR_COLUMNS)), Style::new().fg(colour)),
        Span::raw(rate(now)),
        Span::raw(status.time_to_first_byte_ms.map_or("-".to_owned(), |ms| format!("{ms:.1} ms"))),
        Span::raw(mirror.bytes_share.map_or("-".to_owned(), |share| format!("{:.0} %", share * 100.0))),
        Span::raw(format!("{:.1}", mirror.base_weight)),
        Span::raw(status.failures.to_string()),
    ])
}

fn files_table<'a>(model: &Model, files: &[ReadingReport]) -> Table<'a> {
    let rows = files.iter().map(|file| {
        let now = model.file_rates.get(&file.path.0).copied().unwrap_or(0.0);
        Row::new([
            Line::from(plain(&String::from_utf8_lossy(&file.path.0))),
            Line::from(bytes(file.size)),
            Line::from(rate(now)),
            map_line(&file.map),
        ])
    });
    let head = ["FILE", "SIZE", "RATE", "# disk  m memory  : part  > coming"];
    let widths = [Constraint::Min(16), Constraint::Length(10), Constraint::Length(12), Constraint::Length(64)];
    Table::new(rows.collect::<Vec<_>>(), widths).header(Row::new(head).style(Style::new().add_modifier(Modifier::BOLD)))
}

/// Letters of one kind together, each kind in its colour.
fn map_line<'a>(map: &str) -> Line<'a> {
    let letters: Vec<char> = map.chars().collect();
    let spans = letters.chunk_by(|one, other| one == other).map(|run| {
        let colour = match run[0] {
            '#' => Color::Green,
            'm' => Color::Cyan,
            ':' => Color::Blue,
            '>' => Color::Yellow,
            _ => Color::DarkGray,
        };
        Span::styled(run.iter().collect::<String>(), Style::new().fg(colour))
    });
    Line::from(spans.collect::<Vec<_>>())
}

fn job_line<'a>(job: &JobReport) -> Line<'a> {
    let progress = &job.progress;
    let percent = progress.bytes_done * 100 / progress.bytes_total.max(1);
    Line::from(format!(
        "job {}: {percent} %, {} of {}, {} of {} files{}",
        job.job,
        bytes(progress.bytes_done),
        bytes(progress.bytes_total),
        progress.files_done,
        progress.files_total,
        plain(&progress.waiting_text())
    ))
}

fn help<'a>(model: &Model) -> Line<'a> {
    let key = Style::new().add_modifier(Modifier::REVERSED);
    let keys = HELP.iter().flat_map(|(name, what)| [Span::styled(*name, key), Span::raw(format!(" {what}  "))]);
    Line::from(keys.chain([Span::raw(format!("(order: {})", model.sort.name()))]).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::super::keys::press;
    use super::*;
    use crate::control::protocol::PathText;
    use crate::control::report::Progress;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent};

    fn frame(model: &Model, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        text(terminal.draw(|frame| draw(frame, model)).unwrap().buffer)
    }

    /// Two mirrors and a file, `seconds` after the mount.
    fn heard(seconds: u64) -> (StatusReport, MirrorsReport) {
        let mirror = |url: &str, state: &str, rate: u64| MirrorDetail {
            status: MirrorReport {
                url: url.into(),
                state: state.into(),
                reason: (state == "open").then(|| "unreachable".into()),
                bytes_fetched: rate * seconds,
                ..MirrorReport::default()
            },
            base_weight: 1.0,
            ..MirrorDetail::default()
        };
        let file = ReadingReport {
            path: PathText(b"big/a\x1b.bin".to_vec()),
            size: 64 << 20,
            bytes_read: (5 << 20) * seconds,
            map: "##>..".into(),
            ..ReadingReport::default()
        };
        let progress = Progress { bytes_done: 30, bytes_total: 120, files_total: 9, ..Progress::default() };
        let status = StatusReport {
            mountpoint: "/mnt/data".into(),
            name: "recordings".into(),
            state: "online".into(),
            bytes_read: (5 << 20) * seconds,
            bytes_fetched: (4 << 20) * seconds,
            hit_ratio: Some(0.93),
            files: vec![file],
            jobs: vec![JobReport { job: 7, state: "running".into(), progress, ..JobReport::default() }],
            ..StatusReport::default()
        };
        let mirrors = vec![mirror("http://slow/", "open", 0), mirror("http://fast/", "closed", 4 << 20)];
        let taken_out = vec!["http://gone/".to_owned()];
        (status, MirrorsReport { strategy: "adaptive".into(), mirrors, taken_out, ..MirrorsReport::default() })
    }

    fn model() -> Model {
        let mut model = Model::default();
        for seconds in [1, 2, 3] {
            let (status, mirrors) = heard(seconds);
            model.hear(seconds as f64, status, mirrors);
        }
        model
    }

    #[test]
    fn a_person_sees_what_goes_on() {
        let mut model = model();
        let seen = frame(&model, 140, 30);
        for said in [
            "/mnt/data  recordings  online",
            "read 5.00 MiB/s, at most 5.00 MiB/s",
            "fetched 4.00 MiB/s",
            "without waiting 93 %",
            "nothing waits",
            "http://fast/",
            "████████████",
            "open unreachable  ",
            "big/a\u{fffd}.bin",
            "##>..",
            "job 7: 25 %, 30 B of 120 B",
            "q quit  p pause",
        ] {
            assert!(seen.contains(said), "{said:?} is not in\n{seen}");
        }
        let before = |seen: &str, one: &str, other: &str| seen.find(one) < seen.find(other);
        assert!(before(&seen, "http://slow/", "http://fast/") && before(&seen, "http://fast/", "http://gone/"));
        press(&mut model, KeyEvent::from(KeyCode::Char('o')));
        press(&mut model, KeyEvent::from(KeyCode::Down));
        let seen = frame(&model, 140, 30);
        assert!(before(&seen, "http://fast/", "http://slow/") && seen.contains("order: rate"), "{seen}");
        assert!(seen.contains(">http://fast/") || seen.contains("> http://fast/"), "{seen}");
    }

    #[test]
    fn a_url_that_no_terminal_holds_leaves_the_state_what_it_had() {
        let (status, mut report) = heard(1);
        report.mirrors[0].status.url = format!("http://{}/", "a".repeat(65_480));
        let mut model = Model::default();
        model.hear(1.0, status, report);
        let seen = frame(&model, 140, 30);
        assert!(seen.contains("open unre") && !seen.contains("open unreach"), "{seen}");
    }

    #[test]
    fn the_mirror_that_keys_are_about_is_always_seen() {
        let (status, mut report) = heard(1);
        let one = report.mirrors[1].clone();
        report.mirrors = (0..40)
            .map(|at| {
                let mut mirror = one.clone();
                mirror.status.url = format!("http://mirror-{at}/");
                mirror
            })
            .collect();
        let mut model = Model::default();
        model.hear(1.0, status, report);
        (0..30).for_each(|_| _ = press(&mut model, KeyEvent::from(KeyCode::Down)));
        let seen = frame(&model, 140, 30);
        assert!(seen.contains("http://mirror-29/") && !seen.contains("http://mirror-0/"), "{seen}");
    }

    #[test]
    fn a_daemon_that_is_gone_a_pause_and_a_small_terminal_are_said() {
        let mut model = model();
        model.trouble = Some("the daemon went away".into());
        assert!(frame(&model, 140, 30).contains("the daemon went away"));
        model.trouble = None;
        model.refused = Some("it is the only mirror".into());
        assert!(frame(&model, 140, 30).contains("it is the only mirror"));
        press(&mut model, KeyEvent::from(KeyCode::Char('p')));
        let (status, mirrors) = heard(1000);
        model.hear(1000.0, status, mirrors);
        let seen = frame(&model, 140, 30);
        assert!(seen.contains("paused") && seen.contains("read 5.00 MiB/s"), "{seen}");
        assert!(frame(&model, 40, 10).contains("make it 60 x 16 or more"));
        assert!(frame(&Model::default(), 80, 24).contains('…'));
        for (width, height) in [(60, 16), (61, 17), (200, 60)] {
            assert!(frame(&model, width, height).contains("quit"), "{width} x {height}");
        }
    }
}
