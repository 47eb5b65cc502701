//! A set that keeps its decoded images, for sets that are small enough.
//!
//! Decoding is half the work of loading a photograph, and a small set is decoded anew in every epoch. The cache holds
//! the whole set or nothing: as soon as the images so far say that the set will not fit, all are freed, because an epoch
//! in random order gains next to nothing from a part of it.

use std::sync::{Arc, PoisonError, RwLock};

use super::{Dataset, LoadError};
use crate::image::Image;

/// Images seen before the size of the set is judged by them; a single panorama says little.
const JUDGED_AFTER: usize = 64;

/// A set with its decoded images.
pub struct Cached<D> {
    set: D,
    /// Bytes of pixels that may be kept.
    limit: usize,
    /// None once the set has turned out too large.
    held: RwLock<Option<Held>>,
}

/// What lies in the cache.
struct Held {
    images: Vec<Option<Arc<Image>>>,
    count: usize,
    bytes: usize,
}

impl<D: Dataset> Cached<D> {
    /// The images of `set`, kept if all of them take at most `limit` bytes.
    pub fn new(set: D, limit: usize) -> Self {
        let held = Held {
            images: vec![None; set.len()],
            count: 0,
            bytes: 0,
        };
        Self {
            set,
            limit,
            held: RwLock::new((limit > 0).then_some(held)),
        }
    }

    fn kept(&self, sample: usize) -> Option<Arc<Image>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.as_ref()?.images[sample].clone()
    }

    /// Keeps a copy of a decoded image, or frees all if the set will not fit.
    fn keep(&self, sample: usize, image: &Image) {
        let copy = Arc::new(image.clone());
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let Some(now) = held.as_mut() else { return };
        // Another thread may have decoded the same sample meanwhile.
        if now.images[sample].is_some() {
            return;
        }
        now.count += 1;
        now.bytes += copy.pixels.len();
        let whole = now.bytes as f64 / now.count as f64 * self.set.len() as f64;
        let judged = now.count >= JUDGED_AFTER;
        if now.bytes > self.limit || judged && whole > self.limit as f64 {
            *held = None;
        } else {
            now.images[sample] = Some(copy);
        }
    }

    fn caches(&self) -> bool {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.is_some()
    }
}

impl<D: Dataset> Dataset for Cached<D> {
    fn len(&self) -> usize {
        self.set.len()
    }

    fn classes(&self) -> &[String] {
        self.set.classes()
    }

    fn label(&self, sample: usize) -> Option<u32> {
        self.set.label(sample)
    }

    fn name(&self, sample: usize) -> String {
        self.set.name(sample)
    }

    fn load(&self, sample: usize) -> Result<Image, LoadError> {
        if let Some(kept) = self.kept(sample) {
            // A recycled buffer: a fresh one would cost page faults for every image.
            let mut image = Image::scratch(kept.width, kept.height);
            image.pixels.copy_from_slice(&kept.pixels);
            return Ok(image);
        }
        let image = self.set.load(sample)?;
        if self.caches() {
            self.keep(sample, &image);
        }
        Ok(image)
    }

    fn fingerprint(&self) -> Result<String, LoadError> {
        self.set.fingerprint()
    }

    fn stamp(&self) -> Result<String, LoadError> {
        self.set.stamp()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Images of one pixel row, of which sample 3 cannot be read; counts what is decoded.
    struct Rows {
        widths: Vec<usize>,
        decoded: AtomicUsize,
    }

    impl Rows {
        fn new(widths: Vec<usize>) -> Self {
            Self {
                widths,
                decoded: AtomicUsize::new(0),
            }
        }
    }

    impl Dataset for Rows {
        fn len(&self) -> usize {
            self.widths.len()
        }

        fn classes(&self) -> &[String] {
            &[]
        }

        fn label(&self, sample: usize) -> Option<u32> {
            Some(sample as u32)
        }

        fn name(&self, sample: usize) -> String {
            sample.to_string()
        }

        fn load(&self, sample: usize) -> Result<Image, LoadError> {
            self.decoded.fetch_add(1, Ordering::Relaxed);
            if sample == 3 {
                return Err(LoadError {
                    name: self.name(sample),
                    reason: "is damaged".into(),
                });
            }
            Ok(Image::from_grey(
                self.widths[sample],
                1,
                &vec![sample as u8; self.widths[sample]],
            ))
        }

        fn fingerprint(&self) -> Result<String, LoadError> {
            Ok("rows".to_owned())
        }
    }

    fn load_all(cached: &Cached<Rows>) {
        for sample in 0..cached.len() {
            match cached.load(sample) {
                Ok(image) => {
                    assert_eq!(image, cached.set.load(sample).unwrap());
                    cached.set.decoded.fetch_sub(1, Ordering::Relaxed);
                    image.recycle();
                }
                Err(error) => assert_eq!((sample, error.name.as_str()), (3, "3")),
            }
        }
    }

    #[test]
    fn a_small_set_is_decoded_once() {
        let cached = Cached::new(Rows::new(vec![10; 6]), 5 * 30);
        for _ in 0..3 {
            load_all(&cached);
        }
        // The damaged one is tried each time.
        assert_eq!(cached.set.decoded.load(Ordering::Relaxed), 5 + 3);
        assert_eq!(cached.label(2), Some(2));
        assert_eq!(cached.fingerprint().unwrap(), "rows");
    }

    #[test]
    fn a_set_that_does_not_fit_frees_everything() {
        let cached = Cached::new(Rows::new(vec![10; 6]), 5 * 30 - 1);
        load_all(&cached);
        assert!(!cached.caches());
        load_all(&cached);
        assert_eq!(cached.set.decoded.load(Ordering::Relaxed), 12);
    }

    #[test]
    fn a_large_set_is_given_up_before_its_cache_is_full() {
        let cached = Cached::new(Rows::new(vec![10; 1000]), 30 * 900);
        for sample in (0..JUDGED_AFTER + 1).filter(|&sample| sample != 3) {
            cached.load(sample).unwrap();
        }
        assert!(!cached.caches());
    }

    #[test]
    fn no_limit_means_no_cache() {
        assert!(!Cached::new(Rows::new(vec![1]), 0).caches());
    }
}
