//! Scalars and arrays of NumPy within a pickle.
//!
//! Meters and schedules leave NumPy's scalars in checkpoints, and some programs store whole arrays. Their bytes lie in the
//! pickle itself, unlike a tensor's.

use super::graph::{Node, NumpyArray, NumpyType};
use crate::{
    Array, Dtype,
    error::{Error, visible},
};

/// The element type of a code such as `f8`.
pub(super) fn element(code: &str) -> Result<NumpyType, Error> {
    let (order, bare) = match code.split_at_checked(1) {
        Some((order @ ("<" | ">" | "=" | "|"), bare)) => (order, bare),
        _ => ("<", code),
    };
    let dtype = match bare {
        "f8" => Dtype::F64,
        "f4" => Dtype::F32,
        "f2" => Dtype::F16,
        "i8" => Dtype::I64,
        "i4" => Dtype::I32,
        "i2" => Dtype::I16,
        "i1" => Dtype::I8,
        "u8" => Dtype::U64,
        "u4" => Dtype::U32,
        "u2" => Dtype::U16,
        "u1" => Dtype::U8,
        "b1" => Dtype::Bool,
        "c8" => Dtype::Complex64,
        "c16" => Dtype::Complex128,
        _ => {
            return Err(Error::content(format!(
                "holds an array of NumPy of the element type `{}`, which is not read",
                visible(code)
            ))
            .remedy(
                "save the weights alone, such as with `torch.save(model.state_dict(), path)`",
            ));
        }
    };
    Ok(NumpyType {
        dtype,
        big_endian: order == ">",
    })
}

/// A scalar as an ordinary number.
pub(super) fn scalar(element: NumpyType, bytes: &[u8]) -> Result<Node, Error> {
    if bytes.len() != element.dtype.size() {
        return Err(unfit());
    }
    let array = Array {
        dtype: element.dtype,
        shape: Vec::new(),
        bytes: little_endian(element, bytes),
    };
    Ok(match element.dtype {
        Dtype::Bool => Node::Bool(bytes[0] != 0),
        Dtype::U64 if array.bytes[7] & 0x80 != 0 => {
            Node::BigInteger([&array.bytes[..], &[0]].concat())
        }
        Dtype::Complex64 | Dtype::Complex128 => return Err(unfit()),
        _ => match (array.to_i64(), array.to_f64()) {
            (Ok(integers), _) => Node::Integer(integers[0]),
            (_, Ok(floats)) => Node::Float(floats[0]),
            _ => return Err(unfit()),
        },
    })
}

/// The checked shape of an array of `bytes` bytes.
pub(super) fn shape(
    lengths: &[i64],
    element: NumpyType,
    bytes: usize,
) -> Result<Vec<usize>, Error> {
    let lengths: Option<Vec<usize>> = lengths.iter().map(|&n| n.try_into().ok()).collect();
    let lengths = lengths.ok_or_else(unfit)?;
    // Zero lengths count as one, so that no order of multiplying the shape overflows.
    let most = lengths
        .iter()
        .try_fold(element.dtype.size(), |count, &n| {
            count.checked_mul(n.max(1))
        })
        .ok_or_else(unfit)?;
    let expected = if lengths.contains(&0) { 0 } else { most };
    if expected != bytes {
        return Err(unfit());
    }
    Ok(lengths)
}

/// The dense row-major array; `bytes` are those whose number [`shape`] has checked.
pub(super) fn array(array: &NumpyArray, bytes: &[u8]) -> Array {
    let size = array.element.dtype.size();
    let mut dense = little_endian(array.element, bytes);
    if array.column_major {
        let stored = dense;
        dense = Vec::with_capacity(stored.len());
        let mut index = vec![0; array.shape.len()];
        for _ in 0..stored.len() / size {
            let place = array.shape.iter().zip(&index).rev();
            let at = size * place.fold(0, |at, (n, i)| at * n + i);
            dense.extend_from_slice(&stored[at..at + size]);
            for (i, n) in index.iter_mut().zip(&array.shape).rev() {
                *i += 1;
                if *i < *n {
                    break;
                }
                *i = 0;
            }
        }
    }
    Array {
        dtype: array.element.dtype,
        shape: array.shape.clone(),
        bytes: dense,
    }
}

fn little_endian(element: NumpyType, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if element.big_endian {
        let number = match element.dtype {
            Dtype::Complex64 | Dtype::Complex128 => element.dtype.size() / 2,
            dtype => dtype.size(),
        };
        bytes.chunks_mut(number).for_each(<[u8]>::reverse);
    }
    bytes
}

fn unfit() -> Error {
    Error::content("is damaged: a number or array of NumPy has the wrong size")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_major_arrays_are_turned() {
        // Column by column 0, 3; 1, 4; 2, 5 is row by row 0, 1, 2; 3, 4, 5.
        let stored = NumpyArray {
            element: element("u1").unwrap(),
            shape: vec![2, 3],
            column_major: true,
            bytes: 0,
        };
        assert_eq!(
            array(&stored, &[0, 3, 1, 4, 2, 5]).bytes,
            [0, 1, 2, 3, 4, 5]
        );
        let big = NumpyArray {
            element: element(">i2").unwrap(),
            shape: vec![2],
            column_major: false,
            bytes: 0,
        };
        assert_eq!(array(&big, &[1, 2, 255, 0]).to_i64().unwrap(), [258, -256]);
    }

    #[test]
    fn scalars_are_exact() {
        let of = |code, bytes: &[u8]| scalar(element(code).unwrap(), bytes);
        assert!(matches!(of("f4", &1.5f32.to_le_bytes()), Ok(Node::Float(f)) if f == 1.5));
        assert!(matches!(
            of("i8", &(-7i64).to_le_bytes()),
            Ok(Node::Integer(-7))
        ));
        assert!(matches!(
            of("u8", &7u64.to_le_bytes()),
            Ok(Node::Integer(7))
        ));
        assert!(matches!(of("u8", &[0xff; 8]), Ok(Node::BigInteger(b)) if b.len() == 9));
        assert!(matches!(of("b1", &[1]), Ok(Node::Bool(true))));
        assert!(of("f4", &[0; 3]).is_err());
        assert!(element("O8").is_err() && element("").is_err() && element("é").is_err());
    }

    #[test]
    fn shapes_fit_their_bytes_or_are_refused() {
        let float = element("f4").unwrap();
        assert_eq!(shape(&[2, 3], float, 24), Ok(vec![2, 3]));
        assert_eq!(shape(&[0, 3], float, 0), Ok(vec![0, 3]));
        for (lengths, bytes) in [
            (vec![2, 3], 20),
            (vec![-1], 4),
            (vec![i64::MAX, i64::MAX], 0),
            (vec![0, i64::MAX, i64::MAX], 0),
        ] {
            assert!(shape(&lengths, float, bytes).is_err());
        }
    }
}
