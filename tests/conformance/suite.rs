//! The table of tests, and the features that select them.

/// Declares the tests of one backend: its name, its harness, its features.
///
/// - `queue`: subscribers can share a queue.
/// - `ordered_queue`: a queue with one subscriber keeps its order.
/// - `pins_keys`: a queue keeps its order whoever of the group takes from it.
/// - `replay`: topics remember, and a subscription can begin in the past.
/// - `qos2`: quality of service 2 is kept.
/// - `kept_sessions`: a subscription goes on after a break, under the same
///   identity and label, with all that it has missed.
/// - `durable`: what a broker of this process has outlives it.
/// - `hand_over`: what a member of a group leaves unacknowledged goes to
///   another member as soon as it is gone.
/// - `backlog_bound`: a subscription can have a bound beyond which its oldest events
///   are discarded.
/// - `own_events`: a subscription can be without its own publisher's events.
/// - `repeated_attributes`: an attribute's name may occur twice in an event.
macro_rules! suite {
    ($backend:ident, $harness:ty: $($feature:ident),*) => {
        mod $backend {
            use super::*;
            tests!($harness; features: are_as_declared(&[$(stringify!($feature)),*]));
            tests!($harness; publish:
                every_subscriber_gets_every_event_in_order(),
                a_subscription_begins_with_what_comes_after_it(),
                an_empty_id_and_source_are_filled_in(),
                publishers_at_once_do_not_disturb_each_other(),
                an_event_that_nobody_wants_is_taken(),
                overlapping_subscriptions_get_a_copy_each());
            tests!($harness; wildcards: filters_select_topics());
            tests!($harness; qos:
                the_lower_quality_of_service_counts(),
                a_verdict_at_qos_0_changes_nothing(),
                a_full_buffer_at_qos_0_drops_the_newest_and_counts());
            tests!($harness; retry:
                a_failed_event_comes_again_and_counts_its_attempts(),
                retry_after_is_kept(),
                others_are_served_while_one_waits(),
                a_retry_concerns_its_own_subscription_only());
            tests!($harness; dead_letter:
                a_rejected_event_goes_to_the_dead_letter_topic(),
                an_exhausted_event_goes_to_the_dead_letter_topic(),
                an_exhausted_event_is_dropped_where_that_is_wanted(),
                a_rejected_event_without_a_dead_letter_topic_is_counted(),
                a_dead_letter_keeps_everything_of_its_event());
            tests!($harness; lease:
                an_expired_lease_is_charged_and_delivered_again(),
                what_an_expired_lease_says_is_ignored(),
                an_extended_lease_holds(),
                an_extension_to_zero_gives_back(),
                a_lease_without_deadline_holds(),
                a_lease_given_back_comes_first_and_uncharged(),
                leases_given_back_come_in_their_old_order(),
                a_dropped_lease_is_given_back());
            tests!($harness; flow:
                no_more_events_than_the_bound_are_out(),
                no_more_bytes_than_the_bound_are_out(),
                one_event_above_the_bound_passes_alone(),
                takers_at_once_get_different_events(),
                a_cancelled_wait_loses_nothing());
            tests!($harness; budget:
                the_bound_holds_over_all_subscriptions_and_nothing_is_lost(),
                a_stuck_subscription_stops_no_other(),
                who_waits_for_room_gets_what_others_give_back(),
                what_nobody_wants_or_handles_is_given_back());
            tests!($harness; limits:
                an_event_above_the_limit_is_refused_and_the_rest_goes_on(),
                attributes_above_their_limits_are_refused(),
                a_topic_of_the_greatest_length_passes());
            tests!($harness; fidelity:
                the_whole_envelope_arrives(),
                payloads_arrive_byte_for_byte(),
                what_is_absent_stays_absent(),
                a_large_payload_arrives(),
                topics_of_any_script_arrive(),
                attributes_named_like_the_envelope_do_not_garble_it(),
            control_characters_are_refused_or_arrive(),
            topics_with_control_characters_are_refused_or_arrive());
            tests!($harness; drain:
                a_stopped_subscription_hands_out_nothing_more(),
                draining_waits_for_what_is_in_hand(),
                draining_waits_for_dead_letters(),
                a_closed_broker_refuses());
            tests!($harness; order:
                a_key_is_handled_in_order_by_several_takers_with_retries(),
                a_retry_holds_back_its_key_and_no_other(),
                without_a_key_the_topic_is_the_key(),
                all_are_handled_one_after_the_other(),
                a_key_may_be_an_attribute_or_a_level_of_the_topic(),
                a_dead_letter_goes_before_the_next_of_its_key());
            tests!($harness; filter:
                only_what_is_wanted_is_handed_out(),
                what_is_not_wanted_takes_no_room());
            tests!($harness; partings:
                a_successor_gets_what_came_meanwhile(),
                what_nobody_wants_any_more_is_forgotten());
            tests!($harness; stats: every_outcome_is_counted());
            $(suite!(@$feature $harness);)*
        }
    };
    (@queue $harness:ty) => {
        tests!($harness; queue:
            each_event_goes_to_one_member(),
            every_group_and_every_subscriber_gets_its_own(),
            a_queue_may_have_wildcards(),
            a_failed_event_comes_again_to_its_group());
    };
    (@ordered_queue $harness:ty) => {
        tests!($harness; order_of_queues: a_queue_keeps_its_order_over_a_new_subscription());
    };
    (@qos2 $harness:ty) => {
        tests!($harness; dedupe:
            an_event_with_a_verdict_is_not_handed_out_again(),
            another_source_is_another_event(),
            a_repetition_waits_for_the_verdict_of_the_first(),
            a_failed_event_is_no_repetition(),
            qos_1_hands_out_repetitions(),
            the_window_is_bounded(),
            dead_letters_of_two_subscriptions_are_two_events());
    };
    (@kept_sessions $harness:ty) => {
        tests!($harness; sessions:
            what_was_not_acknowledged_comes_again(),
            what_was_acknowledged_does_not(),
            what_was_confirmed_at_qos_2_does_not(),
            acknowledgements_in_any_order_hold(),
            what_was_missed_comes(),
            what_was_rejected_does_not_come_again(),
            a_stop_leaves_the_rest_to_the_next_session(),
            a_queue_goes_on(),
            an_order_goes_on(),
            what_is_not_wanted_does_not_come_again());
    };
    (@hand_over $harness:ty) => {
        tests!($harness; hand_over: what_a_member_leaves_goes_to_another());
    };
    (@replay $harness:ty) => {
        tests!($harness; replay:
            who_comes_late_gets_what_was_acknowledged(),
            what_is_published_meanwhile_comes_after_it_once(),
            a_new_one_begins_with_what_comes(),
            other_topics_do_not_remember(),
            the_past_can_be_filtered_and_retried());
    };
    (@pins_keys $harness:ty) => {
        tests!($harness; pins_keys: whoever_of_the_group_has_one_has_the_key());
    };
    (@durable $harness:ty) => {
        tests!($harness; durable:
            what_was_not_acknowledged_comes_again(),
            what_was_missed_comes(),
            a_queue_goes_on(),
            what_nobody_waits_for_is_not_kept());
    };
    (@backlog_bound $harness:ty) => {
        tests!($harness; backlog_bound:
            publishers_do_not_wait_and_the_newest_stay(),
            what_is_in_hand_stays(),
            subscriptions_share_it(),
            bytes_count_too(),
            events_of_qos_0_are_in_nobodys_way(),
            a_group_has_it_until_one_without_it_shares());
    };
    (@own_events $harness:ty) => {
        tests!($harness; own_events: they_are_left_out_on_request());
    };
    (@repeated_attributes $harness:ty) => {
        tests!($harness; repeated_attributes: they_keep_order_and_number());
    };
}

/// One test function for each test of a theme. A function of a theme that no
/// table names is dead code, which the compiler reports.
macro_rules! tests {
    ($harness:ty; $theme:ident: $($test:ident($($argument:expr)?)),+) => {
        mod $theme {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let harness = <$harness>::start().await;
                    themes::$theme::$test(&harness $(, $argument)?).await;
                }
            )+
        }
    };
}
