//! `braidfs umount PATH [--lazy]`.

use super::Screen;
use crate::control::busy::{User, users_of};
use crate::control::client::{ClientError, Desk};
use crate::control::mountinfo::Mount;
use crate::control::protocol::{Answer, Command, Refusal, RefusalKind};
use crate::control::unmount::{UnmountError, unmount, wait_for_end, wait_until_gone};
use std::path::Path;
use std::time::Duration;

/// How long a mount may take to go after the daemon said that it does.
const GONE_WITHIN: Duration = Duration::from_secs(30);
/// How long the daemon's process is waited for after that, so that its cache is free for the next mount.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// End the mount that `path` is on. A busy one is refused by the names of those who use it, unless
/// `lazy`. A mount whose daemon is gone or stuck is taken away without it (stuck: only `lazy`).
/// Returns the exit code.
pub fn umount(desk: &Desk, path: &Path, lazy: bool, screen: &mut Screen<'_>) -> u8 {
    let mount = match desk.find(path) {
        Ok(target) => target.mount,
        Err(error) => return screen.fail(&error),
    };
    // This very process may stand in the mount, and would keep it busy.
    let _ = rustix::process::chdir("/");
    let users = if lazy { Vec::new() } else { users_of(&mount) };
    if !users.is_empty() {
        return busy(&mount, &users, screen);
    }
    match end(desk, &mount, lazy) {
        // A detached mount ends when its last user lets go, which is nobody's to wait for.
        Ok(pid) => finish(desk, &mount, pid.filter(|_| !lazy), screen),
        Err(ClientError::Refused(Refusal { kind: RefusalKind::Busy, .. })) => busy(&mount, &users_of(&mount), screen),
        Err(error) => screen.fail(&error),
    }
}

/// By the daemon, or without it. Gives its process where it is known.
fn end(desk: &Desk, mount: &Mount, lazy: bool) -> Result<Option<u32>, ClientError> {
    let asked = desk.connect(mount).and_then(|connection| connection.run(&Command::Umount { lazy }, |_| {}));
    match asked {
        Ok(Answer::Unmounted(pid)) => Ok(Some(pid)),
        Ok(_) => Err(super::unexpected()),
        // It ended before it could say so: what counts is whether the mount is gone.
        Err(ClientError::Lost { .. }) => Ok(None),
        Err(ClientError::Gone { .. }) => without_daemon(mount, lazy),
        Err(ClientError::Silent { .. } | ClientError::Unreachable { .. }) if lazy => without_daemon(mount, lazy),
        Err(error) => Err(error),
    }
}

fn without_daemon(mount: &Mount, lazy: bool) -> Result<Option<u32>, ClientError> {
    let refuse = |kind, error: UnmountError| Err(Refusal::new(kind, error.to_string()).into());
    match unmount(&mount.mountpoint, lazy) {
        Ok(()) | Err(UnmountError::NotMounted(_)) => Ok(None),
        Err(error @ UnmountError::Busy(_)) => refuse(RefusalKind::Busy, error),
        Err(error) => refuse(RefusalKind::Failed, error),
    }
}

fn finish(desk: &Desk, mount: &Mount, pid: Option<u32>, screen: &mut Screen<'_>) -> u8 {
    let shown = mount.mountpoint.display().to_string();
    match wait_until_gone(&desk.mountinfo, mount, GONE_WITHIN) {
        Ok(true) => {
            if let Some(pid) = pid {
                wait_for_end(pid, ENDED_WITHIN);
            }
            if screen.json {
                screen.say_json(&serde_json::json!({ "result": { "unmounted": shown } }));
            }
            0
        }
        Ok(false) => {
            screen.complain(&format!(
                "braidfs: {shown} is still mounted after 30 s; `braidfs umount --lazy {shown}` detaches it\n"
            ));
            2
        }
        Err(error) => {
            let path = desk.mountinfo.clone();
            screen.fail(&ClientError::Mounts { path, error })
        }
    }
}

fn busy(mount: &Mount, users: &[User], screen: &mut Screen<'_>) -> u8 {
    let shown = mount.mountpoint.display();
    if screen.json {
        screen.say_json(&serde_json::json!({ "error": { "message": format!("{shown} is busy"), "users": users } }));
    }
    let by = match users {
        [] => "  by a process that you may not see, or a mount inside it\n".to_owned(),
        users => users.iter().map(|user| format!("  {user}\n")).collect(),
    };
    screen.complain(&format!(
        "braidfs: {shown} is busy:\n{by}end what uses it, or detach it now with `braidfs umount --lazy {shown}`\n"
    ));
    1
}
