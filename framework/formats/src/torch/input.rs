//! The bytes of a pickle, never more than the file has or a pickle may have.

use std::io::{BufRead, ErrorKind};

use crate::error::{Error, visible};

/// The longest name of a module or of something in it, in bytes.
pub(super) const NAME_LIMIT: usize = 1000;

/// The source of a pickle's instructions.
pub(super) struct Input<R> {
    source: R,
    /// Bytes that have been read.
    position: u64,
    /// Bytes that may be read.
    end: u64,
    /// Whether the file is longer than a pickle may be.
    limited: bool,
}

impl<R: BufRead> Input<R> {
    /// At most `available` bytes of `source`, and at most `limit`.
    pub fn new(source: R, available: u64, limit: u64) -> Self {
        Self {
            source,
            position: 0,
            end: available.min(limit),
            limited: available > limit,
        }
    }

    /// Bytes that have been read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.claim(N as u64)?;
        self.source.read_exact(&mut bytes).map_err(unreadable)?;
        Ok(bytes)
    }

    /// The next `length` bytes; memory for them is taken only if the file has them.
    pub fn take(&mut self, length: u64) -> Result<Vec<u8>, Error> {
        self.claim(length)?;
        let mut bytes = vec![0; length as usize];
        self.source.read_exact(&mut bytes).map_err(unreadable)?;
        Ok(bytes)
    }

    /// A line of text without its end.
    pub fn line(&mut self) -> Result<String, Error> {
        let mut line = Vec::new();
        loop {
            match self.bytes()? {
                [b'\n'] => break,
                [byte] if line.len() < NAME_LIMIT => line.push(byte),
                _ => return Err(damaged("it has an endless name".to_owned())),
            }
        }
        String::from_utf8(line).map_err(|_| damaged("it has a name that is no UTF-8".to_owned()))
    }

    /// A length that could be negative, and must not be.
    pub fn signed_length(&mut self) -> Result<u64, Error> {
        let length = i32::from_le_bytes(self.bytes()?);
        u64::try_from(length).map_err(|_| damaged(format!("it has something of length {length}")))
    }

    fn claim(&mut self, bytes: u64) -> Result<(), Error> {
        match self.position.checked_add(bytes) {
            Some(position) if position <= self.end => {
                self.position = position;
                Ok(())
            }
            _ if self.limited => Err(Error::content(
                "holds more beside its tensors than any checkpoint does",
            )
            .remedy("save the weights alone, such as with `torch.save(model.state_dict(), path)`")),
            _ => Err(damaged("it ends too early".to_owned())),
        }
    }
}

/// The error for a pickle of which `reason` tells what is wrong.
pub(super) fn damaged(reason: String) -> Error {
    let reason = visible(&reason);
    Error::content(format!("is damaged: its pickle is wrong, as {reason}"))
}

fn unreadable(error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => damaged("it ends too early".to_owned()),
        _ => Error::disk("read", &error),
    }
}
