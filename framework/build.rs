//! `links` in Cargo.toml needs a build script; it makes Cargo refuse two copies of the framework in one program.
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
}
