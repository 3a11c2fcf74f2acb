//! The desk for people: an order comes in, its answer goes out when it is on the disk, or with a note that it is not.

use super::core::rehearse;
use super::outgoing::{DURABLE_WITHIN, is_durable};
use crate::control::{Reply, Request};
use crate::domain::command::{Command, CommandId};
use crate::domain::{Now, Order, State};
use crate::status;
use crate::store::Record;
use std::collections::BTreeMap;
use tokio::sync::{oneshot, watch};

/// Orders that are being decided, and answers that wait for their commit.
#[derive(Debug, Default)]
pub(super) struct Desk {
    last: u64,
    open: BTreeMap<CommandId, Open>,
    ready: Vec<Ready>,
}

#[derive(Debug)]
struct Open {
    order: Order,
    to: oneshot::Sender<Reply>,
}

#[derive(Debug)]
struct Ready {
    seq: u64,
    reply: Reply,
    to: oneshot::Sender<Reply>,
}

impl Desk {
    /// Takes an order in. A rehearsal is answered here; a real one becomes a command.
    pub(super) fn open(&mut self, request: Request, state: &State, now: Now) -> Option<Command> {
        self.last += 1;
        let id = CommandId(self.last);
        let Request { order, because, by, dry_run, reply } = request;
        let command = Command { id, by, because, order: order.clone() };
        if !dry_run {
            self.open.insert(id, Open { order, to: reply });
            return Some(command);
        }
        if let Some(answer) = status::answer(&order, true, &rehearse(state, command, now)) {
            // A person who no longer waits for the answer has lost nothing.
            let _ = reply.send(answer);
        }
        None
    }

    /// Notes the verdict on a command, to be delivered when `record` is committed.
    pub(super) fn answer(&mut self, id: CommandId, record: &Record) {
        let Some(Open { order, to }) = self.open.remove(&id) else { return };
        if let Some(reply) = status::answer(&order, false, &record.decision) {
            self.ready.push(Ready { seq: record.seq, reply, to });
        }
    }

    /// Sends the answers on their way; each waits for its commit beside the loop. At most as many tasks as the control
    /// socket has connections, each with a deadline.
    pub(super) fn deliver(&mut self, committed: &watch::Receiver<u64>) {
        for Ready { seq, mut reply, to } in self.ready.drain(..) {
            let mut committed = committed.clone();
            tokio::spawn(async move {
                if reply.durable == Some(true) {
                    let wait = committed.wait_for(|last| is_durable(seq, *last));
                    reply.durable = Some(matches!(
                        tokio::time::timeout(DURABLE_WITHIN.duration(), wait).await,
                        Ok(Ok(_))
                    ));
                }
                let _ = to.send(reply);
            });
        }
    }
}
