//! The stock datasets.
