//! Holds the plugins of this crate to what their kinds must do.

use {{crate}} as _; // links the plugins

#[test]
fn every_plugin_does_what_its_kind_must() {
    smallfry::testing::check_plugins();
}
