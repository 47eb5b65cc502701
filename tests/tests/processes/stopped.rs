//! A training that is asked to end saves its state first.

use std::fs;

use crate::{
    job::{Job, Outcome, is_asked_to_end, mpirun, process, program, signal},
    place::{FILE, Place},
};

/// A training by two processes in its midst, which saves its state only when it is asked to end. `settings` are the
/// launcher's.
fn midst(settings: &[&str]) -> (Place, Job) {
    let place = Place::new(2);
    let file = place.path().join(FILE);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("Save(steps: 1)", "Save(minutes: 10)")).unwrap();
    let mut command = mpirun(2);
    command
        .args(settings)
        .arg(program("whole"))
        .args(["run", FILE, "--threads", "1"])
        .current_dir(place.path());
    let mut job = Job::start(&mut command, &[]);
    job.meanwhile(|| {
        let log = fs::read_to_string(place.root().join("log.jsonl")).ok()?;
        log.contains(r#""event":"step""#).then_some(())
    });
    (place, job)
}

/// It says so once, and what goes on with it comes to the same.
fn assert_stopped(place: &Place, outcome: &Outcome) {
    let told = outcome.errors.matches("error: ").count();
    assert_eq!(told, 1, "{outcome:?}");
    assert!(outcome.errors.contains("error: stopped"), "{outcome:?}");
    assert!(place.state().is_some());
    place.run(2, &["--resume"]);
    place.assert_as_alone(2);
}

#[test]
fn a_launcher_that_gives_the_time_has_the_state_saved() {
    let (place, mut job) = midst(&["--mca", "odls_base_sigkill_timeout", "4"]);
    let second = process(&place.path(), 1).expect("it trains");
    signal("TERM", &job.launcher().to_string());
    // The launcher has processes go on, waits, and only then passes the signal on; they must not be done before.
    job.meanwhile(|| {
        signal("STOP", &second.to_string());
        is_asked_to_end(second).then_some(())
    });
    signal("CONT", &second.to_string());
    let outcome = job.end();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_stopped(&place, &outcome);
}

#[test]
fn processes_that_are_asked_themselves_save_it_at_once() {
    let (place, job) = midst(&[]);
    for rank in [0, 1] {
        let process = process(&place.path(), rank).expect("it trains");
        signal("TERM", &process.to_string());
    }
    let outcome = job.end();
    assert_eq!(outcome.code, Some(130), "{outcome:?}");
    assert_stopped(&place, &outcome);
}
