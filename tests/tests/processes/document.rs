//! What `docs/distributed.md` says of starting a job again, as it stands there.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
};

use smallfry_tests::golden::repository;

use crate::{
    job::{Job, process, program, signal},
    place::{FILE, Place},
};

/// The block of the document that has a loop.
fn script() -> String {
    let text = fs::read_to_string(repository().join("docs/distributed.md")).unwrap();
    let blocks = text.split("```bash\n").skip(1);
    let mut blocks = blocks.filter_map(|rest| rest.split("```").next());
    let found = blocks.find(|block| block.contains("for attempt"));
    found.expect("the document shows a loop").to_owned()
}

/// The script's names are those of the document: the program, the experiment file, and commands that `PATH` finds.
#[test]
fn the_loop_of_the_document_brings_a_run_to_its_end() {
    let place = Place::new(4);
    let folder = place.path();
    fs::create_dir_all(folder.join("target/release")).unwrap();
    symlink(program("whole"), folder.join("target/release/smallfry")).unwrap();
    fs::rename(folder.join(FILE), folder.join("FILE")).unwrap();
    // Nobody has to wait.
    let commands = folder.join("commands");
    fs::create_dir(&commands).unwrap();
    let sleep = commands.join("sleep");
    fs::write(&sleep, "#!/bin/sh\necho sleep $1\n").unwrap();
    fs::set_permissions(&sleep, fs::Permissions::from_mode(0o755)).unwrap();
    let known = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([commands].into_iter().chain(env::split_paths(&known))).unwrap();

    let mut bash = Command::new("bash");
    bash.arg("-c")
        .arg(script())
        .current_dir(&folder)
        .env("PATH", path);
    let mut job = Job::start(&mut bash, &[("RAYON_NUM_THREADS", "1")]);
    job.meanwhile(|| place.state());
    let third = process(&folder, 2).expect("it trains");
    signal("KILL", &third.to_string());
    let outcome = job.end();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(
        outcome.output.matches("sleep 10\n").count(),
        1,
        "{outcome:?}"
    );
    place.assert_as_alone(4);
    let receipt = place.receipt();
    assert_eq!(receipt["processes"], 4);
    assert_eq!(receipt["resumed"], true);
}
