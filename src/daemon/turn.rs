//! One turn of the loop: what is there is taken in the order that counts, what is due is done, and what came of it goes out.
//! Shared with the simulation, which has no tasks to wait for.

use crate::domain::event::Event;
use crate::domain::{Boot, Span};
use tokio::sync::mpsc;

/// How many hard events and orders may wait. A site of 1,000 containers that dies at once makes about as many; beyond
/// that the Docker edge waits, and lists everything again.
pub const HARD_LANE: usize = 1024;

/// How many observations may wait: four seconds of 1,000 servers at the default interval. More would be too late to mean
/// anything.
pub const OBSERVED_LANE: usize = 4096;

/// How many orders may wait: more people than this do not act at once.
pub const ORDER_LANE: usize = 32;

/// How many events are taken before their effects go out. Large enough to share one commit among a burst, small enough
/// that the first of them is not kept waiting: a step takes a few microseconds.
pub const BATCH_MAX: usize = 256;

/// The longest sleep: the view shows ages and must be seen to be alive.
pub const TICK: Span = Span(1_000);

/// Where edges and people put what they have.
#[derive(Debug)]
pub struct Inbox<Order> {
    /// What people order.
    pub orders: mpsc::Receiver<Order>,
    /// Hard evidence, and outcomes.
    pub hard: mpsc::Receiver<Event>,
    /// Observations.
    pub observed: mpsc::Receiver<Event>,
}

/// What is taken next.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart at once; a box would be an allocation for each event"
)]
pub enum Next<Order> {
    /// This order.
    Order(Order),
    /// This event.
    Event(Event),
}

impl<Order> Inbox<Order> {
    /// Takes what is there already: orders and hard events before observations.
    pub fn pop(&mut self) -> Option<Next<Order>> {
        if let Ok(order) = self.orders.try_recv() {
            return Some(Next::Order(order));
        }
        self.hard.try_recv().or_else(|_| self.observed.try_recv()).ok().map(Next::Event)
    }
}

/// Who makes turns.
pub trait Loop {
    /// What people's orders are here.
    type Order;

    /// What is there already.
    fn next(&mut self) -> Option<Next<Self::Order>>;

    /// One order: rehearsed, or given.
    fn order(&mut self, order: Self::Order);

    /// One event: decided, applied, dispatched.
    fn take(&mut self, event: Event);

    /// When time alone makes something due.
    fn deadline(&self) -> Option<Boot>;

    /// This moment.
    fn now(&self) -> Boot;

    /// What the turn led to goes out.
    fn flush(&mut self);
}

/// One turn.
pub fn turn(work: &mut impl Loop) {
    for _ in 0..BATCH_MAX {
        match work.next() {
            Some(Next::Order(order)) => work.order(order),
            Some(Next::Event(event)) => work.take(event),
            None => break,
        }
    }
    if work.deadline().is_some_and(|at| at <= work.now()) {
        work.take(Event::Woke);
    }
    work.flush();
}

/// How long nothing has to be done if nothing happens: until `deadline`, and no longer than `longest`.
pub fn pause(deadline: Option<Boot>, longest: Span, now: Boot) -> Span {
    deadline.map_or(longest, |at| at.since(now).min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_hard_events_come_before_observations() {
        let (order, orders) = mpsc::channel(4);
        let (hard, hard_lane) = mpsc::channel(4);
        let (observed, observed_lane) = mpsc::channel(4);
        let mut inbox = Inbox { orders, hard: hard_lane, observed: observed_lane };
        observed.try_send(Event::Started).unwrap();
        hard.try_send(Event::Woke).unwrap();
        order.try_send("failback").unwrap();
        assert!(matches!(inbox.pop(), Some(Next::Order("failback"))));
        assert!(matches!(inbox.pop(), Some(Next::Event(Event::Woke))));
        assert!(matches!(inbox.pop(), Some(Next::Event(Event::Started))));
        assert!(inbox.pop().is_none());
    }

    #[test]
    fn a_pause_ends_with_the_deadline_and_lasts_no_longer_than_the_view() {
        assert_eq!(pause(None, TICK, Boot(5)), TICK);
        assert_eq!(pause(Some(Boot(305)), TICK, Boot(5)), Span(300));
        assert_eq!(pause(Some(Boot(4)), TICK, Boot(5)), Span::ZERO);
        assert_eq!(pause(Some(Boot(5_000)), TICK, Boot(5)), TICK);
    }
}
