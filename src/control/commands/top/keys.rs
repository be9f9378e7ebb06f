//! What keys do.

use super::model::Model;
use crate::control::protocol::{Command, MirrorChange};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// The keys, for the last line of the screen.
pub const HELP: &[(&str, &str)] = &[
    ("q", "quit"),
    ("p", "pause"),
    ("s", "strategy"),
    ("o", "order"),
    ("↑↓", "mirror"),
    ("+-", "weight"),
    ("x", "take out, put back"),
];
/// A press of + or - is so much of a mirror's weight.
const WEIGHT_STEP: f64 = 2.0;

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
pub enum Act {
    /// Nothing but to draw.
    Nothing,
    /// The end.
    Quit,
    /// The daemon shall do this; it answers with its mirrors.
    Order(Command),
}

/// A key was pressed.
pub fn press(model: &mut Model, key: KeyEvent) -> Act {
    if key.kind == KeyEventKind::Release {
        return Act::Nothing;
    }
    model.refused = None;
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Act::Quit,
        KeyCode::Char('q') | KeyCode::Esc => return Act::Quit,
        KeyCode::Char('p') => model.is_paused = !model.is_paused,
        KeyCode::Char('o') => model.sort = model.sort.next(),
        KeyCode::Down | KeyCode::Char('j') => model.select(true),
        KeyCode::Up | KeyCode::Char('k') => model.select(false),
        KeyCode::Char('s') => return next_strategy(model),
        KeyCode::Char('+') => return weighted(model, WEIGHT_STEP),
        KeyCode::Char('-') => return weighted(model, 1.0 / WEIGHT_STEP),
        KeyCode::Char('x') => return taken_out_or_back(model),
        _ => {}
    }
    Act::Nothing
}

fn next_strategy(model: &Model) -> Act {
    let Some((_, report)) = model.seen() else { return Act::Nothing };
    let at = report.strategies.iter().position(|name| *name == report.strategy);
    // A daemon of an earlier version does not say which there are.
    let Some(next) = report.strategies.iter().cycle().nth(at.map_or(0, |at| at + 1)) else { return Act::Nothing };
    Act::Order(Command::Mirrors { strategy: Some(next.clone()), change: None })
}

fn changed(change: MirrorChange) -> Act {
    Act::Order(Command::Mirrors { strategy: None, change: Some(change) })
}

fn weighted(model: &Model, factor: f64) -> Act {
    let Some(mirror) = model.selected_mirror() else { return Act::Nothing };
    let weight = (mirror.base_weight * factor).clamp(0.1, 100.0);
    changed(MirrorChange { url: mirror.status.url.clone(), weight: Some(weight), in_use: None })
}

fn taken_out_or_back(model: &Model) -> Act {
    let Some(url) = model.selected.clone() else { return Act::Nothing };
    let in_use = model.selected_mirror().is_none();
    changed(MirrorChange { url, weight: None, in_use: Some(in_use) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::{MirrorDetail, MirrorReport, MirrorsReport, StatusReport};

    fn model() -> Model {
        let mirror = |url: &str| MirrorDetail {
            status: MirrorReport { url: url.into(), ..MirrorReport::default() },
            base_weight: 80.0,
            ..MirrorDetail::default()
        };
        let mirrors = MirrorsReport {
            strategy: "first".into(),
            strategies: ["other", "first"].map(str::to_owned).to_vec(),
            mirrors: vec![mirror("http://a/"), mirror("http://b/")],
            taken_out: vec!["http://c/".into()],
            ..MirrorsReport::default()
        };
        let mut model = Model::default();
        model.hear(1.0, StatusReport::default(), mirrors);
        model
    }

    fn typed(model: &mut Model, keys: &str) -> Act {
        keys.chars().fold(Act::Nothing, |_, key| press(model, KeyEvent::from(KeyCode::Char(key))))
    }

    #[test]
    fn keys_change_the_view_or_give_orders() {
        let mut model = model();
        assert_eq!(typed(&mut model, "q"), Act::Quit);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(press(&mut model, interrupt), Act::Quit);
        assert_eq!((typed(&mut model, "p"), model.is_paused), (Act::Nothing, true));
        assert_eq!(typed(&mut model, "+"), Act::Nothing, "no mirror is selected");
        let Act::Order(Command::Mirrors { strategy: Some(name), change: None }) = typed(&mut model, "s") else {
            panic!()
        };
        assert_eq!(name, "other");
        let change = |act| match act {
            Act::Order(Command::Mirrors { strategy: None, change: Some(change) }) => change,
            other => panic!("{other:?}"),
        };
        let heavier = change(typed(&mut model, "jj+"));
        assert_eq!((heavier.url.as_str(), heavier.weight, heavier.in_use), ("http://b/", Some(100.0), None));
        let out = change(typed(&mut model, "x"));
        assert_eq!((out.url.as_str(), out.in_use), ("http://b/", Some(false)));
        let back = change(typed(&mut model, "jjjx"));
        assert_eq!((back.url.as_str(), back.in_use), ("http://c/", Some(true)));
        assert_eq!(typed(&mut model, "+"), Act::Nothing, "who is out has no weight");
    }
}
