//! The `plugin!` macro: one place for a parameter's name, type, default and documentation.

/// Declares a plugin: its parameter struct with defaults and docs, and its registration.
#[macro_export]
macro_rules! plugin {
    (
        #[doc = $about:literal]
        $(#[$attribute:meta])*
        pub struct $name:ident: $kind:ident {
            $( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr, )*
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

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $crate::Plugin<dyn $crate::$kind> for $name {
            const NAME: &'static str = stringify!($name);
            const ABOUT: &'static str = $about.trim_ascii_start();
            const PARAMS: &'static [(&'static str, &'static str)] =
                &[$( (stringify!($field), concat!($($doc, "\n"),+).trim_ascii()) ),*];
            $build
        }

        $crate::inventory::submit! {
            $crate::registry::Entry::<dyn $crate::$kind>::of::<$name>(::core::env!("CARGO_PKG_NAME"))
        }
    };
}
