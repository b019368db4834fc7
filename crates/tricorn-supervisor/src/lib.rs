//! What the arbiter decides, as a pure function: Input (signal, exit, tick, worker state) to Actions.
#![forbid(unsafe_code)]
