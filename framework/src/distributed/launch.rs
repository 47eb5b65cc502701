//! How this program was started: alone, or as one of several processes.
//!
//! A launcher tells every process its number and how many there are by environment variables. They are there before MPI
//! is started, and whether this program can use MPI or not; so a program that cannot is able to say so, instead of
//! doing the same work several times over in the same folder.

use std::env;

/// What a launcher says about this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Who started it, as the launcher is called in messages.
    pub launcher: &'static str,
    /// The number of this process, from 0.
    pub rank: usize,
    /// How many processes were started.
    pub size: usize,
}

/// Launchers with the variables that hold a process's number and how many there are.
///
/// The first that is found counts: a launcher of MPI within a step of Slurm leaves the variables of both, and only its
/// own tell the processes apart. Slurm's numbers are those of a step, since an allocation's are also there where `srun`
/// started nothing. `RANK` and `WORLD_SIZE`, which torchrun sets, are in no row: it starts processes that MPI knows
/// nothing of, and other programs leave variables of such plain names behind.
const LAUNCHERS: [(&str, &str, &str); 3] = [
    ("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MPICH", "PMI_RANK", "PMI_SIZE"),
    ("Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
];

/// What the launcher of this process says; none where the program was started by itself.
pub fn detect() -> Option<Launch> {
    of(|name| env::var(name).ok())
}

/// The same of any environment.
fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Launch> {
    let number = |name| variable(name)?.trim().parse().ok();
    LAUNCHERS.iter().find_map(|&(launcher, rank, size)| {
        let (rank, size): (usize, usize) = (number(rank)?, number(size)?);
        (rank < size).then_some(Launch {
            launcher,
            rank,
            size,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(environment: &[(&str, &str)], expected: Option<(&'static str, usize, usize)>) {
        let found = of(|name| {
            let entry = environment.iter().find(|entry| entry.0 == name)?;
            Some(entry.1.to_owned())
        });
        let expected = expected.map(|(launcher, rank, size)| Launch {
            launcher,
            rank,
            size,
        });
        assert_eq!(found, expected, "{environment:?}");
    }

    const OPEN_MPI: [(&str, &str); 2] =
        [("OMPI_COMM_WORLD_RANK", "2"), ("OMPI_COMM_WORLD_SIZE", "4")];
    const MPICH: [(&str, &str); 2] = [("PMI_RANK", "1"), ("PMI_SIZE", "3")];
    const SLURM: [(&str, &str); 4] = [
        ("SLURM_PROCID", "5"),
        ("SLURM_NTASKS", "8"),
        ("SLURM_STEP_ID", "0"),
        ("SLURM_STEP_NUM_TASKS", "6"),
    ];

    #[test]
    fn launchers_are_known_by_their_variables() {
        check(&[], None);
        check(&OPEN_MPI, Some(("Open MPI", 2, 4)));
        check(&MPICH, Some(("MPICH", 1, 3)));
        check(&SLURM, Some(("Slurm", 5, 6)));
    }

    #[test]
    fn the_inner_launcher_counts() {
        check(&[&SLURM[..], &OPEN_MPI].concat(), Some(("Open MPI", 2, 4)));
        check(&[&SLURM[..], &MPICH].concat(), Some(("MPICH", 1, 3)));
    }

    #[test]
    fn an_allocation_alone_starts_nothing() {
        check(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "8")], None);
    }

    #[test]
    fn torchrun_is_none_of_them() {
        check(
            &[("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")],
            None,
        );
    }

    #[test]
    fn what_is_no_number_of_a_process_says_nothing() {
        for (rank, size) in [("x", "4"), ("4", "4"), ("-1", "4"), ("0", ""), ("0", "0")] {
            let own = [
                ("OMPI_COMM_WORLD_RANK", rank),
                ("OMPI_COMM_WORLD_SIZE", size),
            ];
            check(&own, None);
            check(&[&own[..], &SLURM].concat(), Some(("Slurm", 5, 6)));
        }
        check(&OPEN_MPI[..1], None);
    }
}
