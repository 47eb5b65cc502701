//! Dropout: in training an element is zeroed with probability p, or else divided by 1 − p.
//!
//! The mask is not stored. It is a function of the pass's key, the block's position in the network and the element's
//! place in the batch, so forward and backward agree, and so do any numbers of threads.

use rayon::prelude::*;

use super::Pass;
use crate::{executor::Mode, random::Key};

/// Elements of a task.
const CHUNK: usize = 1 << 13;

/// Applies dropout with probability `p` to all elements of `values`, in place; forward and backward are the same
/// operation. Does nothing in inference.
pub(crate) fn dropout(p: f32, mode: Mode, position: usize, values: &mut [f32]) {
    let Some(draw) = mode.draw().filter(|_| p != 0.0) else {
        return;
    };
    let key = Key::of_block(draw, position);
    let scale = 1.0 / (1.0 - p);
    // Of 2²⁴ equally likely values, those below the bound drop.
    let bound = (f64::from(p) * f64::from(1 << 24)) as u64;
    values
        .par_chunks_mut(CHUNK)
        .enumerate()
        .for_each(|(chunk, values)| {
            for (i, value) in (chunk * CHUNK..).zip(values) {
                let drops = key.at(i as u64) >> 40 < bound;
                *value = if drops { 0.0 } else { *value * scale };
            }
        });
}

/// [`dropout`] with the key of `pass`.
pub(crate) fn dropout_of(p: f32, pass: &Pass<'_>, values: &mut [f32]) {
    dropout(p, pass.mode, pass.position, values);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroes_the_right_share_and_keeps_the_mean() {
        let mut values = vec![1.0; 100_000];
        dropout(0.2, Mode::Train { draw: 5 }, 3, &mut values);
        let zeros = values.iter().filter(|v| **v == 0.0).count();
        assert!((zeros as f64 - 20_000.0).abs() < 500.0, "{zeros}");
        assert!(values.iter().all(|&v| v == 0.0 || v == 1.25));
        let mut again = vec![1.0; 100_000];
        dropout(0.2, Mode::Momentum { draw: 5 }, 3, &mut again);
        assert_eq!(values, again);
        let mut other = vec![1.0; 100_000];
        dropout(0.2, Mode::Train { draw: 5 }, 4, &mut other);
        assert_ne!(values, other);
    }

    #[test]
    fn leaves_inference_alone() {
        let mut values = [1.0; 100];
        dropout(0.5, Mode::Infer, 0, &mut values);
        dropout(0.5, Mode::Fixed, 0, &mut values);
        assert_eq!(values, [1.0; 100]);
    }
}
