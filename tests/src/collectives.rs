//! What every [`Communicator`] has to do, whatever it is built on.

use smallfry::{
    data::random::Random,
    distributed::{
        Communicator,
        collective::{Sum, exchange_rows, gather_texts, share, share_integers, share_numbers},
    },
};

/// Lengths of messages: none, one, fewer than there are processes, uneven parts of a sum, and long ones.
const LENGTHS: [usize; 6] = [0, 1, 2, 7, 1000, 100_003];

/// Checks all that processes exchange. Each of them calls this.
///
/// # Panics
/// Something did not arrive, or not where it belongs, or not to the bit.
pub fn check(communicator: &dyn Communicator) {
    let (rank, size) = (communicator.rank(), communicator.size());
    assert!(rank < size);
    for length in LENGTHS {
        broadcasts(communicator, length);
        gathers(communicator, length);
        exchanges(communicator, length);
        sums(communicator, length);
    }
    texts(communicator);
    rows(communicator);
}

/// Numbers of many magnitudes, so that a sum in another order has other bits.
fn numbers(rank: usize, length: usize) -> Vec<f32> {
    let mut random = Random::new(&[rank as u64, length as u64]);
    let mut draw = || (random.normal() * random.uniform(-12.0, 12.0).exp2()) as f32;
    (0..length).map(|_| draw()).collect()
}

fn bytes(rank: usize, length: usize) -> Vec<u8> {
    let mut random = Random::new(&[rank as u64, length as u64]);
    (0..length).map(|_| random.bits() as u8).collect()
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

fn broadcasts(communicator: &dyn Communicator, length: usize) {
    let mut own = bytes(communicator.rank(), length);
    communicator.broadcast(&mut own);
    assert!(own == bytes(0, length), "{length} bytes of the first");
    let mut own = bytes(communicator.rank(), length + communicator.rank());
    share(communicator, &mut own);
    assert!(
        own == bytes(0, length),
        "{length} bytes of the first, whatever others hold"
    );
    let mut own = numbers(communicator.rank(), length);
    share_numbers(communicator, &mut own);
    assert!(
        bits(&own) == bits(&numbers(0, length)),
        "{length} numbers of the first"
    );
    let integers = |rank| {
        (0..length as i64)
            .map(|i| i - (rank as i64) * (i64::MAX / 7))
            .collect()
    };
    let mut own: Vec<i64> = integers(communicator.rank());
    share_integers(communicator, &mut own);
    assert!(own == integers(0), "{length} integers of the first");
}

fn gathers(communicator: &dyn Communicator, length: usize) {
    let (rank, size) = (communicator.rank(), communicator.size());
    let all: Vec<_> = (0..size).flat_map(|rank| bytes(rank, length)).collect();
    assert!(
        communicator.gather(&bytes(rank, length)) == all,
        "{length} bytes"
    );
    let all: Vec<_> = (0..size).flat_map(|rank| numbers(rank, length)).collect();
    let mut gathered = vec![f32::NAN; size * length];
    communicator.all_gather(&numbers(rank, length), &mut gathered);
    assert!(bits(&gathered) == bits(&all), "{length} numbers");
}

/// Equal parts, all to the last, all to the next: each process gives as many.
fn exchanges(communicator: &dyn Communicator, length: usize) {
    let (rank, size) = (communicator.rank(), communicator.size());
    let ways: [&dyn Fn(usize, usize) -> usize; 3] = [
        &|_, to| length * (to + 1) / size - length * to / size,
        &|_, to| if to + 1 == size { length } else { 0 },
        &|from, to| if to == (from + 1) % size { length } else { 0 },
    ];
    for count in ways {
        let sent: Vec<_> = (0..size).map(|to| count(rank, to)).collect();
        let received: Vec<_> = (0..size).map(|from| count(from, rank)).collect();
        let mut arrived = vec![f32::NAN; received.iter().sum()];
        communicator.all_to_all(&numbers(rank, length), &sent, &mut arrived, &received);
        let wanted: Vec<_> = (0..size)
            .flat_map(|from| {
                let begin = (0..rank).map(|to| count(from, to)).sum::<usize>();
                numbers(from, length)[begin..begin + count(from, rank)].to_vec()
            })
            .collect();
        assert!(bits(&arrived) == bits(&wanted), "{length} numbers");
    }
}

fn sums(communicator: &dyn Communicator, length: usize) {
    let (rank, size) = (communicator.rank(), communicator.size());
    let mut wanted = numbers(size - 1, length);
    for rank in (0..size - 1).rev() {
        for (sum, term) in wanted.iter_mut().zip(numbers(rank, length)) {
            *sum += term;
        }
    }
    let mut sum = Sum::default();
    // The memory of one serves the next.
    for _ in 0..2 {
        let mut own = numbers(rank, length);
        sum.over(communicator, &mut own);
        assert!(bits(&own) == bits(&wanted), "the sum of {length} numbers");
    }
}

fn texts(communicator: &dyn Communicator) {
    let text = |rank: usize| "process ".repeat(rank % 3);
    let all: Vec<_> = (0..communicator.size()).map(text).collect();
    assert_eq!(gather_texts(communicator, &text(communicator.rank())), all);
    let none = gather_texts(communicator, "");
    assert!(none.len() == all.len() && none.iter().all(String::is_empty));
}

fn rows(communicator: &dyn Communicator) {
    let (rank, size) = (communicator.rank(), communicator.size());
    for (count, width) in [(1, 3), (4, 5), (16, 3000)] {
        let all: Vec<_> = (0..size)
            .flat_map(|rank| numbers(rank, count * width))
            .collect();
        let mut order: Vec<_> = (0..size * count).collect();
        let mut random = Random::new(&[count as u64]);
        for last in (1..order.len()).rev() {
            order.swap(last, random.below(last as u64 + 1) as usize);
        }
        let taken = exchange_rows(communicator, &numbers(rank, count * width), width, &order);
        let wanted: Vec<_> = order[rank * count..(rank + 1) * count]
            .iter()
            .flat_map(|&place| &all[place * width..(place + 1) * width])
            .copied()
            .collect();
        assert!(bits(&taken) == bits(&wanted), "{count} rows of {width}");
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use smallfry::distributed::{Local, threads::Threads};

    #[test]
    fn one_process_is_enough() {
        super::check(&Local);
    }

    #[test]
    fn threads_do_what_processes_do() {
        for size in [1, 2, 3, 5] {
            thread::scope(|scope| {
                for communicator in Threads::of(size) {
                    scope.spawn(move || super::check(&communicator));
                }
            });
        }
    }
}
