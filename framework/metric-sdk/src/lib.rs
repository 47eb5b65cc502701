//! The C interface for metrics loaded from shared libraries.
