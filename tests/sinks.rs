//! One suite that every sink passes, and what only one of them has to prove. Real journal, real relay, real PostgreSQL, a
//! real HTTP server.
//!
//! A new sink adds a rig to `sinks/rigs.rs` and one `conformance!` line below.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on has failed")]
#![allow(unreachable_pub, reason = "the modules of one test")]

mod support;

#[path = "sinks/answers.rs"]
mod answers;

#[path = "sinks/auths.rs"]
mod auths;

#[path = "sinks/centre.rs"]
mod centre;

#[path = "sinks/conformance.rs"]
mod conformance;

#[path = "sinks/assertions.rs"]
mod assertions;

#[path = "sinks/digest.rs"]
mod digest;

#[path = "sinks/doubt.rs"]
mod doubt;

#[path = "sinks/flow.rs"]
mod flow;
#[path = "sinks/forward.rs"]
mod forward;

#[path = "sinks/intervals.rs"]
mod intervals;

#[path = "sinks/questions.rs"]
mod questions;

#[path = "sinks/large_batches.rs"]
mod large_batches;

#[path = "sinks/mapping.rs"]
mod mapping;

#[path = "sinks/mend.rs"]
mod mend;

#[path = "sinks/mutual.rs"]
mod mutual;

#[path = "sinks/oauth_real.rs"]
mod oauth_real;

#[path = "sinks/only_api.rs"]
mod only_api;

#[path = "sinks/only_postgres.rs"]
mod only_postgres;

#[path = "sinks/pooler.rs"]
mod pooler;

#[path = "sinks/presets.rs"]
mod presets;

#[path = "sinks/proxy.rs"]
mod proxy;

#[path = "sinks/relays.rs"]
mod relays;

#[path = "sinks/rigs.rs"]
mod rigs;

#[path = "sinks/simulated.rs"]
mod simulated;

#[path = "sinks/world.rs"]
mod world;

/// Runs the whole suite against one sink.
macro_rules! conformance {
    ($name:ident, $rig:ty, [$($test:ident),+ $(,)?]) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    crate::conformance::$test::<$rig>().await;
                }
            )+
        }
    };
}

macro_rules! every_test {
    ($($name:ident: $rig:ty),+ $(,)?) => {
        $(conformance!($name, $rig, [
            everything_arrives_once_and_the_ledger_balances,
            i3_a_lost_answer_to_every_batch_doubles_nothing,
            i3_the_whole_journal_replayed_three_times_with_every_answer_lost_doubles_nothing,
            i9_one_poisoned_event_in_500_is_quarantined_and_499_arrive_with_bounded_requests,
            several_poisoned_events_are_each_quarantined_with_the_sinks_own_words,
            a_quarantined_event_is_delivered_once_it_is_released,
            our_own_fault_keeps_everything_and_is_over_once_it_is_mended,
            a_sink_that_is_down_and_comes_back_gets_everything,
            a_sink_that_never_answers_is_given_up_in_time_and_tried_again,
            i2_a_relay_killed_at_random_moments_loses_and_doubles_nothing,
            corrections_are_delivered_as_records_of_their_own,
            shutdown_ends_a_relay_that_waits,
        ]);)+
    };
}

every_test! {
    api: crate::rigs::Api,
    api_one_by_one: crate::rigs::LoneApi,
    api_mapped: crate::rigs::MappedApi,
    postgres: crate::rigs::Central,
}
