//! One test binary: linking once keeps the suite quick on two cores.

mod architecture;
mod sim;
mod support;
