//! Killed at named points, in the middle of what must not be halved.

use super::load;
use crate::support::mounted::{Place, program};
use crate::support::process::Process;
use crate::support::state;
use crate::support::wait;
use std::os::unix::process::ExitStatusExt;

const SIGKILL: i32 = 9;

/// Are there fail points in the program under test? If not, the skip is noted.
fn has_points(test: &str) -> bool {
    let said = b"killed at the fail point";
    let bytes = std::fs::read(program()).expect("the program under test can be read");
    let has = bytes.windows(said.len()).any(|some| some == said);
    if !has {
        state::skip(test, "a release build has no fail points");
    }
    has
}

/// Read under load until the daemon is killed at the point, then start again and read everything.
fn killed_at(point: &str, count: u64, options: &[&str]) {
    let (mirrors, place) = (load::mirrors(), Place::new());
    let mut words = vec!["mount".to_owned()];
    words.extend(load::urls(&mirrors));
    words.extend(
        [place.mountpoint(), "--cache-dir".into(), place.cache()].map(|word| word.to_str().unwrap().to_owned()),
    );
    words.extend(options.iter().map(|&option| option.to_owned()));
    let mut mount = place.start(place.command().args(words).env("BRAIDFS_FAIL_POINT", format!("{point}:{count}")));
    std::thread::scope(|scope| {
        let readers = load::readers(scope, &mount, count);
        let ended = mount.ends().unwrap_or_else(|| panic!("{point}:{count} was never reached"));
        assert_eq!(ended.signal(), Some(SIGKILL));
        readers.into_iter().for_each(|reader| drop(reader.join().expect("no wrong bytes")));
    });
    assert!(mount.log().contains(&format!("killed at the fail point {point}:{count}")), "it died of something else");
    drop(mount);
    let held = load::held(&place.cache());
    assert_eq!(held.damaged_pages, 0, "a set bit lacks its bytes");
    let mount = place.mount(&load::urls(&mirrors), options);
    load::read_all(&mount);
    mount.umount();
}

#[test]
fn after_writing_and_before_the_sync() {
    if has_points("after_writing_and_before_the_sync") {
        killed_at("Written", 1, &[]);
        killed_at("Written", 9, &[]);
    }
}

#[test]
fn after_the_sync_and_before_the_commit() {
    if has_points("after_the_sync_and_before_the_commit") {
        killed_at("Synced", 1, &[]);
        killed_at("Synced", 3, &[]);
    }
}

#[test]
fn after_the_commit_and_before_anybody_knows() {
    if has_points("after_the_commit_and_before_anybody_knows") {
        killed_at("Committed", 2, &[]);
    }
}

#[test]
fn when_bits_are_cleared_and_their_room_is_not_given_back() {
    if has_points("when_bits_are_cleared_and_their_room_is_not_given_back") {
        killed_at("Evicting", 1, &["--cache-size", "24M"]);
        killed_at("Evicting", 4, &["--cache-size", "24M"]);
    }
}

#[test]
fn when_a_file_is_complete_and_not_done() {
    if has_points("when_a_file_is_complete_and_not_done") {
        killed_at("Finishing", 1, &[]);
    }
}

#[test]
fn while_a_damaged_state_is_set_aside() {
    if !has_points("while_a_damaged_state_is_set_aside") {
        return;
    }
    let (mirrors, place) = (load::mirrors(), Place::new());
    let mount = place.mount(&load::urls(&mirrors), &[]);
    load::read_all(&mount);
    mount.umount();
    std::fs::write(load::state_folder(&place.cache()).join("state.redb"), vec![0x5a; 1 << 20]).unwrap();
    for count in [1, 2] {
        let log = place.path(&format!("killed-{count}"));
        let mut command = place.command();
        command.arg("mount").args(load::urls(&mirrors)).arg(place.mountpoint());
        command.arg("--cache-dir").arg(place.cache()).env("BRAIDFS_FAIL_POINT", format!("SettingAside:{count}"));
        let mut daemon = Process::start(&mut command, &log);
        let ended = daemon.ends_within(wait::PATIENCE).expect("it is killed as it starts");
        assert_eq!(ended.signal(), Some(SIGKILL), "{}", String::from_utf8_lossy(&std::fs::read(&log).unwrap()));
        place.clear();
    }
    let mount = place.mount(&load::urls(&mirrors), &[]);
    load::read_all(&mount);
    // Nothing that was set aside stays uncounted.
    let left = load::state_folder(&place.cache()).join("data.damaged-1");
    wait::until("the damaged data is deleted", || !left.exists());
    mount.umount();
}
