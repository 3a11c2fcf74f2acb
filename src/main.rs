//! The program `supervisor`.

fn main() {}
