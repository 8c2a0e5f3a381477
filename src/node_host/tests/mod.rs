//! The node host behind a real connection: what it serves, and how it lives.

mod life;
mod serving;
