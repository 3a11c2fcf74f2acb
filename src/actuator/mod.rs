//! The parts that change the world outside: they make desired values true, read back what came of it, and decide nothing.

pub mod docker;
pub mod haproxy;
