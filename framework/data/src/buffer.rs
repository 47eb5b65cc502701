//! Byte buffers recycled within a thread.
//!
//! Every operation that changes the size of an image needs a fresh buffer of some hundred kilobytes. Taking it from
//! the allocator costs page faults each time, more than many of the operations themselves, so each thread keeps a few.

use std::cell::RefCell;

/// Buffers kept by one thread; more are freed.
const KEPT: usize = 8;

/// The largest buffer worth keeping, in bytes.
const LARGEST: usize = 64 << 20;

thread_local! {
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of `len` bytes with arbitrary (but initialised) content.
pub(crate) fn take(len: usize) -> Vec<u8> {
    let mut buffer = POOL
        .with_borrow_mut(|pool| {
            let fits = pool.iter().position(|b| b.capacity() >= len);
            fits.map(|at| pool.swap_remove(at)).or_else(|| pool.pop())
        })
        .unwrap_or_default();
    if buffer.len() > len {
        buffer.truncate(len);
    } else {
        buffer.resize(len, 0);
    }
    buffer
}

/// Hands a buffer back for the next [`take`] on this thread.
pub(crate) fn give(buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.capacity() > LARGEST {
        return;
    }
    POOL.with_borrow_mut(|pool| {
        if pool.len() < KEPT {
            pool.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_used_again() {
        let buffer = take(1000);
        let address = buffer.as_ptr();
        give(buffer);
        let again = take(900);
        assert_eq!(again.len(), 900);
        assert_eq!(again.as_ptr(), address);
    }
}
