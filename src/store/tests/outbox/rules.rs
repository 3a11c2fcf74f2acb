//! The rows in the file change by the rules that the simulated world's rows change by.

use super::{
    MailKey, MailState, OutboxRow, ask, decided, mailing, options, outcome, recipient, rows, staging,
};
use crate::store::{RecipientState, Staging};
use proptest::collection::vec;
use proptest::prelude::*;

const WHO: [&str; 3] = ["ada@sv.test", "grace@sv.test", "zoe@sv.test"];
const STATES: [MailState; 5] =
    [MailState::Pending, MailState::Staged, MailState::Done, MailState::Dead, MailState::NotNeeded];
const STANDS: [RecipientState; 5] = [
    RecipientState::Pending,
    RecipientState::Accepted,
    RecipientState::Deferred,
    RecipientState::Ambiguous,
    RecipientState::Dead,
];

#[derive(Debug, Clone)]
enum Asked {
    Stage(Vec<usize>),
    Record(usize, Vec<(usize, usize)>),
}

fn asked() -> impl Strategy<Value = Asked> {
    prop_oneof![
        vec(0..WHO.len(), 0..4).prop_map(Asked::Stage),
        (0..STATES.len(), vec((0..WHO.len(), 0..STANDS.len()), 0..4))
            .prop_map(|(state, each)| Asked::Record(state, each)),
    ]
}

proptest! {
    // Each opens a store of its own.
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_file_changes_by_the_same_rules(all in vec(asked(), 1..12)) {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut tape) = mailing(dir.path(), options());
        let mail = decided(&store, &mut tape);
        let seq = rows(dir.path())[0].seq;
        let mut pure = OutboxRow::decided(seq, &mail);
        prop_assert_eq!(rows(dir.path()), vec![pure.clone()]);
        for of in all {
            match of {
                Asked::Stage(who) => {
                    let recipients = who.iter().map(|number| WHO[*number].to_owned()).collect();
                    let staging = Staging { recipients, ..staging(&mail) };
                    ask(store.outbox().stage(staging.clone())).unwrap();
                    pure.stage(staging);
                }
                Asked::Record(state, each) => {
                    let each = each.iter().map(|(who, stands)| recipient(WHO[*who], STANDS[*stands]));
                    let outcome = outcome(&mail, STATES[state], each.collect());
                    ask(store.outbox().record(outcome.clone())).unwrap();
                    pure.record(outcome);
                }
            }
            prop_assert_eq!(&rows(dir.path())[0], &pure);
        }
        prop_assert_eq!(pure.key, MailKey::of(&mail));
    }
}
