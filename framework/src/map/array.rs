//! Arrays as NumPy's `.npy` files: format 1.0, little-endian, rows one after the other.

/// What every file begins with: the magic word and the version.
const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";

/// Headers end at a multiple of it, so that numbers can be mapped into memory.
const ALIGNMENT: usize = 64;

/// The bytes of a file with `rows` of two numbers in double precision, `[rows, 2]`.
pub fn write(rows: &[[f64; 2]]) -> Vec<u8> {
    let shape = rows.len();
    let mut header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({shape}, 2), }}");
    let bare = MAGIC.len() + 2 + header.len() + 1;
    let padding = bare.next_multiple_of(ALIGNMENT) - bare;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let length = u16::try_from(header.len()).expect("a header of one line is short");
    let mut bytes = MAGIC.to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.extend(header.as_bytes());
    for value in rows.iter().flatten() {
        bytes.extend(value.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_bytes_of_numpy() {
        // numpy.save of [[1.5, -2], [0, 1e300]] and of an empty array of two columns.
        let bytes = write(&[[1.5, -2.0], [0.0, 1e300]]);
        assert_eq!(&bytes[..10], b"\x93NUMPY\x01\x00v\x00");
        let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2), }";
        assert!(bytes[10..].starts_with(header.as_bytes()));
        assert_eq!((bytes.len(), bytes[127]), (128 + 32, b'\n'));
        let numbers: Vec<f64> = bytes[128..]
            .chunks(8)
            .map(|chunk| f64::from_le_bytes(chunk.try_into().unwrap()))
            .collect();
        assert_eq!(numbers, [1.5, -2.0, 0.0, 1e300]);
        assert_eq!(write(&[]).len(), 128);
    }
}
