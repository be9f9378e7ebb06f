//! One test binary: linking once keeps the suite quick on two cores.

mod architecture;
mod cli;
mod crash;
mod model;
mod mount;
mod sim;
mod support;
