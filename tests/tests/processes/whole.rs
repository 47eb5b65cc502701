//! The whole program by several processes comes to the bytes that one comes to, also where they were stopped on the way.

use crate::{
    job::{process, signal},
    place::{Place, alone},
};

/// The lines of a run's progress, without their figures.
fn progress(errors: &str) -> Vec<&str> {
    let lines = errors.lines();
    lines
        .map(|line| line.split_once("  loss").map_or(line, |(start, _)| start))
        .collect()
}

fn same_as_alone(processes: usize) {
    let place = Place::new(processes);
    let outcome = place.run(processes, &[]);
    place.assert_as_alone(processes);
    assert_eq!(place.receipt()["processes"], processes);
    let alone = &alone(processes).outcome;
    assert_eq!(outcome.output, alone.output);
    assert_eq!(progress(&outcome.errors), progress(&alone.errors));
}

#[test]
fn two_processes_come_to_what_one_does_and_say_it_once() {
    same_as_alone(2);
}

#[test]
fn so_do_four() {
    same_as_alone(4);
}

/// Who is killed.
enum Victim {
    /// The launcher, or the process that has none.
    Launcher,
    /// The process of this number.
    Process(usize),
}

/// Kills a training by so many processes on its way, and goes on with it by `then`.
fn killed(processes: usize, victim: Victim, then: usize) {
    let place = Place::new(2);
    let mut job = place.start(processes, &[]);
    job.meanwhile(|| place.state());
    let (number, code) = match victim {
        Victim::Launcher => (job.launcher(), None),
        Victim::Process(rank) => (process(&place.path(), rank).expect("it trains"), Some(137)),
    };
    signal("KILL", &number.to_string());
    let outcome = job.end();
    assert_eq!(outcome.code, code, "{outcome:?}");
    assert!(!place.root().join("results.json").exists());
    place.run(then, &["--resume"]);
    place.assert_as_alone(2);
    let receipt = place.receipt();
    assert_eq!(receipt["processes"], then);
    assert_eq!(receipt["resumed"], true);
}

#[test]
fn a_run_whose_second_process_is_killed_is_gone_on_with() {
    killed(2, Victim::Process(1), 2);
}

#[test]
fn a_run_whose_first_process_is_killed_is_too() {
    killed(2, Victim::Process(0), 2);
}

#[test]
fn and_one_whose_launcher_is_killed() {
    killed(2, Victim::Launcher, 2);
}

#[test]
fn what_two_began_one_goes_on_with() {
    killed(2, Victim::Process(1), 1);
}

#[test]
fn what_one_began_two_go_on_with() {
    killed(1, Victim::Launcher, 2);
}
