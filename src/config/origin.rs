//! Where the value of an option comes from.

use super::options::Given;
use std::collections::BTreeMap;
use std::fmt;

/// The layers in which options are given, the first that has a value counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Origin {
    /// Typed.
    CommandLine,
    /// Typed after `-o`, or written in /etc/fstab.
    AfterO,
    /// A variable.
    Environment,
    /// The TOML file.
    File,
    /// Nobody said otherwise.
    BuiltIn,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::CommandLine => "command line",
            Origin::AfterO => "-o",
            Origin::Environment => "environment",
            Origin::File => "file",
            Origin::BuiltIn => "built in",
        })
    }
}

/// The first layer that gives each option, by the option's name.
pub fn origins(layers: &[(Origin, Given)]) -> BTreeMap<String, Origin> {
    let mut all = BTreeMap::new();
    for (origin, layer) in layers {
        for name in layer.names() {
            all.entry(name).or_insert(*origin);
        }
    }
    all
}
