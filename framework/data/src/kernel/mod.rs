//! Pixel kernels, each compiled for several instruction sets from one source.
//!
//! A kernel is written once as plain Rust that the compiler vectorises, and instantiated with AVX2 and AVX-512 by the
//! `dispatch!` macro; only the horizontal resampling needs hand-written shuffles. Integer arithmetic and unfused
//! floating point make all instantiations return the same bytes, which the tests check.

use std::cell::Cell;

pub mod blur;
pub mod color;
pub mod normalize;
pub mod resample;

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every machine of the build's target has.
    Portable,
    /// AVX2 with FMA and the bit instructions that came with it.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
}

thread_local! {
    static FORCED: Cell<Option<Level>> = const { Cell::new(None) };
}

impl Level {
    /// The levels this machine can run, the best last.
    pub fn available() -> Vec<Level> {
        let best = detected();
        [Level::Portable, Level::Avx2, Level::Avx512]
            .into_iter()
            .filter(|level| *level <= best)
            .collect()
    }

    /// Runs `work` with all kernels of this thread at this level, for tests and measurements.
    ///
    /// # Panics
    /// The machine does not have the level.
    pub fn with<T>(self, work: impl FnOnce() -> T) -> T {
        struct Restore(Option<Level>);
        impl Drop for Restore {
            fn drop(&mut self) {
                FORCED.set(self.0);
            }
        }
        assert!(self <= detected(), "this machine has no {self:?}");
        let _restore = Restore(FORCED.replace(Some(self)));
        work()
    }

    /// The level that kernels of this thread run at.
    pub(crate) fn current() -> Level {
        FORCED.get().unwrap_or_else(detected)
    }
}

/// The best level of this machine.
fn detected() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        return match (avx2, avx512) {
            (true, true) => Level::Avx512,
            (true, false) => Level::Avx2,
            (false, _) => Level::Portable,
        };
    }
    #[allow(unreachable_code)]
    Level::Portable
}

/// Defines a function that runs `$body` compiled for the current level; `$body` must be `#[inline(always)]`.
macro_rules! dispatch {
    ($(#[$attribute:meta])* pub fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $body:path;) => {
        $(#[$attribute])*
        pub fn $name($($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,bmi1,bmi2")]
                fn avx2($($argument: $type),*) $(-> $result)? {
                    $body($($argument),*)
                }
                #[target_feature(enable = "avx2,fma,bmi1,bmi2,avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($argument: $type),*) $(-> $result)? {
                    $body($($argument),*)
                }
                match $crate::kernel::Level::current() {
                    // SAFETY: the level is only ever one that the machine was found to have.
                    $crate::kernel::Level::Avx512 => return unsafe { avx512($($argument),*) },
                    // SAFETY: as above.
                    $crate::kernel::Level::Avx2 => return unsafe { avx2($($argument),*) },
                    $crate::kernel::Level::Portable => {}
                }
            }
            $body($($argument),*)
        }
    };
}
pub(crate) use dispatch;

/// Does the same with AVX2 at most, for kernels that come in short bursts between other work: there the wider
/// registers cost more than they gain.
macro_rules! dispatch_narrow {
    ($(#[$attribute:meta])* pub fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $body:path;) => {
        $(#[$attribute])*
        pub fn $name($($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt")]
                fn avx2($($argument: $type),*) $(-> $result)? {
                    $body($($argument),*)
                }
                if $crate::kernel::Level::current() >= $crate::kernel::Level::Avx2 {
                    // SAFETY: the level is only ever one that the machine was found to have.
                    return unsafe { avx2($($argument),*) };
                }
            }
            $body($($argument),*)
        }
    };
}
pub(crate) use dispatch_narrow;
