//! How people learn that something is wrong. This room carries messages and decides nothing: whom to tell, what and by
//! which way comes from the core.

pub mod email;
