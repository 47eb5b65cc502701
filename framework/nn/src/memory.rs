//! The block of memory that a plan's tensors lie in.

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    ptr::NonNull,
};

/// Zeroed numbers, aligned so that every vector and cache line is whole.
///
/// Large blocks are aligned to huge pages and the system is asked to use them: fewer page faults at the first pass, and
/// a quarter more bandwidth where memory is read in long runs.
#[derive(Debug)]
pub struct Memory {
    start: NonNull<f32>,
    len: usize,
    layout: Layout,
}

// SAFETY: it owns its numbers as a `Vec` does.
unsafe impl Send for Memory {}
// SAFETY: shared access only reads.
unsafe impl Sync for Memory {}

/// Bytes of a huge page of x86-64 and most others.
const HUGE: usize = 2 << 20;
/// Bytes of a cache line.
const LINE: usize = 64;

impl Memory {
    /// Memory for `len` numbers.
    pub fn new(len: usize) -> Self {
        let bytes = (4 * len).max(LINE);
        let align = if bytes >= HUGE { HUGE } else { LINE };
        let layout = Layout::from_size_align(bytes.next_multiple_of(align), align)
            .expect("a network's tensors fit into the address space");
        // SAFETY: the layout has a size above 0.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        // The advice must come before the first touch, which is why the allocator is not asked for zeros.
        advise(start.as_ptr(), layout.size());
        // SAFETY: the memory is ours and has this size.
        unsafe { start.as_ptr().write_bytes(0, layout.size()) };
        Self {
            start: start.cast(),
            len,
            layout,
        }
    }

    /// Number of numbers.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// `len` rounded up so that what follows starts a cache line.
    pub fn pad(len: usize) -> usize {
        len.next_multiple_of(LINE / 4)
    }

    /// Starts cutting the memory into tensors.
    pub fn cut(&mut self) -> Cut<'_> {
        // SAFETY: the numbers are initialised, and borrowed as this value is.
        Cut(unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: taken from the same allocator with the same layout.
        unsafe { dealloc(self.start.as_ptr().cast(), self.layout) }
    }
}

/// What is left of a block of memory.
pub struct Cut<'a>(&'a mut [f32]);

impl<'a> Cut<'a> {
    /// The next `len` numbers; the following piece starts at a cache line.
    ///
    /// # Panics
    /// If fewer are left.
    pub fn take(&mut self, len: usize) -> &'a mut [f32] {
        let whole = std::mem::take(&mut self.0);
        let (piece, rest) = whole.split_at_mut(Memory::pad(len));
        self.0 = rest;
        &mut piece[..len]
    }
}

#[cfg(target_os = "linux")]
fn advise(start: *mut u8, bytes: usize) {
    unsafe extern "C" {
        fn madvise(start: *mut std::ffi::c_void, bytes: usize, advice: i32) -> i32;
    }
    const HUGE_PAGES: i32 = 14;
    if bytes >= HUGE {
        // SAFETY: advice about memory of our own, aligned to whole pages; it changes no contents. A refusal is harmless.
        unsafe { madvise(start.cast(), bytes, HUGE_PAGES) };
    }
}

#[cfg(not(target_os = "linux"))]
fn advise(_: *mut u8, _: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_aligned_zeroed_and_apart() {
        for len in [0, 1000, HUGE] {
            let mut memory = Memory::new(Memory::pad(3) + Memory::pad(len));
            let mut cut = memory.cut();
            let (a, b) = (cut.take(3), cut.take(len));
            assert_eq!((a.len(), b.len()), (3, len));
            assert_eq!(b.as_ptr() as usize % LINE, 0);
            assert!(a.iter().chain(&*b).all(|&v| v == 0.0));
            a.fill(1.0);
            assert!(b.iter().all(|&v| v == 0.0));
        }
    }
}
