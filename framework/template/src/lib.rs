//! Plugins for smallfry: one of each kind, a file and a `mod` line each.

mod centroid;
mod inverse_root;
mod lion;
mod nt_xent;
mod patch_net;
mod same_crop;
mod shapes;
mod solarize;
