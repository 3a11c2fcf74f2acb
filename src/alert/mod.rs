//! How people learn that something is wrong. This room carries messages and decides nothing: whom to tell, what and by
//! which way comes from the core.

pub mod alertmanager;
pub mod email;
mod letter;
mod parcel;
mod sender;

pub use letter::Correspondents;
pub use parcel::Parcel;
pub use sender::{
    AT_ONCE, Backlog, Desk, Fated, Holds, Kept, Ledger, Left, Means, Order, Post, Recorded, Staged, Standing,
    Way, round, run,
};
