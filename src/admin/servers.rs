//! Orders to single servers: `POST /servers/replica/N/ORDER` and `POST /servers/front/N/ORDER`.

use serde_json::{Value, json};

use crate::clock;
use crate::http1::form;
use crate::mesh::lives::Life;
use crate::worker::{Control, Drill, deliver};

use super::Cluster;
use super::server::Reply;

/// A drill must end: longer than any patience of this program.
const HANG_MS_MAX: u64 = 60_000;

/// How every replica fares, from the boards: also those whose worker hangs and does not report.
pub fn lives(cluster: &Cluster) -> Value {
    let now = clock::monotonic_ns();
    let workers = cluster.vitals.replica_workers.iter().enumerate();
    let replicas = workers.map(|(replica, worker)| {
        let standing = cluster.vitals.lives.read(replica);
        let hung = cluster.vitals.is_late(*worker, now);
        // What hangs is hung, whatever it was doing before.
        let state = if hung || standing.life == Life::Fenced { "hung" } else { standing.life.as_str() };
        json!({ "server": format!("replica/{replica}"), "state": state, "incarnation": standing.incarnation, "hung": hung })
    });
    Value::Array(replicas.collect())
}

/// An order to a replica server.
pub async fn replica(cluster: &Cluster, number: &str, order: &str, query: &str) -> Reply {
    let found =
        number.parse::<u8>().ok().and_then(|number| cluster.replica_worker(number).map(|worker| (number, worker)));
    let Some((number, worker)) = found else {
        return Reply::text(
            404,
            format!("there is no replica {number}; they count from 0 to {}", cluster.layout.replica_workers.len() - 1),
        );
    };
    let control = match order {
        "stop" | "start" => {
            let standing = cluster.order_replica(number, order == "start").await;
            let running = standing.life == Life::Running;
            return Reply::json(&json!({ "replica": number, "running": running, "state": standing.life.as_str() }));
        }
        "hang" | "hang-job" => match milliseconds(query) {
            Ok(ms) if order == "hang" => Control::Hang { ms },
            Ok(ms) => Control::Drill(Drill::Hang { ms }),
            Err(wrong) => return Reply::text(400, wrong),
        },
        "panic" => Control::Drill(Drill::Panic),
        "crash" => Control::Drill(Drill::Crash),
        other => {
            let orders = "stop, start, and the drills hang?ms=N, hang-job?ms=N, panic, crash";
            return Reply::text(404, format!("a replica knows no order `{other}`: {orders}"));
        }
    };
    deliver(worker, control);
    Reply::json(&json!({ "replica": number, "drill": order }))
}

/// `ms=N` of a drill.
fn milliseconds(query: &str) -> Result<u64, String> {
    let given = form::find(query, "ms").unwrap_or_default();
    let ms = given.parse().ok().filter(|ms| (1..=HANG_MS_MAX).contains(ms));
    ms.ok_or_else(|| format!("ms=`{given}`: write ?ms=N, the milliseconds to hang, from 1 to {HANG_MS_MAX}"))
}

/// An order to a front server.
pub fn front(cluster: &Cluster, number: &str, order: &str) -> Reply {
    let found =
        number.parse::<usize>().ok().and_then(|number| cluster.front_worker(number).map(|worker| (number, worker)));
    let Some((number, worker)) = found else {
        return Reply::text(
            404,
            format!("there is no front {number}; they count from 0 to {}", cluster.layout.front_workers.len() - 1),
        );
    };
    let on = order == "drain";
    deliver(worker, Control::Drain { on });
    Reply::json(&json!({ "front": number, "draining": on }))
}

#[cfg(test)]
mod tests {
    use super::milliseconds;

    #[test]
    fn a_drill_says_how_long_and_ends() {
        assert_eq!(milliseconds("ms=3000"), Ok(3000));
        assert_eq!(milliseconds("a=b&ms=1"), Ok(1));
        for wrong in ["", "ms=", "ms=0", "ms=60001", "ms=-1", "ms=1.5"] {
            assert!(milliseconds(wrong).unwrap_err().contains("?ms=N"), "{wrong}");
        }
    }
}
