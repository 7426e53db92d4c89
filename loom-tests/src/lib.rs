//! Model checks of the protocols in `layshaft`; see `tests/`.
