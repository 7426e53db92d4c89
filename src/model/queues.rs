//! Wrappers for the models.
