//! Tests of t-SNE as a whole.
