//! Which arms an experiment has, and how many of each hundred slices each gets.

use crate::scheduler::Strategy;
use std::fmt;
use std::str::FromStr;

/// A side of an experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arm {
    /// What is built in, whatever is configured.
    Control,
    /// What is configured now.
    Live,
    /// What is built in, but mirrors are chosen by the predictor.
    Predictor,
}

/// How many there are.
pub const ARMS: usize = 3;

impl Arm {
    /// All of them.
    pub const ALL: [Arm; ARMS] = [Arm::Control, Arm::Live, Arm::Predictor];
    /// Those that are compared with control.
    pub const COMPARED: [Arm; 2] = [Arm::Live, Arm::Predictor];

    /// How mirrors are chosen in its slices, where `configured` is what is configured.
    pub fn strategy(self, configured: Strategy) -> Strategy {
        match self {
            Arm::Control => Strategy::default(),
            Arm::Live => configured,
            Arm::Predictor => Strategy::Predicted,
        }
    }

    /// Its name in options and in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Arm::Control => "control",
            Arm::Live => "live",
            Arm::Predictor => "predictor",
        }
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How many of a hundred slices each arm gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares([u32; ARMS]);

/// A share is a multiple of this: a block, in which each arm has exactly its share, has 20 slices at most then, and
/// the load of its first slice is like that of its last.
const STEP: u32 = 5;

/// Text that is no shares: the input, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadShares {
    /// Not `ARM=PERCENT`.
    #[error("\"{0}\" is no share: write ARM=PERCENT with commas between, as in control=50,live=30,predictor=20")]
    Form(String),
    /// There is no such arm.
    #[error("\"{0}\" is no arm: there are control, live and predictor")]
    Arm(String),
    /// An arm twice.
    #[error("{0} has two shares: give each arm one")]
    Twice(Arm),
    /// Not in steps of five.
    #[error("{0}={1}: give shares in steps of 5")]
    Step(Arm, u32),
    /// Not a hundred.
    #[error("the shares sum to {0}: they must sum to 100")]
    Sum(u32),
    /// Nothing to compare with.
    #[error("control has no share, and the others are compared with it: give it 5 or more")]
    NoControl,
    /// Nothing to compare.
    #[error("only control has a share, so there is nothing to compare with it: give live or predictor one")]
    OnlyControl,
}

impl Shares {
    /// Of this arm, of a hundred.
    pub fn of(&self, arm: Arm) -> u32 {
        self.0[arm as usize]
    }

    /// As few slices as there may be for each arm to have exactly its share: each arm as often as it comes in them.
    pub(super) fn block(&self) -> Vec<Arm> {
        let divisor = self.0.iter().fold(0, |divisor, &share| common_divisor(divisor, share)).max(1);
        let often = |arm: Arm| (self.of(arm) / divisor) as usize;
        Arm::ALL.into_iter().flat_map(|arm| std::iter::repeat_n(arm, often(arm))).collect()
    }
}

fn common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

impl Default for Shares {
    fn default() -> Shares {
        Shares([50, 30, 20])
    }
}

impl fmt::Display for Shares {
    /// Reads back as the same shares.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = Arm::ALL.into_iter().filter(|&arm| self.of(arm) > 0);
        let text: Vec<String> = given.map(|arm| format!("{arm}={}", self.of(arm))).collect();
        f.write_str(&text.join(","))
    }
}

impl FromStr for Shares {
    type Err = BadShares;

    fn from_str(text: &str) -> Result<Shares, BadShares> {
        let mut shares: [Option<u32>; ARMS] = [None; ARMS];
        for part in text.split(',') {
            let form = || BadShares::Form(part.to_owned());
            let (name, share) = part.split_once('=').ok_or_else(form)?;
            let name = name.trim();
            let arm = Arm::ALL.into_iter().find(|arm| arm.name() == name);
            let arm = arm.ok_or_else(|| BadShares::Arm(name.to_owned()))?;
            let share: u32 =
                share.trim().trim_end_matches('%').parse().ok().filter(|&share| share <= 100).ok_or_else(form)?;
            if shares[arm as usize].replace(share).is_some() {
                return Err(BadShares::Twice(arm));
            }
        }
        let shares = Shares(shares.map(Option::unwrap_or_default));
        let sum = shares.0.iter().sum();
        if sum != 100 {
            return Err(BadShares::Sum(sum));
        }
        if let Some(arm) = Arm::ALL.into_iter().find(|&arm| !shares.of(arm).is_multiple_of(STEP)) {
            return Err(BadShares::Step(arm, shares.of(arm)));
        }
        match (shares.of(Arm::Control), sum - shares.of(Arm::Control)) {
            (0, _) => Err(BadShares::NoControl),
            (_, 0) => Err(BadShares::OnlyControl),
            _ => Ok(shares),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_back_and_what_is_none_is_named() {
        for text in ["control=50,live=30,predictor=20", "control=50,predictor=50", "control=95,live=5"] {
            assert_eq!(text.parse::<Shares>().unwrap().to_string(), text);
        }
        assert_eq!("live=30%, control=50%,predictor=20".parse(), Ok(Shares::default()));
        for (text, said) in [
            ("", "\"\" is no share: write ARM=PERCENT"),
            ("control", "\"control\" is no share"),
            ("control=x,live=50", "\"control=x\" is no share"),
            ("control=4294967295,live=5", "is no share"),
            ("control=50,canary=50", "\"canary\" is no arm: there are control, live and predictor"),
            ("control=50,control=50", "control has two shares"),
            ("control=50,live=40", "the shares sum to 90"),
            ("control=60,live=50", "the shares sum to 110"),
            ("control=52,live=48", "control=52: give shares in steps of 5"),
            ("live=50,predictor=50", "control has no share"),
            ("control=100", "only control has a share"),
        ] {
            let error = text.parse::<Shares>().expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_block_is_as_short_as_it_can_be() {
        let count = |text: &str| {
            let block = text.parse::<Shares>().unwrap().block();
            Arm::ALL.map(|arm| block.iter().filter(|&&one| one == arm).count())
        };
        assert_eq!(count("control=50,live=30,predictor=20"), [5, 3, 2]);
        assert_eq!(count("control=50,live=50"), [1, 1, 0]);
        assert_eq!(count("control=50,live=25,predictor=25"), [2, 1, 1]);
        assert_eq!(count("control=90,live=5,predictor=5"), [18, 1, 1]);
    }
}
