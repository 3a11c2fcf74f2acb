//! The journal in order, and as a file.

use super::{PATIENCE, Tape, begun, open, options, wait_committed};
use crate::domain::Wall;
use crate::store::{Archive, ArchiveError, Exporter, FILE, Gap, History, Item, PAGE_RECORDS, Reader, Why};
use rusqlite::Connection;
use std::path::Path;

fn edit(dir: &Path, sql: &str) {
    Connection::open(dir.join(FILE)).unwrap().execute_batch(sql).unwrap();
}

fn history(dir: &Path, since: Option<Wall>) -> Vec<Item> {
    let history = History::open(Reader::open(dir).unwrap(), since).unwrap().unwrap();
    history.map(Result::unwrap).collect()
}

/// The kinds of items in a row, with the numbers of their first and last.
fn outline(items: &[Item]) -> Vec<String> {
    let mut outline: Vec<(&str, u64, u64)> = Vec::new();
    for item in items {
        let (kind, first, last) = match item {
            Item::Snapshot(snapshot) => ("snapshot", snapshot.info.seq, snapshot.info.seq),
            Item::Record(record) => ("records", record.seq, record.seq),
            Item::Gap(gap) => ("gap", gap.first, gap.last),
            Item::Damaged { seq } => ("damaged", *seq, *seq),
        };
        match outline.last_mut() {
            Some((before, _, to)) if *before == kind && kind == "records" && *to + 1 == first => *to = last,
            _ => outline.push((kind, first, last)),
        }
    }
    outline.into_iter().map(|(kind, first, last)| format!("{kind} {first}-{last}")).collect()
}

/// A store of three segments, on more than two pages; the number of each snapshot, and the last.
fn long(dir: &Path) -> (Tape, [u64; 3], u64) {
    let (store, mut tape) = begun(dir, options());
    let mut cuts = [0; 3];
    for cut in &mut cuts[1..] {
        for _ in 0..PAGE_RECORDS / 8 {
            store.submit(tape.accident()).unwrap();
            wait_committed(&store, tape.next_seq - 1);
        }
        tape.snapshot(&store);
        *cut = tape.next_seq - 1;
    }
    store.submit(tape.accident()).unwrap();
    assert!(store.close(PATIENCE));
    let last = tape.next_seq - 1;
    assert!(last > 2 * PAGE_RECORDS as u64 / 2, "{last}");
    (tape, cuts, last)
}

#[test]
fn history_has_every_record_and_snapshot_in_order_over_pages() {
    let dir = tempfile::tempdir().unwrap();
    let (tape, [_, one, two], last) = long(dir.path());
    let items = history(dir.path(), None);
    let whole = [
        "snapshot 0-0".to_owned(),
        format!("records 1-{one}"),
        format!("snapshot {one}-{one}"),
        format!("records {}-{two}", one + 1),
        format!("snapshot {two}-{two}"),
        format!("records {}-{last}", two + 1),
    ];
    assert_eq!(outline(&items), whole);
    let Some(Item::Snapshot(newest)) = items.iter().rfind(|item| matches!(item, Item::Snapshot(_))) else {
        panic!()
    };
    let mut state = newest.read().unwrap();
    for item in
        items.iter().rev().take_while(|item| matches!(item, Item::Record(_))).collect::<Vec<_>>().iter().rev()
    {
        let Item::Record(record) = item else { unreachable!() };
        state.apply(&record.read().unwrap().decision.changes);
    }
    assert_eq!(state, tape.state);
    // From the newest snapshot that is early enough.
    assert_eq!(outline(&history(dir.path(), Some(newest.info.at.wall))), whole[4..]);
    let before = Wall(newest.info.at.wall.0 - 1);
    assert_eq!(outline(&history(dir.path(), Some(before))), whole[2..]);
    assert_eq!(outline(&history(dir.path(), Some(Wall(0)))), whole, "earlier than all: the oldest");
}

#[test]
fn what_is_missing_is_a_gap_on_record_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let (_, [_, one, two], last) = long(dir.path());
    edit(
        dir.path(),
        &format!(
            "DELETE FROM journal WHERE seq BETWEEN 11 AND 20;
             DELETE FROM journal WHERE seq BETWEEN {} AND {one};
             INSERT INTO gap VALUES ({}, {one}, 5, 'disk full');
             UPDATE journal SET changes = CAST(x'ff' AS TEXT) WHERE seq = {}",
            one - 4,
            one - 4,
            one + 2
        ),
    );
    let items = history(dir.path(), None);
    assert_eq!(
        outline(&items),
        [
            "snapshot 0-0".to_owned(),
            "records 1-10".into(),
            "gap 11-20".into(),
            format!("records 21-{}", one - 5),
            format!("gap {}-{one}", one - 4),
            format!("snapshot {one}-{one}"),
            format!("records {}-{}", one + 1, one + 1),
            format!("damaged {}-{}", one + 2, one + 2),
            format!("records {}-{two}", one + 3),
            format!("snapshot {two}-{two}"),
            format!("records {}-{last}", two + 1),
        ]
    );
    let whys: Vec<&str> = items
        .iter()
        .filter_map(|item| if let Item::Gap(gap) = item { Some(gap.why.as_str()) } else { None })
        .collect();
    assert_eq!(whys, ["they are not in the store", "disk full"]);
}

