mod desired;

use super::*;
use crate::domain::event::{Event, PeerResult, PeerSeen};
