//! `braidfs web [PATH] [--json]`.

use super::Screen;
use crate::control::client::{ClientError, Desk};
use crate::control::protocol::Command;
use crate::control::web::ADDRESS_FILE_END;
use std::path::Path;

/// Print the address of the page of the mount of `path`, with its token. Returns the exit code.
pub fn web(desk: &Desk, path: Option<&Path>, screen: &mut Screen<'_>) -> u8 {
    match address(desk, path) {
        Ok(address) => {
            match screen.json {
                true => screen.say_json(&serde_json::json!({ "url": address })),
                false => screen.say(&format!("{address}\n")),
            }
            0
        }
        Err(error) => screen.fail(&error),
    }
}

fn address(desk: &Desk, path: Option<&Path>) -> Result<String, ClientError> {
    let mount = desk.find_or_here(path)?.mount;
    // One that was killed leaves its file behind, and its port to anybody.
    desk.connect(&mount)?.run(&Command::Ping, |_| {})?;
    let file = desk.socket(&mount)?.with_extension(ADDRESS_FILE_END);
    match std::fs::read_to_string(&file) {
        Ok(address) => Ok(address.trim_end().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(ClientError::NoPage { mountpoint: mount.mountpoint })
        }
        Err(error) => Err(ClientError::Unreachable { mountpoint: mount.mountpoint, error }),
    }
}
