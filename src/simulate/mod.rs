//! The true scheduler in virtual time, against simulated mirrors and readers.
//!
//! Nothing here waits or reads a clock: every figure is exact, and the same seed gives the same trace on
//! every machine. Pure like the scheduler; files are read and tables printed elsewhere.
//!
//! | file | one idea |
//! |---|---|
//! | `mirror` `flow` | a link that its answers share, and what goes wrong with it |
//! | `reader` `streak` | who reads what, in which order |
//! | `world` `turn` | the driver's part: moments, events, actions |

mod flow;
pub mod mirror;
pub mod reader;
mod streak;
mod turn;
pub mod world;
