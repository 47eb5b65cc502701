//! The stock objectives.
