//! The process is killed, for real: a child, which is this test binary again, writes; we kill it and look.

use super::{PATIENCE, Tape, begun, open, options, wait_committed};
use crate::domain::State;
use crate::store::{Lock, Reader};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Set for the child only: its state directory.
const CHILD: &str = "SUPERVISOR_TEST_STORE_CHILD";

/// The child: one accident after the other, each number on standard output once it is committed.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let (store, mut tape) = begun(Path::new(&dir), options());
    loop {
        store.submit(tape.accident()).unwrap();
        store.submit(vec![tape.order()]).unwrap();
        wait_committed(&store, tape.next_seq - 1);
        println!("committed {}", tape.next_seq - 1);
    }
}

/// The state after the record `seq` of the same story, told again: there is no chance in it.
fn retell(seq: u64) -> State {
    let mut tape = Tape::new(1);
    let mut state = tape.state.clone();
    let mut records = tape.begin();
    while tape.next_seq <= seq {
        records.extend(tape.accident());
        records.push(tape.order());
    }
    for record in records.iter().filter(|record| record.seq <= seq) {
        state.apply(&record.decision.changes);
    }
    state
}

#[test]
fn a_killed_process_loses_nothing_that_was_committed() {
    for lines in [1, 3, 10, 25] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::crash::child_that_writes_until_it_is_killed", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let told = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| line.split_once("committed ").map(|(_, seq)| seq.parse::<u64>().unwrap()))
            .nth(lines - 1)
            .expect("the child writes");
        assert!(Lock::acquire(dir.path()).is_err(), "the child holds the lock");
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();

        // A reader finds the log as the dead process left it.
        let read = Reader::open(dir.path()).unwrap().latest().unwrap().unwrap();
        let (store, loaded) = open(dir.path());
        let stored = loaded.stored.unwrap();
        assert!(stored.seq >= told, "{told} was committed, {} is there", stored.seq);
        assert!(loaded.damage.is_empty(), "{:?}", loaded.damage);
        assert_eq!((read.seq, &read.state), (stored.seq, &stored.state));
        assert_eq!(stored.state, retell(stored.seq));
        let page = Reader::open(dir.path()).unwrap().tail(1000).unwrap();
        let seqs: Vec<u64> = page.records.iter().map(|record| record.seq).collect();
        assert_eq!(seqs, (seqs[0]..=stored.seq).collect::<Vec<_>>(), "no hole");
        assert!(store.close(PATIENCE));
    }
}
