//! The largest numbers of a sequence and where they stand.

use std::cmp::Ordering;

/// The largest of the numbers given so far, with their places.
#[derive(Clone, Debug)]
pub(super) struct Largest {
    count: usize,
    /// Falling; of equal numbers the earlier place first.
    found: Vec<(f32, usize)>,
}

impl Largest {
    /// Looks for `count` numbers.
    pub fn new(count: usize) -> Self {
        Self {
            count,
            found: Vec::with_capacity(count + 1),
        }
    }

    /// Gives a number, whose place is behind those of all before; what is not a number is smaller than any.
    #[inline]
    pub fn add(&mut self, value: f32, place: usize) {
        let full = self.found.len() == self.count;
        let rises = |last: &(f32, usize)| value.partial_cmp(&last.0) == Some(Ordering::Greater);
        if full && !self.found.last().is_some_and(rises) {
            return;
        }
        let value = if value.is_nan() {
            f32::NEG_INFINITY
        } else {
            value
        };
        let rank = self.found.partition_point(|&(other, _)| other >= value);
        self.found.insert(rank, (value, place));
        self.found.truncate(self.count);
    }

    /// Gives what `other` found behind everything given so far.
    pub fn join(&mut self, other: &Self) {
        for &(value, place) in &other.found {
            self.add(value, place);
        }
    }

    /// The places, that of the largest number first.
    pub fn places(&self) -> Vec<usize> {
        self.found.iter().map(|&(_, place)| place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(values: &[f32], count: usize) -> Vec<usize> {
        let mut largest = Largest::new(count);
        (values.iter().enumerate()).for_each(|(place, &value)| largest.add(value, place));
        largest.places()
    }

    #[test]
    fn the_largest_come_first_and_the_earlier_of_equals() {
        let values = [1.0, 3.0, -2.0, 3.0, 2.0, 3.0];
        assert_eq!(places(&values, 1), [1]);
        assert_eq!(places(&values, 4), [1, 3, 5, 4]);
        assert_eq!(places(&values, 6), [1, 3, 5, 4, 0, 2]);
        assert_eq!(places(&values, 0), [] as [usize; 0]);
        assert_eq!(places(&[f32::NAN, 1.0, f32::NAN], 2), [1, 0]);
    }

    #[test]
    fn parts_are_joined_as_if_they_were_one() {
        let values: Vec<f32> = (0..40).map(|i| ((i * 7) % 11) as f32).collect();
        let mut joined = Largest::new(5);
        for (part, values) in values.chunks(9).enumerate() {
            let mut largest = Largest::new(5);
            (values.iter().enumerate()).for_each(|(i, &v)| largest.add(v, part * 9 + i));
            joined.join(&largest);
        }
        assert_eq!(joined.places(), places(&values, 5));
    }
}
