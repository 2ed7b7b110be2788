//! A disk that is full: writes are refused with a sentence, reads go on, nothing that was answered is lost, and when
//! there is room again writes work without a restart.

use std::io::Write;
use std::path::PathBuf;

use crate::support::appliance::Setup;
use crate::support::eventually;
use crate::support::small_disk::SmallDisk;

#[test]
fn a_full_disk_refuses_writes_serves_reads_and_recovers_without_a_restart() {
    let setup = Setup::shipped();
    let folder = setup.folder.path("small");
    let Some(disk) = SmallDisk::mount(&folder, 24) else {
        eprintln!("skipped: no small file system can be mounted here (unshare with or without a user namespace)");
        return;
    };
    let setup = setup.set("database.path", &folder.join("data.duckdb").display().to_string()).inside(disk.enter());
    let appliance = setup.start();
    let mut alice = appliance.user("alice");
    let mut answered: Vec<String> = (1..=3).map(|number| alice.draft("item-10", &number.to_string())).collect();
    assert_eq!(appliance.status()["database"]["state"], "up");

    let ballast = Ballast::fill(disk.outside(&folder).join("ballast"));
    // What is left in the log's last block may take a few more.
    let long = "a reason that fills the disk ".repeat(30);
    let form = [("item", "item-10"), ("quantity", "5"), ("reason", &*long)];
    let refused = eventually("a write that is refused", || {
        let answer = alice.post("/reqcat/requisitions", &form);
        match answer.status {
            303 => answered.push(answer.location().to_owned()),
            503 => return Some(answer),
            other => panic!("{other} {}", answer.text()),
        }
        None
    });
    assert!(refused.text().contains("The database cannot take this now: nothing was written"), "{}", refused.text());
    assert_eq!(refused.header("retry-after"), Some("1"));
    appliance.says("is full; free some space and try again");
    for _ in 0..20 {
        assert_eq!(alice.post("/reqcat/requisitions", &form).status, 503, "it stays full");
        for path in ["/reqcat/?words=compiler", "/reqcat/requisitions", "/directory/", &answered[0]] {
            assert_eq!(alice.page(path).status, 200, "{path}");
        }
    }
    let status = appliance.status();
    let database = &status["database"];
    assert_eq!((&database["state"], &status["books"]["writes"]), (&"full".into(), &0.into()), "{status}");
    assert!(database["last_error"].as_str().unwrap().contains("is full; free some space"), "{status}");
    assert!(database["state_since_ms"].as_u64().unwrap() > 0 && database["writes"]["failed"].as_u64().unwrap() > 0);
    let metrics = appliance.admin("GET", "/metrics").text();
    assert!(metrics.contains("twintier_database_state{state=\"full\"} 1"), "{metrics}");
    let total = alice.data("/reqcat/requisitions").json()["total"].as_u64().unwrap();
    assert_eq!(total, u64::try_from(answered.len()).unwrap(), "what was refused is not there");

    drop(ballast);
    answered.push(eventually("the next draft, without a restart", || {
        let answer = alice.post("/reqcat/requisitions", &form);
        (answer.status == 303).then(|| answer.location().to_owned())
    }));
    assert_eq!(appliance.status()["database"]["state"], "up");
    answered.extend((1..=3).map(|number| alice.draft("item-11", &number.to_string())));
    appliance.settle();

    // Full again, and killed in that state: the next start serves what is there, on a disk that takes nothing.
    let ballast = Ballast::fill(disk.outside(&folder).join("ballast"));
    eventually("a write that is refused again", || {
        let answer = alice.post("/reqcat/requisitions", &form);
        if answer.status == 303 {
            answered.push(answer.location().to_owned());
        }
        (answer.status == 503).then_some(())
    });
    let appliance = appliance.kill_and_restart();
    let cookies = alice.cookies.clone();
    alice = appliance.visitor();
    alice.cookies = cookies;
    for path in &answered {
        assert_eq!(alice.page(path).status, 200, "{path} was answered and is gone");
    }
    drop(ballast);
    eventually("a draft after the restart", || {
        let answer = alice.post("/reqcat/requisitions", &form);
        (answer.status == 303).then_some(())
    });
    let appliance = appliance.kill_and_restart();
    let cookies = alice.cookies.clone();
    alice = appliance.visitor();
    alice.cookies = cookies;
    let total = alice.data("/reqcat/requisitions").json()["total"].as_u64().unwrap();
    assert_eq!(total, u64::try_from(answered.len()).unwrap() + 1);
}

/// A file that takes all the room there is; dropping it gives the room back.
struct Ballast(PathBuf);

impl Ballast {
    fn fill(path: PathBuf) -> Self {
        let mut file = std::fs::File::create(&path).unwrap();
        // The last bytes as well: smaller and smaller pieces until not even one byte fits.
        for piece in [vec![0; 1 << 16], vec![0; 4096], vec![0]] {
            while file.write_all(&piece).is_ok() {}
        }
        Self(path)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        // The file system may be gone with its namespace.
        let _ = std::fs::remove_file(&self.0);
    }
}
