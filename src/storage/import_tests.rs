//! Imports of supplier files as they come: every kind of bad record, wrong encodings, files that change meanwhile.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::fixture::{self, on_both, until};
use super::rfc822::{RECORD_BYTES_MAX, Wrong};
use super::supplier::Generator;
use super::tests::{Rig, rig, temporary};
use super::unit::{ExecutorKind, ImportProgress, ImportRun, Order};
use crate::tables::Value;

on_both!(
    an_import_reports_every_kind_of_bad_record,
    a_large_import_goes_in_batches_and_again_changes_nothing,
    a_file_in_another_encoding_loses_what_cannot_be_read,
    a_cut_end_loses_the_last_record_only,
    mixed_line_ends_and_an_empty_file_are_fine,
    a_record_of_ten_megabytes_is_never_held,
    a_file_that_grows_ends_where_it_ended_at_first,
    a_file_that_shrinks_fails_with_the_reason,
    an_import_waits_for_replicas_that_are_behind,
);

fn import(rig: &Rig, file: &Path) -> Arc<ImportProgress> {
    let progress = Arc::new(ImportProgress::new(file));
    let run = ImportRun {
        work: "item/import/catalog-import".into(),
        agent: Arc::new(fixture::import_agent()),
        file: file.to_path_buf(),
        requested_by: "operator".into(),
        progress: Arc::clone(&progress),
    };
    assert!(rig.handle.orders().try_send(Order::Import(run)).is_ok());
    until("the import ended", || progress.outcome().is_some());
    progress
}

