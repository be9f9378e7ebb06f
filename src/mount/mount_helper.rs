//! `mount.braidfs`: what mount(8) has done, and the exit codes that it knows.

use crate::config::defaults::Surroundings;
use crate::config::mount_helper::{BadCall, HelperCall};
use crate::config::plan::{MountPlan, plan_mount};
use crate::config::plan_error::PlanError;
use crate::mount::background::{NotInBackground, go_to_background};
use crate::mount::mountpoint::{self, BadMountpoint};
use std::ffi::OsString;

/// Why nothing was mounted.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Call(#[from] BadCall),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Mountpoint(#[from] BadMountpoint),
    #[error(transparent)]
    Background(#[from] NotInBackground),
}

impl Failure {
    /// As mount(8) has them. 4 (a bug in mount itself) and 16 (its table) are never ours to say.
    fn exit_code(&self) -> u8 {
        match self {
            Failure::Call(_) | Failure::Plan(_) => 1,
            Failure::Background(NotInBackground::System(..)) => 2,
            Failure::Background(NotInBackground::Interrupted) => 8,
            Failure::Mountpoint(_) | Failure::Background(NotInBackground::Failed(_)) => 32,
        }
    }
}

/// Called under the name `name` with `words` after it. Returns the exit code.
pub fn run(name: &str, words: &[OsString], around: &Surroundings) -> u8 {
    match mount(name, words, around) {
        Ok(()) => 0,
        Err(failure) => {
            eprintln!("{name}: {failure}");
            failure.exit_code()
        }
    }
}

fn mount(name: &str, words: &[OsString], around: &Surroundings) -> Result<(), Failure> {
    let call = HelperCall::read(name, words)?;
    let plan: MountPlan = plan_mount(&call.command, around)?;
    if call.is_fake {
        mountpoint::look(&plan.mountpoint)?;
    } else {
        go_to_background(&call.words)?;
    }
    if call.is_verbose {
        let done = if call.is_fake { "would be mounted" } else { "mounted" };
        let mirrors = plan.mirrors.len();
        println!("{name}: {done} at {}, read-only, {mirrors} mirror(s)", plan.mountpoint.display());
    }
    Ok(())
}
