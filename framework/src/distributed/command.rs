//! What the first process tells the others to do.

use super::Communicator;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Get ready: the first process has found nothing wrong with the experiment.
    Prepare,
    /// Assist the training stage of this number.
    Stage(u64),
    /// Assist the extraction of features of this set of this stage.
    Extract {
        /// Number of the stage.
        stage: u64,
        /// Number of the set among the stage's.
        set: u64,
    },
    /// Take the step of this number of this epoch.
    Step {
        /// Epoch, from 0.
        epoch: u64,
        /// Step within it, from 0.
        index: u64,
    },
    /// Compare the states of all processes.
    Compare,
    /// The stage is done.
    Done,
    /// There is nothing more to do.
    Leave,
}

impl Command {
    /// Tells all processes; only the first may.
    pub fn give(self, communicator: &dyn Communicator) {
        if communicator.size() > 1 {
            communicator.broadcast(&mut self.bytes());
        }
    }

    /// What the first process says; waits for it.
    pub fn take(communicator: &dyn Communicator) -> Self {
        let mut bytes = [0; 24];
        communicator.broadcast(&mut bytes);
        Self::of(bytes)
    }

    fn bytes(self) -> [u8; 24] {
        let words = match self {
            Self::Leave => [0, 0, 0],
            Self::Prepare => [1, 0, 0],
            Self::Stage(number) => [2, number, 0],
            Self::Step { epoch, index } => [3, epoch, index],
            Self::Compare => [4, 0, 0],
            Self::Done => [5, 0, 0],
            Self::Extract { stage, set } => [6, stage, set],
        };
        let mut bytes = [0; 24];
        for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        bytes
    }

    fn of(bytes: [u8; 24]) -> Self {
        let words = bytes.as_chunks::<8>().0;
        let word = |place: usize| u64::from_le_bytes(words[place]);
        match word(0) {
            1 => Self::Prepare,
            2 => Self::Stage(word(1)),
            3 => Self::Step {
                epoch: word(1),
                index: word(2),
            },
            4 => Self::Compare,
            5 => Self::Done,
            6 => Self::Extract {
                stage: word(1),
                set: word(2),
            },
            _ => Self::Leave,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_arrives_as_it_was_given() {
        for command in [
            Command::Prepare,
            Command::Stage(7),
            Command::Step { epoch: 1, index: 2 },
            Command::Extract { stage: 3, set: 1 },
            Command::Compare,
            Command::Done,
            Command::Leave,
        ] {
            assert_eq!(Command::of(command.bytes()), command);
        }
    }
}