fn an_import_reports_every_kind_of_bad_record(executor: ExecutorKind) {
    let mut file = Vec::new();
    file.extend_from_slice(b"Package: good\nVersion: 1\nSection: games\nSize: 7\nDescription: short\n long\n\n"); // line 1
    file.extend_from_slice(b"Package: no-version\nSection: games\n\n"); // line 8
    file.extend_from_slice(b"package: no-section\nversion: 1\nsection:\n\n"); // line 11
    file.extend_from_slice(b"Version: 1\nSection: games\n\n"); // line 15
    file.extend_from_slice(b"Package: bad-size\nVersion: 1\nSection: games\nSize: 7 kB\n\n"); // line 18
    file.extend_from_slice(b"Package: bad-text\nVersion: 1\nSection: \xff\n\n"); // line 23
    file.extend_from_slice(b"Package: too-long\nVersion: 123456789012345678901\nSection: games\n\n"); // line 27
    file.extend_from_slice(b"Package: no colon\nthere\n\n"); // line 31
    file.extend_from_slice(b"Package: twice\nPackage: twice\n\n"); // line 34
    file.extend_from_slice(b"Package: huge\nVersion: 1\nSection: games\nTag: "); // line 37
    file.extend(std::iter::repeat_n(b'x', RECORD_BYTES_MAX));
    file.extend_from_slice(b"\n\n");
    file.extend_from_slice(b"Package: good\nVersion: 2\nSection: games\n\n"); // line 42
    file.extend_from_slice(b"Package: last\nVersion: 1\nSection: games\n"); // line 46
    let path = temporary("file");
    std::fs::write(&path, &file).expect("written");
    let rig = rig(executor, "127.0.0.1:1".parse().expect("an address"), |_| ());
    let progress = import(&rig, &path);
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(progress.outcome(), Some(Ok(())));
    let wrong = |line, reason: &str| Wrong { line, reason: reason.to_owned() };
    assert_eq!(
        progress.rejections(),
        [
            wrong(8, "required field `Version` is missing"),
            wrong(11, "required field `Section` is missing"),
            wrong(15, "required field `Package` is missing"),
            wrong(21, "`Size` \"7 kB\" is no integer"),
            wrong(
                25,
                "no UTF-8 at byte 38 of the record (0xFF); convert the file, as with `iconv -f ISO-8859-1 -t UTF-8`"
            ),
            wrong(28, "`Version` has 21 bytes, at most 20 fit"),
            wrong(32, "\"there\" has no colon"),
            wrong(35, "field `Package` appears twice"),
            wrong(37, "longer than 65536 bytes"),
        ]
    );
    assert_eq!((of(&progress.read), of(&progress.taken), of(&progress.unchanged)), (12, 2, 0));
    assert_eq!((of(&progress.duplicate), of(&progress.rejected)), (1, 9));
    assert_eq!(of(&progress.bytes), u64::try_from(file.len()).expect("small"));
    let again = r#""good" came before; this record replaces it"#;
    assert_eq!(progress.repetitions(), [wrong(42, again)]);
    // The later record won, and what it does not say is gone.
    assert_eq!(rig.database.get(3, "good", 0), Value::text("2"));
    assert_eq!(rig.database.get(3, "good", 3), Value::Null);
    assert_eq!(rig.database.get(3, "last", 1), Value::text("games"));
    let work = |field| rig.database.get(2, "item/import/catalog-import", field);
    until("the work row is closed", || work(3) == Value::text("done"));
    let result = work(8);
    let result = result.as_text().expect("a result");
    assert!(result.contains(r#""rejected":9"#) && result.contains(r#""taken":2"#), "{result}");
    assert!(result.len() <= 4000, "{result}");
    assert_eq!(rig.handle.orders().imports().len(), 1);
    rig.stop();
}

fn a_large_import_goes_in_batches_and_again_changes_nothing(executor: ExecutorKind) {
    let path = temporary("file");
    let mut out = std::fs::File::create(&path).expect("created");
    let records: Vec<String> = Generator::new(11).take(5001).collect();
    out.write_all(records.concat().as_bytes()).expect("written");
    let rig = rig(executor, "127.0.0.1:1".parse().expect("an address"), |_| ());
    let first = import(&rig, &path);
    assert_eq!((first.outcome(), of(&first.read), of(&first.taken)), (Some(Ok(())), 5001, 5001));
    assert_eq!(rig.database.rows.lock().expect("rows").batches, [2000, 2000, 1001]);
    let second = import(&rig, &path);
    assert_eq!((of(&second.taken), of(&second.unchanged), of(&second.duplicate)), (0, 5001, 0));
    println!("{}", second.to_json(0));
    until("both work rows are closed", || rig.handle.orders().books().done == 2);
    rig.database.rows.lock().expect("rows").failures = 1;
    assert_eq!(import(&rig, &path).outcome(), Some(Err("the disk is full".into())));
    std::fs::remove_file(&path).expect("removed");
    let gone = import(&rig, &path);
    assert!(gone.outcome().expect("ended").expect_err("no file").starts_with("cannot read "));
    until("the failure is counted", || rig.handle.orders().books().failed == 2);
    rig.stop();
}

fn of(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Imports a file with these bytes; the rows are in the rig's database.
fn import_bytes(executor: ExecutorKind, bytes: &[u8]) -> (Rig, Arc<ImportProgress>) {
    let path = temporary("file");
    std::fs::write(&path, bytes).expect("written");
    let rig = rig(executor, "127.0.0.1:1".parse().expect("an address"), |_| ());
    let progress = import(&rig, &path);
    std::fs::remove_file(&path).expect("removed");
    (rig, progress)
}

fn a_file_in_another_encoding_loses_what_cannot_be_read(executor: ExecutorKind) {
    let text = "Package: a\nVersion: 1\nSection: games\n\nPackage: b\nVersion: 1\nSection: Küche\n";
    let wide: Vec<u8> = std::iter::once(0xFEFF).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let (_rig, progress) = import_bytes(executor, &wide);
    let reason = progress.outcome().expect("ended").expect_err("no record can be read");
    assert_eq!(reason, "the file is UTF-16; convert it, as with `iconv -f UTF-16 -t UTF-8`");
    assert_eq!((of(&progress.read), progress.to_json(1)["state"].clone()), (0, "failed".into()));

    let latin: Vec<u8> = text.chars().map(|one| u8::try_from(u32::from(one)).expect("Latin-1")).collect();
    let (rig, progress) = import_bytes(executor, &latin);
    assert_eq!((progress.outcome(), of(&progress.taken), of(&progress.rejected)), (Some(Ok(())), 1, 1));
    let wrong = &progress.rejections()[0];
    assert_eq!(wrong.line, 7);
    assert!(wrong.reason.contains("(0xFC)") && wrong.reason.contains("iconv"), "{wrong:?}");
    assert_eq!(rig.database.get(3, "a", 1), Value::text("games"));

    let (rig, progress) = import_bytes(executor, format!("\u{feff}{text}").as_bytes());
    assert_eq!((progress.outcome(), of(&progress.taken), of(&progress.rejected)), (Some(Ok(())), 2, 0));
    assert_eq!(rig.database.get(3, "b", 1), Value::text("Küche"));
}

fn a_cut_end_loses_the_last_record_only(executor: ExecutorKind) {
    let text = "Package: a\nVersion: 1\nSection: games\n\nPackage: b\nVersion: 1\nSection: ga";
    let (rig, progress) = import_bytes(executor, text.as_bytes());
    assert_eq!((progress.outcome(), of(&progress.read), of(&progress.taken)), (Some(Ok(())), 2, 1));
    let reason = "the file ends within a line: this record may be incomplete; end the file with a line break";
    assert_eq!(progress.rejections(), [Wrong { line: 5, reason: reason.to_owned() }]);
    assert_eq!(rig.database.get(3, "b", 0), Value::Null);
}

fn mixed_line_ends_and_an_empty_file_are_fine(executor: ExecutorKind) {
    let text = "Package: a\r\nVersion: 1\nSection: games\r\n \r\nPackage: b\nVersion: 1\r\nSection: net\n\r\n";
    let (rig, progress) = import_bytes(executor, text.as_bytes());
    assert_eq!((progress.outcome(), of(&progress.taken), of(&progress.rejected)), (Some(Ok(())), 2, 0));
    assert_eq!((rig.database.get(3, "a", 1), rig.database.get(3, "b", 1)), (Value::text("games"), Value::text("net")));
    let (_rig, progress) = import_bytes(executor, b"");
    assert_eq!((progress.outcome(), of(&progress.read)), (Some(Ok(())), 0));
}

fn a_record_of_ten_megabytes_is_never_held(executor: ExecutorKind) {
    let mut file = b"Package: huge\nVersion: 1\nSection: games\nDescription: ".to_vec();
    file.extend(std::iter::repeat_n(b'x', 10_000_000));
    file.extend_from_slice(b"\n\nPackage: a\nVersion: 1\nSection: games\n");
    let (rig, progress) = import_bytes(executor, &file);
    assert_eq!((progress.outcome(), of(&progress.read), of(&progress.taken)), (Some(Ok(())), 2, 1));
    assert_eq!(progress.rejections(), [Wrong { line: 1, reason: format!("longer than {RECORD_BYTES_MAX} bytes") }]);
    assert_eq!(rig.database.get(3, "huge", 0), Value::Null);
}

/// Begins an import of 20,000 records, and changes the file when the first batch is in the database.
fn import_while(executor: ExecutorKind, change: impl FnOnce(&Path)) -> Arc<ImportProgress> {
    let path = temporary("file");
    let records: Vec<String> = Generator::new(3).take(20_000).collect();
    std::fs::write(&path, records.concat()).expect("written");
    let rig = rig(executor, "127.0.0.1:1".parse().expect("an address"), |_| ());
    rig.database.rows.lock().expect("rows").hold_at = 1;
    let progress = std::thread::scope(|scope| {
        let running = scope.spawn(|| import(&rig, &path));
        until("the first batch is there", || rig.database.rows.lock().expect("rows").held);
        change(&path);
        rig.database.rows.lock().expect("rows").held = false;
        running.join().expect("it ended")
    });
    std::fs::remove_file(&path).expect("removed");
    progress
}

fn a_file_that_grows_ends_where_it_ended_at_first(executor: ExecutorKind) {
    let progress = import_while(executor, |path| {
        let mut file = std::fs::File::options().append(true).open(path).expect("opened");
        file.write_all(b"Package: late\nVersion: 1\nSection: games\n\n").expect("written");
    });
    assert_eq!((progress.outcome(), of(&progress.read), of(&progress.rejected)), (Some(Ok(())), 20_000, 0));
    assert_eq!(of(&progress.bytes), of(&progress.bytes_total));

    // A record that was being written when the file was opened.
    let progress = import_while(executor, |path| {
        let mut file = std::fs::File::options().append(true).open(path).expect("opened");
        file.write_all(b"Package: late\n").expect("written");
    });
    assert_eq!(of(&progress.taken), 20_000);
}

fn a_file_that_shrinks_fails_with_the_reason(executor: ExecutorKind) {
    let progress = import_while(executor, |path| {
        std::fs::File::options().write(true).open(path).and_then(|file| file.set_len(1000)).expect("cut");
    });
    let reason = progress.outcome().expect("ended").expect_err("not all of it was there");
    assert!(reason.ends_with("became shorter while it was read; import it again"), "{reason}");
    // What was whole is taken; of the record at the cut nothing is.
    assert_eq!(of(&progress.read), of(&progress.taken) + of(&progress.rejected));
    assert!(of(&progress.rejected) <= 1, "{:?}", progress.rejections());
}

fn an_import_waits_for_replicas_that_are_behind(executor: ExecutorKind) {
    let path = temporary("file");
    let records: Vec<String> = Generator::new(5).take(5000).collect();
    std::fs::write(&path, records.concat()).expect("written");
    let backlog = crate::replication::Backlog::default();
    let behind = backlog.add(crate::limits::UNAPPLIED_UPDATES_MAX + 1);
    let rig = rig(executor, "127.0.0.1:1".parse().expect("an address"), |settings| {
        settings.backlog = backlog.clone();
        settings.pace_limit = std::time::Duration::from_secs(3600);
    });
    let progress = std::thread::scope(|scope| {
        let running = scope.spawn(|| import(&rig, &path));
        until("the file is being read", || rig.handle.orders().imports().iter().any(|import| of(&import.read) > 0));
        // It holds the batch back; how long is its own matter, and it goes on as soon as the replicas have caught up.
        let early = rig.database.rows.lock().expect("rows").batches.len();
        drop(behind);
        let progress = running.join().expect("it ended");
        assert_eq!(early, 0);
        progress
    });
    std::fs::remove_file(&path).expect("removed");
    assert_eq!((progress.outcome(), of(&progress.taken), backlog.updates()), (Some(Ok(())), 5000, 0));
}
