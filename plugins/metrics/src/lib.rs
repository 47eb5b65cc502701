//! The stock metrics.
