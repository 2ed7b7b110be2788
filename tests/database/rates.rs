//! Rates of the embedded database, to look at.

use std::time::{Duration, Instant};

use twintier::database::contract::{ABSENT, Change, Mutation};
use twintier::tables::Update;

use crate::support::{ITEMS, committed, item, loaded, mutated, read, scratch, shapes, start, update};

/// Prints rates; asserts only that the work was done.
#[test]
#[ignore = "measurement: run with --ignored --nocapture on a quiet machine"]
fn rates_of_commits_and_bulk() {
    let folder = scratch("rates");
    let (handle, _, _) = start(&folder.join("data.duckdb"), &shapes());
    let client = handle.client();
    let put = |number: usize, price: i64| Mutation {
        table: ITEMS,
        key: format!("package-{number:06}").into(),
        change: Change::Put(item(
            &format!("a package with a name and a longer description, number {number}"),
            price,
            true,
        )),
    };
    for (name, price) in [("new", 1), ("equal", 1), ("changed", 2)] {
        let began = Instant::now();
        let mut written = 0;
        for part in 0..12 {
            written +=
                mutated(client, (part * 5000..(part + 1) * 5000).map(|number| put(number, price)).collect()).len();
        }
        println!(
            "bulk of 60000 records, {name}: {written} written, {:.0} records/s",
            60_000.0 / began.elapsed().as_secs_f64()
        );
    }
    for group in [1_usize, 10, 100] {
        for (kind, base) in [("new", None), ("replacing", Some(()))] {
            let rounds = 100;
            let mut spent = Duration::ZERO;
            for round in 0..rounds {
                let updates: Vec<Update> = (0..group)
                    .map(|number| {
                        let key = if base.is_some() {
                            format!("package-{:06}", round * group + number)
                        } else {
                            format!("new-{group}-{round}-{number}")
                        };
                        let base = base.map_or(ABSENT, |()| read(client, &key).unwrap().stamp);
                        update(
                            &key,
                            base.sequence + 1,
                            0,
                            base,
                            Some(item("a text of a usual length for a form field", 1, true)),
                        )
                    })
                    .collect();
                let began = Instant::now();
                committed(client, updates);
                spent += began.elapsed();
            }
            println!(
                "commit of {group} {kind}: {:.2} ms",
                spent.as_secs_f64() * 1000.0 / f64::from(u32::try_from(rounds).unwrap())
            );
        }
    }
    let (mut worst, began) = (Duration::ZERO, Instant::now());
    for round in 0..200 {
        let updates = (0..50)
            .map(|number| update(&format!("burst-{round}-{number}"), 1, 0, ABSENT, Some(item("burst", 1, true))))
            .collect();
        let each = Instant::now();
        committed(client, updates);
        worst = worst.max(each.elapsed());
    }
    println!(
        "burst of 200 commits of 50: {:.0} updates/s, worst commit with a fold in front {:.1} ms",
        10_000.0 / began.elapsed().as_secs_f64(),
        worst.as_secs_f64() * 1000.0
    );
    let began = Instant::now();
    let rows = loaded(client, ITEMS).len();
    println!("load of {rows} rows: {:.0} ms", began.elapsed().as_secs_f64() * 1000.0);
    let began = Instant::now();
    handle.stop().unwrap();
    println!("stop with checkpoint: {:.0} ms", began.elapsed().as_secs_f64() * 1000.0);
    let began = Instant::now();
    let (handle, _, _) = start(&folder.join("data.duckdb"), &shapes());
    println!("open of {rows} rows: {:.0} ms", began.elapsed().as_secs_f64() * 1000.0);
    handle.stop().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}
