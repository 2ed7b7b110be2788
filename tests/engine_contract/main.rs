//! The contract of every engine: the same scenarios, each generic over the engine and the network around it.
//!
//! How: one thread drives the engine under test turn by turn; peers are blocking connections in other threads, or the
//! same engine on the other end. Every wait has a deadline and names the engine and what it waited for. In the kernel's
//! network peers are real sockets (`subject.rs`), in the simulated one they take turns with the engine in virtual time
//! (`simulated.rs`). An engine is added with one line at the end of this file.

mod driver;
mod flow;
mod life;
mod simulated;
mod subject;
mod time;

/// One test per scenario for an engine.
macro_rules! contract {
    ($name:ident, $engine:ty, [$($room:ident :: $scenario:ident),* $(,)?]) => {
        mod $name {
            $(
                #[test]
                fn $scenario() {
                    <$engine as crate::subject::Subject>::begin();
                    super::$room::$scenario::<$engine>();
                }
            )*
        }
    };
}

/// All scenarios for an engine in the kernel's network.
macro_rules! engine {
    ($name:ident, $engine:ty) => {
        crate::subject::on_sockets!($engine);
        scenarios!($name, $engine);
    };
}

/// All scenarios for an engine whose network is known.
macro_rules! scenarios {
    ($name:ident, $engine:ty) => {
        contract!(
            $name,
            $engine,
            [
                flow::echoes_every_byte,
                flow::echoes_over_a_unix_socket,
                flow::tiny_queues_lose_nothing,
                flow::sends_everything_to_a_peer_that_reads_late,
                flow::keeps_the_order_of_chunks_of_every_kind,
                flow::a_half_closed_peer_still_gets_its_answer,
                flow::our_half_close_leaves_the_input_open,
                flow::a_flushing_close_delivers_everything_while_the_peer_sends,
                flow::buffers_that_come_back_feed_starved_connections,
                flow::a_pause_holds_the_peer_and_a_resume_frees_it,
                flow::a_pause_taken_back_loses_nothing,
                flow::what_was_sent_before_the_connect_finished_goes_out,
                flow::a_flushing_close_during_the_connect_still_delivers,
                flow::what_is_reclaimed_goes_out_once_and_in_its_place,
                life::a_refused_connect_is_told_and_closed,
                life::a_reset_ends_the_connection_once,
                life::a_reset_while_nothing_is_armed_shows_at_the_next_send,
                life::our_reset_drops_what_is_queued,
                life::a_reset_after_a_flush_escalates,
                life::lingering_ends_in_time,
                life::a_cancelled_connect_ends_without_an_outcome,
                life::a_late_completion_meets_no_stranger,
                life::a_connection_moves_between_engines,
                life::a_busy_connection_does_not_detach,
                life::orders_for_an_old_generation_are_ignored,
                life::ten_thousand_connections_come_and_go,
                life::a_full_engine_refuses_and_recovers,
                life::stopping_to_listen_keeps_what_is_open,
                life::random_orders_keep_every_promise,
                life::a_dropped_engine_leaves_leases_alone,
                time::timers_fire_in_order_and_never_early,
                time::a_turn_waits_until_its_time,
                time::a_turn_without_time_does_not_wait,
                time::a_wake_ends_the_wait,
                time::a_wake_before_the_turn_is_not_lost,
                time::many_wakes_are_few_events,
                time::a_turn_hands_over_no_more_than_its_limit,
            ]
        );
    };
}

engine!(uring, twintier::engine::Uring);
engine!(glommio, twintier::engine::Glommio);
scenarios!(sim, twintier::engine::sim::Sim);
