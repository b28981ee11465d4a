"""Tests of the engine that need no hook, held here at the sandbox through its API, by `make litellm` at a real proxy.

They are the very same functions: only the fixtures are others.
"""

from __future__ import annotations

from engine.test_groups import (
    test_a_mover_loses_one_team_and_gains_another,
    test_a_waiting_deletion_outlives_a_restart,
    test_after_the_waiting_time_keys_and_membership_of_that_team_end,
    test_an_explicit_leave_hastens_a_deletion_that_waits,
    test_back_within_the_waiting_time_the_same_keys_work_again,
    test_the_keys_of_a_lost_team_stop_at_once_and_no_others,
    test_the_last_group_lost_ends_access_at_once_while_deletion_waits,
    test_the_last_group_lost_is_everything_lost,
)
from engine.test_leaver import (
    test_a_fence_somebody_else_made_is_not_lifted,
    test_a_key_blocked_by_somebody_else_is_not_unblocked_by_a_return,
    test_a_lost_team_ends_the_keys_of_every_account_of_a_person,
    test_a_sweep_ends_what_came_back_later,
    test_after_the_cache_time_everything_is_looked_at_once_more,
    test_both_ways_to_say_it_end_the_same,
    test_every_account_of_a_leaver_is_ended,
    test_every_account_of_a_person_is_ended_and_given_back,
    test_metadata_of_others_outlives_fence_and_lift,
    test_more_keys_than_a_page_holds_are_all_ended,
    test_the_receipt_names_what_is_gone_and_every_call,
    test_what_comes_back_before_the_second_look_is_ended_by_it,
    test_where_departures_only_block_the_keys_are_there_and_dead,
)
from engine.test_proof import (
    test_a_key_unblocked_while_its_deletion_waits_is_blocked_again_and_told,
    test_looking_again_at_what_is_settled_says_nothing_new,
    test_what_comes_back_is_ended_again_and_told,
)
from engine.test_suspension import (
    test_the_suspended_are_locked_out_and_get_the_same_keys_back,
    test_whoever_leaves_while_suspended_loses_everything,
)
from engine.test_teams import (
    test_a_budget_changed_by_hand_is_set_back,
    test_a_member_taken_off_by_hand_is_put_back,
    test_an_adopted_team_keeps_its_own_id,
    test_the_first_role_of_the_configuration_wins_and_an_admin_is_never_lowered,
)
from engine.test_who import (
    test_a_banned_person_stays_out_whatever_the_source_says,
    test_a_joiner_gets_an_account_without_a_key_and_their_team,
    test_a_record_taken_over_by_somebody_else_does_not_give_them_the_leavers_account,
    test_an_account_is_found_by_its_sso_id_before_its_email,
    test_an_account_no_source_knows_is_revoked_by_hand,
    test_an_email_that_comes_to_somebody_new_frees_the_old_account_and_never_lifts_its_fence,
    test_who_becomes_protected_before_leaving_keeps_everything,
)

__all__ = [
    "test_a_banned_person_stays_out_whatever_the_source_says",
    "test_a_budget_changed_by_hand_is_set_back",
    "test_a_fence_somebody_else_made_is_not_lifted",
    "test_a_joiner_gets_an_account_without_a_key_and_their_team",
    "test_a_key_blocked_by_somebody_else_is_not_unblocked_by_a_return",
    "test_a_key_unblocked_while_its_deletion_waits_is_blocked_again_and_told",
    "test_a_lost_team_ends_the_keys_of_every_account_of_a_person",
    "test_a_member_taken_off_by_hand_is_put_back",
    "test_a_mover_loses_one_team_and_gains_another",
    "test_a_record_taken_over_by_somebody_else_does_not_give_them_the_leavers_account",
    "test_a_sweep_ends_what_came_back_later",
    "test_a_waiting_deletion_outlives_a_restart",
    "test_after_the_cache_time_everything_is_looked_at_once_more",
    "test_after_the_waiting_time_keys_and_membership_of_that_team_end",
    "test_an_account_is_found_by_its_sso_id_before_its_email",
    "test_an_account_no_source_knows_is_revoked_by_hand",
    "test_an_adopted_team_keeps_its_own_id",
    "test_an_email_that_comes_to_somebody_new_frees_the_old_account_and_never_lifts_its_fence",
    "test_an_explicit_leave_hastens_a_deletion_that_waits",
    "test_back_within_the_waiting_time_the_same_keys_work_again",
    "test_both_ways_to_say_it_end_the_same",
    "test_every_account_of_a_leaver_is_ended",
    "test_every_account_of_a_person_is_ended_and_given_back",
    "test_looking_again_at_what_is_settled_says_nothing_new",
    "test_metadata_of_others_outlives_fence_and_lift",
    "test_more_keys_than_a_page_holds_are_all_ended",
    "test_the_first_role_of_the_configuration_wins_and_an_admin_is_never_lowered",
    "test_the_keys_of_a_lost_team_stop_at_once_and_no_others",
    "test_the_last_group_lost_ends_access_at_once_while_deletion_waits",
    "test_the_last_group_lost_is_everything_lost",
    "test_the_receipt_names_what_is_gone_and_every_call",
    "test_the_suspended_are_locked_out_and_get_the_same_keys_back",
    "test_what_comes_back_before_the_second_look_is_ended_by_it",
    "test_what_comes_back_is_ended_again_and_told",
    "test_where_departures_only_block_the_keys_are_there_and_dead",
    "test_who_becomes_protected_before_leaving_keeps_everything",
    "test_whoever_leaves_while_suspended_loses_everything",
]
