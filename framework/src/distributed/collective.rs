//! What is built of a [`Communicator`]'s messages.

use rayon::prelude::*;

use super::Communicator;

/// Numbers that a thread adds up at a time.
const CHUNK: usize = 1 << 14;

/// The texts of all processes, in their order; of any lengths.
pub fn gather_texts(communicator: &dyn Communicator, own: &str) -> Vec<String> {
    let all = gather_bytes(communicator, own.as_bytes());
    all.iter()
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .collect()
}

/// The bytes of all processes, in their order; of any lengths.
pub fn gather_bytes(communicator: &dyn Communicator, own: &[u8]) -> Vec<Vec<u8>> {
    if communicator.size() == 1 {
        return vec![own.to_vec()];
    }
    let lengths = communicator.gather(&(own.len() as u64).to_le_bytes());
    let (lengths, _) = lengths.as_chunks::<8>();
    let lengths: Vec<_> = lengths
        .iter()
        .map(|&length| u64::from_le_bytes(length) as usize)
        .collect();
    // Messages of one length: the longest decides.
    let longest = lengths.iter().copied().max().unwrap_or(0);
    if longest == 0 {
        return vec![Vec::new(); lengths.len()];
    }
    let mut padded = own.to_vec();
    padded.resize(longest, 0);
    let all = communicator.gather(&padded);
    all.chunks_exact(longest)
        .zip(lengths)
        .map(|(bytes, length)| bytes[..length].to_vec())
        .collect()
}

/// Gives every process the bytes of the first, of any length.
pub fn share(communicator: &dyn Communicator, bytes: &mut Vec<u8>) {
    let mut length = (bytes.len() as u64).to_le_bytes();
    communicator.broadcast(&mut length);
    bytes.resize(u64::from_le_bytes(length) as usize, 0);
    communicator.broadcast(bytes);
}

/// Gives every process the numbers of the first; each has as many.
pub fn share_numbers(communicator: &dyn Communicator, numbers: &mut [f32]) {
    share_words(communicator, numbers, f32::to_le_bytes, f32::from_le_bytes);
}

/// Gives every process the integers of the first; each has as many.
pub fn share_integers(communicator: &dyn Communicator, integers: &mut [i64]) {
    share_words(communicator, integers, i64::to_le_bytes, i64::from_le_bytes);
}

fn share_words<T: Copy, const N: usize>(
    communicator: &dyn Communicator,
    words: &mut [T],
    bytes: fn(T) -> [u8; N],
    word: fn([u8; N]) -> T,
) {
    if communicator.size() == 1 {
        return;
    }
    let mut message: Vec<u8> = words.iter().flat_map(|&word| bytes(word)).collect();
    communicator.broadcast(&mut message);
    for (place, &bytes) in words.iter_mut().zip(message.as_chunks().0) {
        *place = word(bytes);
    }
}

/// Sums over processes, the last process's numbers first: the order in which a process that does everything alone goes
/// backward through the parts of a batch. Holds the memory for it.
#[derive(Debug, Default)]
pub struct Sum {
    received: Vec<f32>,
    part: Vec<f32>,
    all: Vec<f32>,
}

impl Sum {
    /// Replaces `numbers` by the sum over all processes, the same bits in each.
    pub fn over(&mut self, communicator: &dyn Communicator, numbers: &mut [f32]) {
        let (rank, size) = (communicator.rank(), communicator.size());
        if size == 1 || numbers.is_empty() {
            return;
        }
        // Each process sums a part, so that the work and the messages are shared.
        let length = numbers.len().div_ceil(size);
        let part =
            |of: usize| (of * length).min(numbers.len())..((of + 1) * length).min(numbers.len());
        let sent: Vec<_> = (0..size).map(|of| part(of).len()).collect();
        let own = part(rank).len();
        self.received.resize(size * own, 0.0);
        communicator.all_to_all(numbers, &sent, &mut self.received, &vec![own; size]);
        self.part.clear();
        self.part.resize(length, 0.0);
        let received = &self.received;
        (self.part[..own].par_chunks_mut(CHUNK).enumerate()).for_each(|(chunk, sums)| {
            for process in (0..size).rev() {
                let begin = process * own + chunk * CHUNK;
                let terms = &received[begin..begin + sums.len()];
                for (sum, term) in sums.iter_mut().zip(terms) {
                    *sum += term;
                }
            }
        });
        self.all.resize(size * length, 0.0);
        communicator.all_gather(&self.part, &mut self.all);
        numbers.copy_from_slice(&self.all[..numbers.len()]);
    }
}

/// Rows of all processes, put in another order: every process gives `rows` of `width` numbers and takes as many, of the
/// places that `order` names among those of all, `order[rank * rows..]`.
///
/// # Panics
/// `order` does not name as many places as there are rows.
pub fn exchange_rows(
    communicator: &dyn Communicator,
    rows: &[f32],
    width: usize,
    order: &[usize],
) -> Vec<f32> {
    let (rank, size) = (communicator.rank(), communicator.size());
    let count = rows.len() / width;
    assert_eq!(order.len(), size * count);
    let holder = |place: usize| place / count;
    let mut send = Vec::with_capacity(rows.len());
    let sent: Vec<_> = order
        .chunks_exact(count)
        .map(|wanted| {
            let before = send.len();
            for &place in wanted.iter().filter(|&&place| holder(place) == rank) {
                let row = place % count;
                send.extend_from_slice(&rows[row * width..(row + 1) * width]);
            }
            send.len() - before
        })
        .collect();
    let wanted = &order[rank * count..(rank + 1) * count];
    let received: Vec<_> = (0..size)
        .map(|process| {
            width
                * wanted
                    .iter()
                    .filter(|&&place| holder(place) == process)
                    .count()
        })
        .collect();
    let mut arrived = vec![0.0; rows.len()];
    communicator.all_to_all(&send, &sent, &mut arrived, &received);
    // They lie by their holder, and in the wanted order within each.
    let mut next: Vec<_> = received
        .iter()
        .scan(0, |begin, length| {
            Some(std::mem::replace(begin, *begin + length))
        })
        .collect();
    let mut taken = vec![0.0; rows.len()];
    for (row, &place) in taken.chunks_exact_mut(width).zip(wanted) {
        let begin = &mut next[holder(place)];
        row.copy_from_slice(&arrived[*begin..*begin + width]);
        *begin += width;
    }
    taken
}
