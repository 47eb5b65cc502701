//! The stock optimizers.
