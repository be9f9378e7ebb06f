//! One test binary: linking once keeps the suite quick on two cores. The simulation has its own, in `sim/`.

mod architecture;
mod cli;
mod crash;
mod model;
mod mount;
mod support;
