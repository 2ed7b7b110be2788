#!/usr/bin/env bash
# Weakens one ordering, fence or step of the mesh at a time, in a copy, and shows that the loom test which pins it fails.
# Needs no more than cargo and perl; takes some minutes. Exit code 1 if one of them is not noticed.
#
#   scripts/weaken.sh            all of them
#   scripts/weaken.sh ring       those of one file: ring, doorbell, grid, inbox, dispatch
set -euo pipefail
cd "$(dirname "$0")/.."

only=${1:-}
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
export CARGO_TARGET_DIR=${WEAKEN_TARGET_DIR:-$copy/target}

mkdir -p "$copy/source"
tar --exclude=./target --exclude=./results --exclude=./.git -cf - . | tar -xmf - -C "$copy/source"
# The tests take the weakened files; the dispatcher beside them stays as it is.
cp -r src/mesh "$copy/source/tests/loom/weakened"
sed -i 's|"../../../src/mesh/|"../weakened/|' "$copy/source/tests/loom/src/lib.rs"

run() { (cd "$copy/source" && timeout 300 cargo test --release --quiet -p loom-mesh --lib -- "$@" 2>&1); }

# Building takes as long as it takes; a test that hangs does not.
(cd "$copy/source" && cargo test --release --quiet -p loom-mesh --lib --no-run)
run > "$copy/log" || { tail -n 40 "$copy/log"; echo "FAILED  as it is"; exit 1; }
echo "ok      as it is: every test passes"

failures=0
# File, what to replace (a line must match), by what, and the test that must fail.
weaken() {
    local file=$1 find=$2 replace=$3 test=$4 what=$5
    [[ -z $only || $file == "$only" ]] || return 0
    local original=src/mesh/$file.rs weakened=$copy/source/tests/loom/weakened/$file.rs
    if [[ $file == dispatch ]]; then
        original=src/dispatch/requests.rs weakened=$copy/source/src/dispatch/requests.rs
    fi
    cp "$original" "$weakened"
    if ! grep -qF -- "$find" "$weakened"; then
        echo "FAILED  $file: no line has \`$find\`"; failures=1; return 0
    fi
    FIND=$find REPLACE=$replace perl -0pi -e 's/\Q$ENV{FIND}\E/$ENV{REPLACE}/' "$weakened"
    if run "$test" > "$copy/log"; then
        echo "FAILED  $file: $what: $test passes"; failures=1
    elif grep -q "error: could not compile" "$copy/log"; then
        echo "FAILED  $file: $what: does not compile"; tail -n 15 "$copy/log"; failures=1
    else
        echo "ok      $file: $what: $test fails"
    fi
    cp "$original" "$weakened"
}

weaken ring 'tail.store(self.staged, Ordering::Release)' 'tail.store(self.staged, Ordering::Relaxed)' \
    a_published_item_is_complete 'tail stored Relaxed'
weaken ring 'tail.store(self.staged, Ordering::Release)' 'tail.store(self.staged, Ordering::Relaxed)' \
    a_drained_batch_is_complete 'tail stored Relaxed, in batches'
weaken ring 'tail.load(Ordering::Acquire)' 'tail.load(Ordering::Relaxed)' \
    a_published_item_is_complete 'tail loaded Relaxed'
weaken ring 'head.store(self.next, Ordering::Release)' 'head.store(self.next, Ordering::Relaxed)' \
    a_slot_is_written_again_only_after_it_was_read 'head stored Relaxed'
weaken ring 'head.load(Ordering::Acquire)' 'head.load(Ordering::Relaxed)' \
    a_slot_is_written_again_only_after_it_was_read 'head loaded Relaxed'
weaken ring 'head.load(Ordering::Acquire)' 'head.load(Ordering::Relaxed)' \
    a_batch_takes_only_slots_that_were_read 'head loaded Relaxed, in batches'
weaken ring 'producer_gone.store(true, Ordering::Release)' 'producer_gone.store(true, Ordering::Relaxed)' \
    a_closed_ring_has_no_items_left 'producer_gone stored Relaxed'
weaken ring 'producer_gone.load(Ordering::Acquire)' 'producer_gone.load(Ordering::Relaxed)' \
    a_closed_ring_has_no_items_left 'producer_gone loaded Relaxed'
weaken ring 'consumer_gone.store(true, Ordering::Release)' 'consumer_gone.store(true, Ordering::Relaxed)' \
    a_producer_that_sees_the_consumer_gone_counts_exactly 'consumer_gone stored Relaxed'
weaken ring 'consumer_gone.load(Ordering::Acquire)' 'consumer_gone.load(Ordering::Relaxed)' \
    a_producer_that_sees_the_consumer_gone_counts_exactly 'consumer_gone loaded Relaxed'
weaken ring 'self.staged == self.full_at && self.free() == 0' 'false' \
    a_full_ring_stays_full_until_release 'full is not looked at'
weaken ring 'self.staged = self.staged.wrapping_add(1);
        Ok(())' 'self.staged = self.staged.wrapping_add(1);
        self.publish();
        Ok(())' \
    a_batch_becomes_visible_at_once 'every staged item is published'
weaken ring '        self.publish();
        // ORDERING: Release, pairs with the Acquire load in `Consumer::is_closed`' '        // ORDERING: Release, pairs with the Acquire load in `Consumer::is_closed`' \
    whichever_side_goes_last_every_item_is_dropped_once 'a dropped producer leaves what is staged'
weaken doorbell '        fence(Ordering::SeqCst);
    }

    /// Consumer: is awake again' '    }

    /// Consumer: is awake again' \
    no_wake_is_lost 'no fence in prepare_sleep'
weaken doorbell '        fence(Ordering::SeqCst);
    }

    /// Producer: [`ring`]' '    }

    /// Producer: [`ring`]' \
    no_wake_is_lost 'no fence in published'
weaken doorbell 'self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed)' \
    'self.sleeping.load(Ordering::Relaxed) && { self.sleeping.store(false, Ordering::Relaxed); true }' \
    one_sleep_is_answered_by_one_wake 'the taking of a sleep in two steps'
weaken grid '        Doorbell::published();
' '' \
    a_flush_reaches_a_worker_that_falls_asleep 'no fence in flush'
weaken grid '        self.flush();
        self.bells' '        self.bells' \
    two_workers_that_wait_for_each_other_both_hear 'prepare_sleep does not flush'
weaken grid '        if self.has_pending() {
            self.awake();
            return false;
        }
' '' \
    a_flush_reaches_a_worker_that_falls_asleep 'prepare_sleep does not look again'
weaken grid '            self.bells[to].ring_after_fence();' '            let _ = to;' \
    the_cap_is_kept_and_every_credit_returns 'flush wakes nobody: a credit lies unread'
weaken inbox '        self.bell.ring();
' '' \
    a_message_wakes_the_worker_of_its_port 'send does not ring'
weaken inbox '        self.shared.queue.push(message)?;
        self.bell.ring();' '        self.bell.ring();
        self.shared.queue.push(message)?;' \
    a_message_wakes_the_worker_of_its_port 'send rings before the message is in'
weaken dispatch '        replica.outstanding -= 1;
' '' \
    the_cap_is_kept_and_every_credit_returns 'a reply brings no credit back'
weaken dispatch '        replica.outstanding += 1;
' '' \
    the_cap_is_kept_and_every_credit_returns 'a dispatched job takes no credit'

[ "$failures" = 0 ] && echo "every weakening is noticed"
exit "$failures"
