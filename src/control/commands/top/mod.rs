//! `braidfs top [PATH]`: what a mount does, as a screen that goes on.
//!
//! `model` is what is known and what the keys changed, `draw` makes a frame of it, `keys` changes it. All three are pure;
//! here are the terminal, the daemon and the time.

mod draw;
mod keys;
mod model;

use super::{Screen, mirrors_of, status_of, unexpected};
use crate::control::client::{ClientError, Desk, Target};
use crate::control::mountinfo::Mount;
use crate::control::protocol::Command;
use crate::control::report::{MirrorsReport, StatusReport};
use keys::Act;
use model::Model;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event};
use ratatui::{DefaultTerminal, Terminal};
use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How often the daemon is asked.
const PERIOD: Duration = Duration::from_millis(500);
/// How long a key may wait to be seen.
const KEYS_PERIOD: Duration = Duration::from_millis(50);
/// The screen that `--once` prints.
const ONCE: (u16, u16) = (100, 36);

/// What the daemon said.
type Said = Result<(StatusReport, MirrorsReport), ClientError>;

/// Show the mount of `path` until a key ends it; with `once` print one screen. Returns the exit code.
/// `seconds` tells the time, by any clock that only goes on.
pub fn top(desk: &Desk, path: Option<&Path>, once: bool, seconds: fn() -> f64, screen: &mut Screen<'_>) -> u8 {
    let target = match desk.find_or_here(path) {
        Ok(target) => target,
        Err(error) => return screen.fail(&error),
    };
    if once {
        return print_once(desk, &target, seconds, screen);
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        screen.complain("braidfs: top draws on a terminal, and this is none: use `braidfs top --once`, or `braidfs status --json`\n");
        return 1;
    }
    match watch(desk, &target, seconds) {
        Ok(()) => 0,
        Err(error) => {
            screen.complain(&format!("braidfs: the terminal: {error}\n"));
            1
        }
    }
}

fn print_once(desk: &Desk, target: &Target, seconds: fn() -> f64, screen: &mut Screen<'_>) -> u8 {
    let mut model = Model::default();
    // Rates are differences.
    for _ in 0..2 {
        match ask(desk, &target.mount, None) {
            Ok((status, mirrors)) => model.hear(seconds(), status, mirrors),
            Err(error) => return screen.fail(&error),
        }
        if !model.has_rates() {
            pause(PERIOD);
        }
    }
    let mut terminal = Terminal::new(TestBackend::new(ONCE.0, ONCE.1)).expect("it only writes to memory");
    let frame = terminal.draw(|frame| draw::draw(frame, &model)).expect("it only writes to memory");
    screen.say(&draw::text(frame.buffer));
    0
}

fn watch(desk: &Desk, target: &Target, seconds: fn() -> f64) -> io::Result<()> {
    let (orders, ordered) = channel();
    let (tell, said) = channel();
    let ended = end_by_signal()?;
    let (desk, mount) = (desk.clone(), target.mount.clone());
    // It ends with the program: what it waits for may take long.
    std::thread::spawn(move || follow(&desk, &mount, &ordered, &tell));
    // Puts the terminal back where this panics, too.
    let mut terminal = ratatui::try_init()?;
    let result = show(&mut terminal, seconds, &orders, &said, &ended);
    ratatui::try_restore()?;
    result
}

fn show(
    terminal: &mut DefaultTerminal,
    seconds: fn() -> f64,
    orders: &Sender<Command>,
    said: &Receiver<Said>,
    ended: &Receiver<()>,
) -> io::Result<()> {
    let mut model = Model::default();
    loop {
        for said in said.try_iter() {
            match said {
                Ok((status, mirrors)) => model.hear(seconds(), status, mirrors),
                // What was ordered is refused: that is no reason to hear nothing any more.
                Err(ClientError::Refused(refusal)) => model.refused = Some(refusal.to_string()),
                Err(error) => model.trouble = Some(error.to_string()),
            }
        }
        terminal.draw(|frame| draw::draw(frame, &model))?;
        if ended.try_recv().is_ok() {
            return Ok(());
        }
        if !event::poll(KEYS_PERIOD)? {
            continue;
        }
        // Resizing only draws anew.
        let Event::Key(key) = event::read()? else { continue };
        match keys::press(&mut model, key) {
            Act::Nothing => {}
            Act::Quit => return Ok(()),
            // Where nobody takes it, the thread is gone, and the screen says why.
            Act::Order(command) => _ = orders.send(command),
        }
    }
}

/// Ask again and again, and pass on what the keys order in between. A daemon that is gone is asked again too: it may be
/// back.
fn follow(desk: &Desk, mount: &Mount, orders: &Receiver<Command>, tell: &Sender<Said>) {
    let mut order = None;
    loop {
        let said = ask(desk, mount, order.take());
        if tell.send(said).is_err() {
            return;
        }
        match orders.recv_timeout(PERIOD) {
            Ok(command) => order = Some(command),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn ask(desk: &Desk, mount: &Mount, order: Option<Command>) -> Result<(StatusReport, MirrorsReport), ClientError> {
    // Found anew: after another mount in the same place it is another one.
    let path = &mount.mountpoint;
    let mount = desk.find_or_here(Some(path))?.mount;
    if mount.mountpoint != *path {
        return Err(unexpected());
    }
    let mirrors = order.unwrap_or(Command::Mirrors { strategy: None, change: None });
    let mirrors = mirrors_of(desk.connect(&mount)?.run(&mirrors, |_| {})?)?;
    let status = status_of(desk.connect(&mount)?.run(&Command::Status { path: None }, |_| {})?)?;
    Ok((status, mirrors))
}

/// Something is received once the program is asked to end. The terminal must be put back before.
fn end_by_signal() -> io::Result<Receiver<()>> {
    let (tell, ended) = channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate, mut hang_up) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
        });
        let _ = tell.send(());
    });
    Ok(ended)
}

#[allow(clippy::disallowed_methods, reason = "a rate takes two looks some time apart")]
fn pause(length: Duration) {
    std::thread::sleep(length);
}