#[test]
fn a_store_without_a_snapshot_has_no_history() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    assert!(History::open(Reader::open(dir.path()).unwrap(), None).unwrap().is_none());
    assert!(store.close(PATIENCE));
}

#[test]
fn states_are_stored_packed_and_those_of_before_are_read_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut tape) = begun(dir.path(), options());
    store.submit(tape.accident()).unwrap();
    tape.snapshot(&store);
    assert!(store.close(PATIENCE));
    let newest = tape.next_seq - 1;
    let row = i64::try_from(newest).unwrap();
    let conn = Connection::open(dir.path().join(FILE)).unwrap();
    let packed: Vec<u8> =
        conn.query_row("SELECT packed FROM snapshot WHERE seq = ?", [row], |row| row.get(0)).unwrap();
    let mut bare = tape.state.clone();
    bare.policy = Default::default();
    let plain = serde_json::to_string(&bare).unwrap();
    assert!(packed.len() * 2 < plain.len(), "{} of {}", packed.len(), plain.len());
    // As the version before wrote it.
    conn.execute("UPDATE snapshot SET packed = NULL, state = ? WHERE seq = ?", (&plain, row)).unwrap();
    drop(conn);
    assert_eq!(Reader::open(dir.path()).unwrap().snapshot(newest).unwrap().unwrap(), tape.state);
    // And a whole file of that version, which a supervisor of that version still writes to.
    edit(dir.path(), "ALTER TABLE snapshot DROP COLUMN packed; PRAGMA user_version = 2");
    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!(reader.snapshot(newest).unwrap().unwrap(), tape.state);
    assert_eq!(reader.latest().unwrap().unwrap().state, tape.state);
    let (_store, loaded) = open(dir.path());
    assert_eq!(loaded.stored.unwrap().state, tape.state);
}

fn exported(items: &[Item]) -> Vec<u8> {
    let mut exporter = Exporter::new(Vec::new());
    items.iter().for_each(|item| exporter.write(item.clone()).unwrap());
    exporter.finish().unwrap()
}

fn read(text: &[u8]) -> Result<Vec<Item>, ArchiveError> {
    Archive::open(text)?.collect()
}

#[test]
fn an_export_is_read_back_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (_, [_, one, _], _) = long(dir.path());
    edit(
        dir.path(),
        &format!("DELETE FROM journal WHERE seq = {one}; INSERT INTO gap VALUES ({one}, {one}, 5, 'full')"),
    );
    let mut items = history(dir.path(), None);
    items.push(Item::Damaged { seq: 1_000_000 });
    items.insert(
        items.len() - 1,
        Item::Gap(Gap { first: 900_000, last: 999_999, ended: Wall(7), why: "x".into() }),
    );
    let before = items.len();
    let text = exported(&items);
    let mut again = read(&text).unwrap();
    // Between the last record and the gap that was made up, nothing is known: that is a gap of its own.
    again.retain(|item| !matches!(item, Item::Gap(gap) if gap.why == "they are not in the file"));
    assert_eq!(again.len(), before);
    assert_eq!(again, items);
    let first = text.split(|byte| *byte == b'\n').next().unwrap();
    let header: serde_json::Value = serde_json::from_slice(first).unwrap();
    assert_eq!(header["supervisor_journal"], 1);
    assert_eq!(header["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(header["snapshot"]["seq"], 0);
}

#[test]
fn a_file_that_is_no_export_or_is_damaged_says_where_and_why() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = begun(dir.path(), options());
    assert!(store.close(PATIENCE));
    let good = exported(&history(dir.path(), None));
    let good = String::from_utf8(good).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let file = |edit: &dyn Fn(&mut Vec<String>)| {
        let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        edit(&mut lines);
        read(lines.join("\n").as_bytes())
    };
    let wrong = |result: Result<Vec<Item>, ArchiveError>| {
        result.map_err(|error| (error.line, error.to_string())).unwrap_err()
    };
    assert_eq!(wrong(read(b"")), (1, "there is nothing in it".into()));
    assert_eq!(wrong(read(b"hello\n")).0, 1);
    assert!(wrong(read(b"{}\n")).1.contains("no export of a journal"));
    let newer = good.replacen("\"supervisor_journal\":1", "\"supervisor_journal\":9", 1);
    assert!(wrong(read(newer.as_bytes())).1.contains("format 9 and was written by a newer supervisor"));
    let cut = wrong(file(&|lines| lines[2].truncate(40)));
    assert_eq!(cut, (3, "it is no line of an export, or is damaged".into()));
    let twice = wrong(file(&|lines| lines[3] = lines[1].clone()));
    assert_eq!(twice, (4, "record 1 comes after 2".into()));
    // A line that was cut out is a gap, and not an error.
    let items = file(&|lines| _ = lines.remove(2)).unwrap();
    assert_eq!(outline(&items)[..3], ["snapshot 0-0", "records 1-1", "gap 2-2"]);
}

/// A line without an end.
#[derive(Debug)]
struct Endless;

impl std::io::Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        buffer.fill(b'x');
        Ok(buffer.len())
    }
}

#[test]
fn a_line_without_an_end_is_given_up() {
    let error = Archive::open(std::io::BufReader::with_capacity(1 << 20, Endless)).unwrap_err();
    assert!(matches!(error, ArchiveError { line: 1, why: Why::TooLong }), "{error:?}");
    assert_eq!(error.to_string(), "it has more than 64 MiB");
}
