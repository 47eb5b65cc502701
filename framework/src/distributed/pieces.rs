//! Messages of any length over an engine that takes only short ones.
//!
//! MPI counts what is sent to a process, and says where it lies, by 32-bit numbers with a sign.

use super::Communicator;

/// Hands messages on in pieces of at most `most` bytes or numbers.
pub struct Pieces<C> {
    inner: C,
    most: usize,
}

impl<C: Communicator> Pieces<C> {
    /// Over `inner`, with at most `most` bytes or numbers in what one process gives to one exchange, and in what it
    /// gets of it from each, or from all together where lengths differ.
    pub fn new(inner: C, most: usize) -> Self {
        Self { inner, most }
    }

    /// What lies beneath.
    #[cfg(feature = "mpi")]
    pub fn inner(&self) -> &C {
        &self.inner
    }
}

impl<C: Communicator> Communicator for Pieces<C> {
    fn rank(&self) -> usize {
        self.inner.rank()
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn broadcast(&self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(self.most) {
            self.inner.broadcast(piece);
        }
    }

    fn gather(&self, own: &[u8]) -> Vec<u8> {
        if own.len() <= self.most {
            return self.inner.gather(own);
        }
        let mut all = vec![0; self.size() * own.len()];
        for (index, piece) in own.chunks(self.most).enumerate() {
            let pieces = self.inner.gather(piece);
            lay(&pieces, piece.len(), &mut all, own.len(), index * self.most);
        }
        all
    }

    fn all_gather(&self, own: &[f32], all: &mut [f32]) {
        if own.len() <= self.most {
            return self.inner.all_gather(own, all);
        }
        let mut pieces = vec![0.0; self.size() * self.most];
        for (index, piece) in own.chunks(self.most).enumerate() {
            let pieces = &mut pieces[..self.size() * piece.len()];
            self.inner.all_gather(piece, pieces);
            lay(pieces, piece.len(), all, own.len(), index * self.most);
        }
    }

    fn all_to_all(&self, send: &[f32], sent: &[usize], receive: &mut [f32], received: &[usize]) {
        // Each gives as many numbers in all, so every process comes to the same here: none sends more than that to
        // another, and none gets more than what all give.
        let size = self.size();
        if send.len().saturating_mul(size) <= self.most {
            return self.inner.all_to_all(send, sent, receive, received);
        }
        let most = (self.most / size).max(1);
        for round in 0..send.len().div_ceil(most) {
            let place = |count: usize| (round * most).min(count)..((round + 1) * most).min(count);
            let counts = |whole: &[usize]| -> Vec<_> {
                whole.iter().map(|&count| place(count).len()).collect()
            };
            let (gives, gets) = (counts(sent), counts(received));
            let (mut given, mut begin) = (Vec::with_capacity(gives.iter().sum()), 0);
            for &count in sent {
                given.extend_from_slice(&send[begin..begin + count][place(count)]);
                begin += count;
            }
            let mut got = vec![0.0; gets.iter().sum()];
            self.inner.all_to_all(&given, &gives, &mut got, &gets);
            let (mut rest, mut begin) = (&got[..], 0);
            for &count in received {
                let (piece, others) = rest.split_at(place(count).len());
                receive[begin..begin + count][place(count)].copy_from_slice(piece);
                (rest, begin) = (others, begin + count);
            }
        }
    }

    fn abort(&self, code: i32) -> ! {
        self.inner.abort(code)
    }
}

/// Puts a piece of every process, each of `length`, to where it belongs: from `begin` in the whole of each, of `whole`.
fn lay<T: Copy>(pieces: &[T], length: usize, all: &mut [T], whole: usize, begin: usize) {
    for (piece, all) in pieces.chunks_exact(length).zip(all.chunks_exact_mut(whole)) {
        all[begin..begin + length].copy_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::distributed::threads::Threads;

    /// What processes have after each has done `work`, without and with pieces of at most `most`.
    fn check<T: Send + PartialEq + std::fmt::Debug>(work: impl Fn(&dyn Communicator) -> T + Sync) {
        for size in [1, 2, 3, 5] {
            let results = |most: Option<usize>| -> Vec<T> {
                thread::scope(|scope| {
                    let threads: Vec<_> = (Threads::of(size).into_iter())
                        .map(|communicator| {
                            scope.spawn(|| match most {
                                None => work(&communicator),
                                Some(most) => work(&Pieces::new(communicator, most)),
                            })
                        })
                        .collect();
                    (threads.into_iter())
                        .map(|thread| thread.join().unwrap())
                        .collect()
                })
            };
            let whole = results(None);
            for most in [1, 2, 3, 7, 20, 1000] {
                assert_eq!(results(Some(most)), whole, "{size} processes, {most}");
            }
        }
    }

    /// Numbers that are no other process's.
    fn numbers(rank: usize, count: usize) -> Vec<f32> {
        (0..count)
            .map(|index| (1000 * rank + index) as f32)
            .collect()
    }

    #[test]
    fn pieces_come_to_what_the_whole_does() {
        for length in [0, 1, 6, 7, 20] {
            check(|communicator| {
                let mut bytes = vec![communicator.rank() as u8 + 1; length];
                communicator.broadcast(&mut bytes);
                bytes
            });
            check(|communicator| {
                let first = 50 * communicator.rank();
                communicator.gather(
                    &(first..first + length)
                        .map(|byte| byte as u8)
                        .collect::<Vec<_>>(),
                )
            });
            check(|communicator| {
                let mut all = vec![0.0; length * communicator.size()];
                communicator.all_gather(&numbers(communicator.rank(), length), &mut all);
                all
            });
        }
    }

    #[test]
    fn pieces_of_different_lengths_find_their_places() {
        // Each gives 20: equal shares, everything to one, to the next alone, and uneven ones.
        let ways: [fn(usize, usize, usize) -> usize; 4] = [
            |_, to, size| {
                if to == 0 {
                    20 - 20 / size * (size - 1)
                } else {
                    20 / size
                }
            },
            |_, to, size| if to + 1 == size { 20 } else { 0 },
            |from, to, size| if to == (from + 1) % size { 20 } else { 0 },
            |from, to, size| match (to + from) % size {
                0 => 20 - (1..size).sum::<usize>(),
                further => further,
            },
        ];
        for count in ways {
            check(|communicator| {
                let (rank, size) = (communicator.rank(), communicator.size());
                let sent: Vec<_> = (0..size).map(|to| count(rank, to, size)).collect();
                let received: Vec<_> = (0..size).map(|from| count(from, rank, size)).collect();
                let mut receive = vec![0.0; received.iter().sum()];
                communicator.all_to_all(&numbers(rank, 20), &sent, &mut receive, &received);
                receive
            });
        }
    }
}
