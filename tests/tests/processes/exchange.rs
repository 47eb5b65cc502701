//! Messages between processes, and what becomes of a job when one of them fails.

use std::process::Command;

use crate::job::{Job, Outcome, mpirun, program, signal};

/// The example `collectives`, by so many processes.
fn job(processes: usize, variables: &[(&str, &str)]) -> Job {
    Job::start(mpirun(processes).arg(program("collectives")), variables)
}

/// A job of two processes in which one does `fault`; it must not succeed.
fn fails(fault: &str, limit: Option<&str>) -> Outcome {
    let mut variables = vec![("FAULT", fault)];
    variables.extend(limit.map(|limit| ("SMALLFRY_COLLECTIVE_LIMIT", limit)));
    let outcome = job(2, &variables).end();
    assert_ne!(outcome.code, Some(0), "{outcome:?}");
    outcome
}

#[test]
fn processes_exchange_what_they_should() {
    for processes in 1..=3 {
        let outcome = job(processes, &[]).end();
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        let agree = format!("{processes} processes agree\n");
        assert_eq!(outcome.output, agree, "{outcome:?}");
    }
}

#[test]
fn one_process_needs_no_launcher() {
    let outcome = Job::start(&mut Command::new(program("collectives")), &[]).end();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(outcome.output, "1 processes agree\n");
}

#[test]
fn a_panic_of_one_ends_all() {
    for fault in ["panic", "panic-aside"] {
        let outcome = fails(fault, None);
        assert_eq!(outcome.code, Some(70), "{outcome:?}");
        assert!(outcome.errors.contains("a bug"), "{outcome:?}");
    }
}

#[test]
fn a_message_of_another_length_ends_all() {
    let outcome = fails("lengths", Some("20"));
    assert_eq!(outcome.code, Some(74), "{outcome:?}");
    // Whoever is the first to say so ends the other.
    let messages = [
        "process 0 of 2: gather failed: process 1 gives 100000 where 1 are awaited",
        "process 1 of 2: gather failed: process 0 gives 1 where 100000 are awaited",
    ];
    let told = messages.map(|message| outcome.errors.contains(message));
    assert_ne!(told, [false; 2], "{outcome:?}");
}

/// Decoders that panic on damaged images are seen to where they are called.
#[test]
fn a_panic_that_is_caught_ends_nothing() {
    let outcome = job(2, &[("FAULT", "panic-caught")]).end();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.errors.contains("a bug"), "{outcome:?}");
}

#[test]
fn an_early_exit_of_one_ends_all() {
    fails("exit", None);
}

#[test]
fn a_process_that_is_killed_ends_all() {
    let mut job = job(3, &[("FAULT", "sleep")]);
    let killed = job.wait_for(|job| {
        let text = job.output.text();
        let (line, _) = text.split_once('\n')?;
        Some(line.strip_prefix("process ")?.to_owned())
    });
    signal("KILL", &killed);
    let outcome = job.end();
    assert_ne!(outcome.code, Some(0), "{outcome:?}");
}

#[test]
fn a_process_that_hangs_or_leaves_ends_all_at_the_limit() {
    for (fault, operation) in [
        ("sleep", "gather"),
        ("leave", "gather"),
        ("leave-first", "the end of MPI"),
    ] {
        let outcome = fails(fault, Some("2"));
        assert_eq!(outcome.code, Some(75), "{outcome:?}");
        let message = format!("error: process 0 of 2: {operation} takes longer than 2s");
        assert!(outcome.errors.contains(&message), "{outcome:?}");
    }
}

#[test]
fn a_limit_that_is_none_is_the_users_mistake() {
    let outcome = job(2, &[("SMALLFRY_COLLECTIVE_LIMIT", "soon")]).end();
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    let message = "error: `SMALLFRY_COLLECTIVE_LIMIT` is `soon`, but must be seconds above 0";
    assert!(outcome.errors.contains(message), "{outcome:?}");
}

#[test]
fn processes_of_another_launcher_are_refused() {
    let strange = [("PMI_RANK", "0"), ("PMI_SIZE", "4")];
    let outcome = Job::start(&mut Command::new(program("collectives")), &strange).end();
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    for part in [
        "error: started as one of 4 processes by MPICH, but ",
        " counts 1: ",
    ] {
        assert!(outcome.errors.contains(part), "{outcome:?}");
    }
}
