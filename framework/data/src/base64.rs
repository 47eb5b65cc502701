//! Base64 with the standard alphabet, as image files stand in tab-separated ones.
//!
//! Strict, unlike Python's decoder, which skips letters outside the alphabet and so makes other bytes of a damaged text
//! than were there.

use std::fmt;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Stands for letters outside the alphabet in [`VALUES`].
const OUTSIDE: u8 = 0xFF;

/// The six bits of each letter.
const VALUES: [u8; 256] = {
    let mut values = [OUTSIDE; 256];
    let mut i = 0;
    while i < 64 {
        values[ALPHABET[i] as usize] = i as u8;
        i += 1;
    }
    values
};

/// Why a text is no base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A letter outside the alphabet, by its place from 0.
    Letter(usize),
    /// No text has so many letters.
    Length,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Letter(place) => write!(f, "letter {} is not of its alphabet", place + 1),
            Self::Length => f.write_str("it is cut short"),
        }
    }
}

impl std::error::Error for Broken {}

/// Appends the bytes of `text` to `out`; the padding at the end may be left out.
///
/// # Errors
/// The text is no base64; some bytes may have been appended.
pub fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
    let padding = text.iter().rev().take_while(|&&b| b == b'=').count();
    let letters = &text[..text.len() - padding];
    if padding > 2 || padding > 0 && !text.len().is_multiple_of(4) || letters.len() % 4 == 1 {
        return Err(Broken::Length);
    }
    out.reserve(letters.len() / 4 * 3 + 2);
    let mut groups = letters.chunks_exact(4);
    for (i, group) in groups.by_ref().enumerate() {
        let values = [0, 1, 2, 3].map(|j| VALUES[usize::from(group[j])]);
        // Only the mark of letters outside has the upper bits.
        if values.iter().fold(0, |all, value| all | value) > 63 {
            return Err(outside(letters, 4 * i));
        }
        let bits = values.iter().fold(0, |all, &v| all << 6 | u32::from(v));
        out.extend_from_slice(&bits.to_be_bytes()[1..]);
    }
    let rest = groups.remainder();
    let mut bits = 0u32;
    for &letter in rest {
        match VALUES[usize::from(letter)] {
            OUTSIDE => return Err(outside(letters, letters.len() - rest.len())),
            value => bits = bits << 6 | u32::from(value),
        }
    }
    let bytes = (bits << (6 * (4 - rest.len()))).to_be_bytes();
    out.extend_from_slice(&bytes[1..1 + rest.len().saturating_sub(1)]);
    Ok(())
}

fn outside(letters: &[u8], from: usize) -> Broken {
    let within = letters[from..]
        .iter()
        .position(|&letter| VALUES[usize::from(letter)] == OUTSIDE);
    Broken::Letter(from + within.unwrap_or(0))
}

/// Appends `bytes` to `out` as base64, padded.
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            out.push(match i <= group.len() {
                true => ALPHABET[(bits >> (18 - 6 * i) & 63) as usize],
                false => b'=',
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn decoded(text: &str) -> Result<Vec<u8>, Broken> {
        let mut out = Vec::new();
        decode(text.as_bytes(), &mut out).map(|()| out)
    }

    /// The examples of RFC 4648.
    #[test]
    fn the_standards_examples() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut encoded = Vec::new();
            encode(bytes.as_bytes(), &mut encoded);
            assert_eq!(encoded, text.as_bytes());
            assert_eq!(decoded(text).unwrap(), bytes.as_bytes());
            let bare = text.trim_end_matches('=');
            assert_eq!(decoded(bare).unwrap(), bytes.as_bytes());
        }
    }

    #[test]
    fn all_bytes_come_back() {
        let mut random = Random::new(&[64]);
        for length in 0..200 {
            let bytes: Vec<u8> = (0..length).map(|_| random.bits() as u8).collect();
            let mut text = Vec::new();
            encode(&bytes, &mut text);
            let mut back = Vec::new();
            assert_eq!(decode(&text, &mut back), Ok(()));
            assert_eq!(back, bytes);
        }
    }

    #[test]
    fn broken_texts_are_refused() {
        for (text, expected) in [
            ("Zm9vY", Broken::Length),
            ("Z", Broken::Length),
            ("Zg=", Broken::Length),
            ("Z===", Broken::Length),
            ("====", Broken::Length),
            ("Zm 9", Broken::Letter(2)),
            ("Zm9vZm-v", Broken::Letter(6)),
            ("Zm9vZ=", Broken::Length),
            ("Zm9v=m9v", Broken::Letter(4)),
            ("Zm9vé", Broken::Letter(4)),
        ] {
            assert_eq!(decoded(text), Err(expected), "{text}");
        }
    }
}
