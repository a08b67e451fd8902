//! Which end-to-end tests are of use under Wine, and why others are not.

/// Unit tests that say nothing there, by their paths in the crate, and why.
pub(crate) const UNITS_NOT_APPLICABLE: [(&str, &[&str]); 3] = [
    (
        "Wine keeps a deleted file under its name until nobody has it open",
        &["observe::recording::file::tests::a_file_that_was_deleted_is_begun_anew"],
    ),
    (
        "Wine tells the room of a folder that does not exist",
        &["runtime::free_space::tests::a_disk_with_a_folder_tells_its_room_and_nothing_tells_none"],
    ),
    (
        "a reset reaches its peer under Wine at times as an ordinary end",
        &[
            "tests::a_reset_is_a_reset_before_the_head_and_within_a_stream",
            "tests::scripted::a_script_ends_answers_in_every_way",
        ],
    ),
];

/// Tests that are left out as a whole, by the name of their file.
pub(crate) const FILES_LEFT_OUT: [(&str, &[&str]); 3] = [
    ("they move the clocks under a Linux process", &["clocks"]),
    ("they run Cargo, or commands of a Unix shell", &["policy_projects", "readme", "run_command"]),
    ("they measure for minutes what does not depend on the system", &["no_worse_off", "no_worse_off_chains"]),
];

/// Tests that say nothing there, by their names, and why.
pub(crate) const NOT_APPLICABLE: [(&str, &[&str]); 11] = [
    (
        "there are no Unix sockets",
        &[
            "a_caller_that_leaves_through_the_unix_socket_ends_its_call",
            "the_socket_of_a_dead_process_is_replaced_and_that_of_a_living_one_is_not",
            "whoever_reaches_the_unix_socket_may_spend_and_nobody_else_reaches_it",
            "through_the_unix_socket_nobody_shows_anything",
            "where_keys_are_demanded_they_are_through_the_unix_socket_too",
            "an_upgrade_over_the_unix_socket_is_relayed_too",
        ],
    ),
    (
        "the system does not tell what a caller's end has read, or whether somebody holds it",
        &[
            "a_caller_that_reads_slowly_gets_all_of_its_answer",
            "a_caller_that_sends_no_more_gets_its_answer",
            "a_caller_that_reads_slowly_or_sends_no_more_gets_all_of_its_answer_over_tls_too",
        ],
    ),
    (
        "there is no limit on open files to come near to",
        &[
            "connections_that_nobody_uses_make_room_for_those_that_somebody_does",
            "what_this_machine_lacks_is_said_as_such_and_counts_against_no_provider",
            "too_few_descriptors_are_told_and_survived",
        ],
    ),
    (
        "there are no modes, and the tests' folders lie outside of the profile",
        &[
            "who_has_made_an_answer_is_known_behind_a_kill",
            "who_has_made_a_streamed_answer_is_known_behind_a_kill",
            "requests_are_recorded_without_credentials_prompts_and_cookies",
            "a_spool_that_cannot_be_opened_keeps_nobody_from_being_served_and_opens_by_itself_when_it_can_be",
            "what_was_compiled_is_kept_and_a_damaged_file_is_compiled_again",
            "a_policy_that_needs_more_room_gets_it_once_the_configuration_says_that_it_carries_an_interpreter",
            "a_data_folder_that_cannot_be_is_told_with_what_it_means",
            "a_certificate_that_can_serve_is_valid_without_a_doubt",
            "what_can_be_meant_is_doubted",
        ],
    ),
    ("there is no SIGHUP", &["a_hangup_reloads_and_cuts_no_stream_and_a_quit_lets_all_end"]),
    (
        "they look into TMPDIR, of which Windows knows nothing",
        &[
            "a_demo_that_is_ended_early_leaves_nothing_behind",
            "a_demo_that_is_ended_while_it_starts_leaves_nothing_behind",
        ],
    ),
    (
        "a reset reaches its peer under Wine at times as an ordinary end",
        &["a_body_breaks_off_for_the_caller_as_it_did_for_us", "an_abrupt_end_on_one_side_is_one_on_the_other"],
    ),
    ("a terminal of Linux's is no console", &["in_a_terminal_the_first_word_is_a_block_that_says_what_to_do_next"]),
    (
        "they use what Linux alone has: its devices, pipes, links, file systems, and stopped threads",
        &[
            "a_machine_that_has_slept_uses_no_connection_from_before",
            "a_log_that_cannot_be_written_costs_lines_and_no_answer",
            "a_file_that_cannot_be_reached_is_rejected_and_the_others_are_served",
            "a_signature_that_cannot_be_one_is_told_what_is_wrong_and_nobody_waits_for_it",
            "a_data_folder_that_ends_with_its_container_is_named",
            "a_data_folder_whose_disk_hangs_holds_up_neither_the_start_nor_any_answer",
            "a_disk_that_hangs_does_not_keep_a_process_from_ending",
            "a_disk_that_hangs_holds_up_nobody_and_what_is_spent_meanwhile_is_known_after_a_kill",
        ],
    ),
    (
        "Windows lets nobody move or delete a file that is open",
        &[
            "nothing_is_promised_on_files_that_have_gone_and_everything_goes_on_by_itself",
            "a_job_that_is_being_served_while_its_store_is_opened_anew_is_served_once",
            "damaged_pages_are_told_and_take_no_traffic_along",
        ],
    ),
    (
        "their paths and what is said of them are Linux's, and processes have other numbers there",
        &[
            "a_second_spillway_would_have_neither_the_port_nor_the_folder_of_the_first",
            "a_candidate_is_looked_at_promoted_and_taken_back",
            "a_recording_that_cannot_be_written_is_told_at_the_start",
            "a_new_crate_is_refused_where_it_cannot_be",
        ],
    ),
];
