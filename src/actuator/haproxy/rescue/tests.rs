use super::super::client::Client;
use super::*;
use crate::domain::action::{ActionId, Target};
use crate::domain::id::ServerId;

fn server() -> ServerId {
    ServerId { service: "api".parse().unwrap(), server: "api-onprem".parse().unwrap() }
}

/// Waits until something is due; says whether that is a look.
async fn due(rescues: &mut Rescues) -> bool {
    tokio::time::sleep_until(rescues.due().unwrap()).await;
    rescues.wants_look()
}

fn order(id: u64) -> Evacuation {
    Evacuation {
        id: ActionId(id),
        proxy: "edge".parse().unwrap(),
        server: server(),
        site: "onprem".parse().unwrap(),
        refuge: Some("cloud".parse().unwrap()),
        epoch: 7,
        generation: 1,
    }
}

/// Nobody is there: an attempt ends at its first step.
fn nobody() -> Runtime {
    Runtime::new(Client::unix("/no/such/admin.sock"), None)
}

async fn end_of(rescues: &mut Rescues) -> Option<Finished> {
    let ended = rescues.ended().await.unwrap();
    rescues.conclude(ended)
}

#[tokio::test]
async fn the_end_of_an_evacuation_that_panics_is_told_as_unknown() {
    let mut rescues = Rescues::default();
    rescues.take(order(3));
    let taken = rescues.waiting.pop().unwrap();
    rescues.spawn(taken, async { panic!("the panic of this test") });
    let end = end_of(&mut rescues).await.unwrap();
    assert_eq!((end.action, end.of.clone()), (ActionId(3), Target::Server(server())));
    assert!(matches!(&end.outcome, Outcome::Unknown(words) if words.contains("bug")), "{end:?}");
    assert!(rescues.none_runs() && rescues.orders.is_empty());
}

#[test]
fn requests_that_still_wait_are_no_success() {
    let left = |left| outcome(&Evacuated { left, queued: 5, ..Evacuated::default() });
    assert_eq!(left(0), Outcome::Done);
    assert_eq!(left(1), Outcome::Failed("1 request still waits in the queue after 2 s".into()));
    assert_eq!(left(5), Outcome::Failed("5 requests still wait in the queue after 2 s".into()));
}

#[tokio::test(start_paused = true)]
async fn an_obstacle_is_waited_for_as_long_as_clients_do() {
    let mut rescues = Rescues::default();
    rescues.take(order(1));
    let began = Instant::now();
    let mut looks = 0;
    let ended = loop {
        let ended = rescues.advance(&nobody(), |_| Guard::Blocked);
        if !ended.is_empty() {
            break ended;
        }
        looks += u32::from(due(&mut rescues).await);
    };
    assert_eq!(began.elapsed(), PATIENCE);
    assert_eq!(looks, 60);
    let words = "the route away from it was not in force within 3 s".to_owned();
    assert_eq!(ended.into_iter().map(|end| end.outcome).collect::<Vec<_>>(), [Outcome::Failed(words)]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_cut_off_is_made_again_with_growing_pauses_and_its_end_is_told() {
    let mut rescues = Rescues::default();
    rescues.take(order(1));
    let (began, mut attempts) = (Instant::now(), 0);
    let end = loop {
        assert_eq!(rescues.advance(&nobody(), |_| Guard::Clear), []);
        if rescues.none_runs() {
            assert!(!due(&mut rescues).await, "the route is in force, so there is nothing to look for");
            continue;
        }
        attempts += 1;
        if let Some(end) = end_of(&mut rescues).await {
            break end;
        }
    };
    // 50 + 100 + 200 + 400 + 800 ms; 1.6 s more would be too late.
    assert_eq!((attempts, began.elapsed().as_millis()), (6, 1550));
    assert!(
        matches!(&end.outcome, Outcome::Failed(words) if words.contains("marking the server down")),
        "{end:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_cut_off_is_not_made_again_in_another_world_and_is_told() {
    let mut rescues = Rescues::default();
    rescues.take(order(1));
    rescues.take(order(2));
    let only_the_first =
        |order: &Evacuation| if order.id == ActionId(1) { Guard::Clear } else { Guard::Blocked };
    assert_eq!(rescues.advance(&nobody(), only_the_first), []);
    assert_eq!(end_of(&mut rescues).await, None);
    let ended = rescues.advance(&nobody(), |_| Guard::Void);
    let outcomes: Vec<_> = ended.into_iter().map(|end| (end.action.0, end.outcome)).collect();
    let [(2, Outcome::Superseded), (1, Outcome::Failed(_))] = outcomes.as_slice() else {
        panic!("{outcomes:?}")
    };
}

#[tokio::test]
async fn more_than_fit_at_once_wait_for_their_turn_without_a_limit() {
    let mut rescues = Rescues::default();
    for id in 0..64 {
        assert!(rescues.has_room());
        rescues.take(order(id));
    }
    assert!(!rescues.has_room());
    for waiting in &mut rescues.waiting {
        waiting.until = Instant::now();
    }
    assert_eq!(rescues.advance(&nobody(), |_| Guard::Clear), []);
    assert_eq!((rescues.running.len(), rescues.waiting.len()), (AT_ONCE, 64 - AT_ONCE));
}
