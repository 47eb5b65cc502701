//! Mistakes are told once, by one process, and leave nothing.

use std::{fs, path::Path, process::Command};

use smallfry_tests::program;

use crate::{
    job::{Job, Outcome, mpirun, program as example},
    place::{FILE, Place},
};

/// What becomes of two processes of `program`.
fn call(place: &Place, program: &Path, arguments: &[&str]) -> Outcome {
    let mut command = mpirun(2);
    command.arg(program).args(arguments);
    call_as(place, &mut command)
}

fn call_as(place: &Place, command: &mut Command) -> Outcome {
    Job::start(command.current_dir(place.path()), &[]).end()
}

/// It says `message`, and that once, as a mistake of the user.
#[track_caller]
fn assert_refused(place: &Place, outcome: &Outcome, message: &str) {
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    for once in ["error: ", message] {
        assert_eq!(
            outcome.errors.matches(once).count(),
            1,
            "{once}: {outcome:?}"
        );
    }
    assert_eq!(outcome.output, "");
    assert!(!place.path().join("runs").exists());
}

#[test]
fn what_cannot_be_shared_out_is_told_once() {
    let place = Place::new(2);
    let whole = example("whole");
    let groups = "pretrain.objective.groups=3";
    let outcome = call(&place, &whole, &["run", FILE, groups]);
    assert_refused(&place, &outcome, "3 cannot be shared out among 2 processes");
    let odd = ["pretrain.batch=45", "pretrain.objective.queue=90"];
    let outcome = call(&place, &whole, &["run", FILE, groups, odd[0], odd[1]]);
    let message = "a batch of 45 cannot be shared out among 2 processes";
    assert_refused(&place, &outcome, message);
}

#[test]
fn so_is_what_is_wrong_in_the_file_or_its_data() {
    for (before, after, message) in [
        ("save:", "safe:", "Pretrain has no field `safe`"),
        (
            "photos/train",
            "photos/nowhere",
            "photos/nowhere` does not exist",
        ),
    ] {
        let place = Place::new(2);
        let file = place.path().join(FILE);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replacen(before, after, 1)).unwrap();
        let outcome = call(&place, &example("whole"), &["run", FILE]);
        assert_refused(&place, &outcome, message);
    }
}

#[test]
fn what_is_for_one_process_is_refused_once() {
    let place = Place::new(2);
    let whole = example("whole");
    let outcome = call(&place, &whole, &["check", FILE]);
    let message = "`check` is for one process, but Open MPI started 2";
    assert_refused(&place, &outcome, message);
    let sweep = ["run", FILE, "--sweep", "pretrain.batch=24,48"];
    let outcome = call(&place, &whole, &sweep);
    assert_refused(&place, &outcome, "a sweep is for one process");
}

#[test]
fn help_and_a_wrong_command_line_are_told_once() {
    let place = Place::new(2);
    let whole = example("whole");
    let outcome = call(&place, &whole, &["--help"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(outcome.output.matches("Usage: ").count(), 1, "{outcome:?}");
    assert_eq!(outcome.errors, "");
    let outcome = call(&place, &whole, &["run", FILE, "--nonsense"]);
    assert_refused(&place, &outcome, "unexpected argument '--nonsense'");
}

#[test]
fn a_program_without_mpi_is_refused_once() {
    let place = Place::new(2);
    let outcome = call(&place, program::program(), &["run", FILE]);
    let message =
        "started as one of 2 processes by Open MPI, but this program was built without MPI";
    assert_refused(&place, &outcome, message);
}

/// Two processes that differ in what is given to `mpirun` before and after the program.
fn differing(place: &Place, before: &[&str], after: &[&str]) -> Outcome {
    let mut command = mpirun(1);
    command
        .arg(example("whole"))
        .args(["run", FILE])
        .args([":", "-n", "1"])
        .args(before)
        .arg(example("whole"))
        .args(["run", FILE])
        .args(after);
    call_as(place, &mut command)
}

#[test]
fn what_one_process_alone_does_wrong_is_told_as_well() {
    let place = Place::new(2);
    let outcome = differing(&place, &["-x", "SMALLFRY_SIMD=none"], &[]);
    assert_refused(
        &place,
        &outcome,
        "process 1 of 2: `SMALLFRY_SIMD` is `none`",
    );
    let outcome = differing(&place, &[], &["pretrain.seed=4"]);
    assert_refused(&place, &outcome, "process 1 of 2 is not ready: ");
    let outcome = differing(&place, &[], &["seed=4"]);
    let message = "process 1 of 2 has other data or another experiment file before it";
    assert_refused(&place, &outcome, message);
}
