//! The `plugin!` macro: one place for a parameter's name, type, default and documentation.
//!
//! It expands to plain items (a struct with serde's derives, `Default`, the [`Plugin`](crate::Plugin) implementation
//! and the registration), which can also be written by hand. The struct is the plugin's parameter record: what an
//! experiment file writes after the plugin's name is exactly this struct in RON.

/// Declares a plugin: its parameter struct with defaults and docs, and its registration.
///
/// The kind is the name of a trait at the root of this crate: `Backbone`, `Augmentation`, `JointAugmentation`,
/// `Objective`, `Metric`, `DataSet`, `Optimizer` or `Schedule`. Parameters may be of any type with serde's `Serialize` and `Deserialize`:
/// numbers, strings, options, tuples, vectors, enums, structs, and other plugins
/// ([`Nested`](crate::registry::Nested)). The first doc line is the plugin's line in listings
/// (no full stop), every parameter has a doc comment, and the function `build` makes the plugin from its parameters.
///
/// ```
/// use smallfry::{Context, Invalid, Schedule, plugin};
///
/// plugin! {
///     /// Divides the rate at given epochs
///     pub struct Steps: Schedule {
///         /// Epochs at which the rate is divided.
///         at: Vec<usize> = vec![120, 160],
///         /// The divisor.
///         divisor: f64 = 10.0,
///     }
///
///     fn build(self, _: &Context) -> Result<Box<dyn Schedule>, Invalid> {
///         if self.divisor <= 0.0 {
///             return Err(Invalid::new("divisor", "must be above 0"));
///         }
///         Ok(Box::new(self))
///     }
/// }
///
/// impl Schedule for Steps {
///     fn factor(&self, epoch: usize, _: usize) -> f64 {
///         let passed = self.at.iter().filter(|&&at| at <= epoch).count();
///         self.divisor.powi(-(passed as i32))
///     }
/// }
/// ```
///
/// An experiment file then says `Steps(at: [30, 60])`. Where the word in experiment files must differ from the
/// struct's name, as the reference's lower-case names of backbones do, it is given with `as`:
/// `pub struct MobileNetV3Small as mobilenetv3_small: Backbone { .. }`.
#[macro_export]
macro_rules! plugin {
    (
        #[doc = $about:literal]
        $(#[$attribute:meta])*
        pub struct $name:ident: $kind:ident { $($fields:tt)* }
        $build:item
    ) => {
        $crate::plugin! {
            #[doc = $about]
            $(#[$attribute])*
            pub struct $name as $name: $kind { $($fields)* }
            $build
        }
    };
    (
        #[doc = $about:literal]
        $(#[$attribute:meta])*
        pub struct $name:ident as $word:ident: $kind:ident {
            $( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr ),* $(,)?
        }
        $build:item
    ) => {
        #[doc = $about]
        $(#[$attribute])*
        #[derive(Clone, Debug, $crate::serde::Serialize, $crate::serde::Deserialize)]
        #[serde(crate = "smallfry::serde", default, deny_unknown_fields)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $type, )*
        }

        // A plugin without parameters could derive it; one rule serves all.
        #[allow(clippy::derivable_impls)]
        impl ::core::default::Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $crate::Plugin<dyn $crate::$kind> for $name {
            const NAME: &'static str = ::core::stringify!($word);
            const ABOUT: &'static str = $about.trim_ascii();
            const PARAMS: &'static [(&'static str, &'static str)] = &[
                $( (
                    ::core::stringify!($field),
                    ::core::concat!($($doc, "\n"),+).trim_ascii(),
                ) ),*
            ];
            $build
        }

        $crate::inventory::submit! {
            $crate::registry::Entry::<dyn $crate::$kind>::of::<$name>(
                ::core::env!("CARGO_PKG_NAME"),
                ::core::env!("CARGO_PKG_VERSION"),
            )
        }
    };
}

#[cfg(test)]
mod tests {
    use crate::{
        Context, Invalid, Schedule,
        registry::{Entry, Plugin},
        serde,
    };

    #[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    pub enum Shape {
        Straight,
        Bent { by: f32 },
        Points(u8, u8),
    }

    plugin! {
        /// Every sort of parameter
        ///
        /// More that only rustdoc shows.
        pub struct ManySorts as many_sorts: Schedule {
            /// A number.
            number: f64 = 1e-4,
            /// Or none.
            perhaps: Option<usize> = Some(3),
            /// Two lines
            /// of text.
            pair: (f32, f32) = (0.2, 1.0),
            /// A list.
            list: Vec<Shape> = vec![Shape::Straight, Shape::Bent { by: 0.5 }, Shape::Points(1, 2)],
        }

        fn build(self, _: &Context) -> Result<Box<dyn Schedule>, Invalid> {
            Ok(Box::new(self))
        }
    }

    impl Schedule for ManySorts {
        fn factor(&self, _: usize, _: usize) -> f64 {
            self.number
        }
    }

    plugin! {
        /// No parameters at all
        pub struct Nothing: Schedule {}

        fn build(self, _: &Context) -> Result<Box<dyn Schedule>, Invalid> {
            Ok(Box::new(self))
        }
    }

    impl Schedule for Nothing {
        fn factor(&self, _: usize, _: usize) -> f64 {
            1.0
        }
    }

    #[test]
    fn docs_and_name_come_from_the_declaration() {
        assert_eq!(<ManySorts as Plugin<dyn Schedule>>::NAME, "many_sorts");
        assert_eq!(
            <ManySorts as Plugin<dyn Schedule>>::ABOUT,
            "Every sort of parameter"
        );
        let docs = <ManySorts as Plugin<dyn Schedule>>::PARAMS;
        assert_eq!(docs[0], ("number", "A number."));
        assert_eq!(docs[2], ("pair", "Two lines\n of text."));
    }

    #[test]
    fn defaults_print_with_their_docs() {
        let entry = Entry::<dyn Schedule>::of::<ManySorts>("here", "1.2.3");
        assert_eq!(
            (entry.defaults)(),
            "many_sorts(
    /// A number.
    number: 0.0001,
    /// Or none.
    perhaps: 3,
    /// Two lines
    /// of text.
    pair: (0.2, 1.0),
    /// A list.
    list: [
        Straight,
        Bent(
            by: 0.5,
        ),
        Points(1, 2),
    ],
)"
        );
        let entry = Entry::<dyn Schedule>::of::<Nothing>("here", "1.2.3");
        assert_eq!((entry.defaults)(), "Nothing()");
    }
}
