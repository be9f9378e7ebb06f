//! The true scheduler in virtual time, against simulated mirrors and readers.
//!
//! Nothing here waits or reads a clock: every figure is exact, and the same seed gives the same trace on
//! every machine. Pure like the scheduler; files are read and tables printed elsewhere.
//!
//! | file | one idea |
//! |---|---|
//! | `mirror` `flow` | a link that its answers share, and what goes wrong with it |
//! | `reader` | who reads what, in which order |
//! | `world` `turn` | the driver's part: moments, events, actions |
//! | `sameness` | whose bytes come into a file, and comparisons |
//! | `scenario` | what is simulated, as plain data |
//! | `ideal` | what nobody can beat: a fluid model, which knows nothing of the scheduler |
//! | `outcome` `report` `table` | what came of it: figures, text, Markdown |
//! | `random` | scenarios from a seed, and how strategies do on many |
//! | `detection` | how well faults are noticed |
//! | `cost` | what a decision costs, by a clock that is handed in |
//! | `command` | `braidfs simulate` |

pub mod command;
pub mod cost;
pub mod detection;
mod flow;
pub mod ideal;
pub mod mirror;
pub mod outcome;
pub mod random;
pub mod reader;
mod report;
mod sameness;
pub mod scenario;
mod table;
mod turn;
pub mod world;
