//! The `braidfs` command: what was typed, and what that means.

use braidfs::config::ab_command::AbCommand;
use braidfs::config::command_line::{Command, CommandLine, DemoCommand, MirrorsCommand, MountCommand, PathsCommand};
use braidfs::config::defaults::Surroundings;
use braidfs::config::generate::generate;
use braidfs::config::logging::LogLevel;
use braidfs::config::mount_helper::helper_name;
use braidfs::config::plan::{MountPlan, plan_mount};
use braidfs::config::show::config;
use braidfs::config::simulate_command::SimulateCommand;
use braidfs::control::client::Desk;
use braidfs::control::commands::{self, Screen};
use braidfs::control::protocol::MirrorChange;
use braidfs::control::server::Keeping;
use braidfs::scheduler::Strategy;
use braidfs::{clock, demo, doctor, mount, simulate};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    if let Some(name) = words.first().and_then(|program| helper_name(program)) {
        return called_by_mount(name, &words[1..]);
    }
    let line = match CommandLine::read(words.clone()) {
        Ok(line) => line,
        Err(error) => {
            // Help and version come this way too. A closed stdout is nobody's loss.
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    let around = match Surroundings::of_process() {
        Ok(around) => around,
        Err(error) => return failed(&error.into()),
    };
    let desk = Desk::new(around.cwd.clone(), around.xdg_runtime_dir.clone());
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let is_terminal = err.is_terminal();
    let json = is_json(&line.command);
    let screen = &mut Screen { out: &mut out, err: &mut err, is_terminal, json };
    let done = match &line.command {
        Command::Mount(command) => return mount(command, &words, &around).unwrap_or_else(|error| failed(&error)),
        Command::Demo(command) => demo(command, line.verbose, &around),
        Command::Simulate(asked) => simulate(asked, screen.out),
        Command::Config(asked) => config(&asked.what, &around, screen.out),
        Command::Generate(asked) => generate(&asked.what, screen.out),
        Command::Status(asked) => {
            return ExitCode::from(commands::status(&desk, asked.path.as_deref(), screen));
        }
        Command::Stat(asked) => return ExitCode::from(commands::stat(&desk, &asked.paths, screen)),
        Command::Mirrors(asked) => {
            let strategy = asked.strategy.map(Strategy::name);
            let change = mirror_change(asked);
            return ExitCode::from(commands::mirrors(&desk, asked.path.as_deref(), strategy, change, screen));
        }
        Command::Top(asked) => {
            return ExitCode::from(commands::top(&desk, asked.path.as_deref(), asked.once, seconds, screen));
        }
        Command::Web(asked) => return ExitCode::from(commands::web(&desk, asked.path.as_deref(), screen)),
        Command::Explain(asked) => {
            return ExitCode::from(commands::explain(&desk, asked.path.as_deref(), asked.last, screen));
        }
        Command::Prefetch(asked) => {
            return ExitCode::from(match asked.recording() {
                Some(recording) => commands::record(&desk, &recording, screen),
                None => commands::prefetch(&desk, &asked.what(), screen),
            });
        }
        Command::List(_) => return ExitCode::from(commands::list(&desk, screen)),
        Command::Jobs(asked) => return ExitCode::from(commands::jobs(&desk, asked.path.as_deref(), screen)),
        Command::Cancel(asked) => {
            return ExitCode::from(commands::cancel(&desk, asked.job, asked.path.as_deref(), screen));
        }
        Command::Reload(asked) => return ExitCode::from(commands::reload(&desk, asked.path.as_deref(), screen)),
        Command::Ab(asked) => return ab(&desk, asked, screen),
        Command::Pin(asked) => return keep(&desk, Keeping::Pin, asked, screen),
        Command::Unpin(asked) => return keep(&desk, Keeping::Unpin, asked, screen),
        Command::Evict(asked) => return keep(&desk, Keeping::Evict, asked, screen),
        Command::Verify(asked) => return keep(&desk, Keeping::Verify, asked, screen),
        Command::Doctor(asked) => return ExitCode::from(doctor::run(asked, &around, &desk, screen)),
        Command::Bench(asked) => return ExitCode::from(doctor::bench::run(asked, &desk, screen)),
        Command::Umount(asked) => {
            return ExitCode::from(commands::umount(&desk, &asked.path, asked.lazy, screen));
        }
    };
    done.map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

fn is_json(command: &Command) -> bool {
    match command {
        Command::Status(asked) => asked.json,
        Command::Stat(asked) => asked.json,
        Command::Mirrors(asked) => asked.json,
        Command::Web(asked) => asked.json,
        Command::Explain(asked) => asked.json,
        Command::List(asked) => asked.json,
        Command::Prefetch(asked) => asked.json,
        Command::Jobs(asked) => asked.json,
        Command::Cancel(asked) => asked.json,
        Command::Pin(asked) | Command::Unpin(asked) | Command::Evict(asked) | Command::Verify(asked) => asked.json,
        Command::Reload(asked) => asked.json,
        Command::Ab(asked) => asked.json,
        Command::Umount(asked) => asked.json,
        Command::Doctor(asked) => asked.json,
        Command::Bench(asked) => asked.json,
        Command::Top(_)
        | Command::Mount(_)
        | Command::Demo(_)
        | Command::Simulate(_)
        | Command::Config(_)
        | Command::Generate(_) => false,
    }
}

fn seconds() -> f64 {
    clock::now().seconds_since(clock::Time(0))
}

fn mirror_change(asked: &MirrorsCommand) -> Option<MirrorChange> {
    let change = |url: &String, weight, in_use| MirrorChange { url: url.clone(), weight, in_use };
    let weighted = asked.weight.as_ref().map(|(url, weight)| change(url, Some(*weight), None));
    let out = asked.out.as_ref().map(|url| change(url, None, Some(false)));
    weighted.or(out).or(asked.back.as_ref().map(|url| change(url, None, Some(true))))
}

fn ab(desk: &Desk, asked: &AbCommand, screen: &mut Screen<'_>) -> ExitCode {
    ExitCode::from(commands::ab(desk, asked.path.as_deref(), &asked.what(), screen))
}

fn keep(desk: &Desk, what: Keeping, asked: &PathsCommand, screen: &mut Screen<'_>) -> ExitCode {
    ExitCode::from(commands::keep(desk, what, &asked.paths, screen))
}

fn mount(command: &MountCommand, words: &[OsString], around: &Surroundings) -> anyhow::Result<ExitCode> {
    let plan: MountPlan = plan_mount(command, around)?;
    let readiness = mount::Readiness::of_process();
    if plan.background && !readiness.is_in_background() {
        mount::go_to_background(words)?;
        return Ok(ExitCode::SUCCESS);
    }
    let logs_its_end = mount::start_log(&plan, around.supervisor.stderr_is_journal)?;
    match mount::run(&plan, around, || readiness.say()) {
        Err(error) if logs_its_end => {
            mount::log_failure(&error);
            Ok(ExitCode::FAILURE)
        }
        done => done.map(|()| ExitCode::SUCCESS),
    }
}

fn called_by_mount(name: &str, words: &[OsString]) -> ExitCode {
    match Surroundings::of_process() {
        Ok(around) => ExitCode::from(mount::mount_helper::run(name, words, &around)),
        Err(error) => failed(&error.into()),
    }
}

fn demo(command: &DemoCommand, verbose: u8, around: &Surroundings) -> anyhow::Result<()> {
    mount::log_to_stderr(LogLevel::of_verbose(verbose).unwrap_or_default())?;
    demo::run(command, around)
}

fn simulate(command: &SimulateCommand, out: &mut dyn std::io::Write) -> anyhow::Result<()> {
    let request = command.request()?;
    // A closed stdout is nobody's loss.
    simulate::command::run(&request, &mut || clock::now().0, &mut |text| drop(out.write_all(text.as_bytes())));
    Ok(())
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("braidfs: {error:#}");
    ExitCode::FAILURE
}
