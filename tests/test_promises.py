"""Each promise of the README and of docs/ about bad input, resuming and hangs, and its tests.

A sentence that is changed in a page is changed here, after a look at the tests that back it; a new
promise gets a test and a line.
"""

# ruff: noqa: E501  (names of tests are as long as they are)

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from video_snl.utils.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES

ROOT = Path(__file__).resolve().parent.parent

Promise = tuple[str, tuple[str, ...]]
"""Words of a page, and the tests that back what its sentence says."""

PROMISES: dict[str, list[Promise]] = {
    "README.md": [
        (
            "A file that cannot be read, or on which a decoder hangs, is named and counted, and stops nothing",
            (
                "tests/data/test_pool.py::test_a_task_stuck_in_native_code_is_killed_at_its_deadline",
                "tests/data/test_bad_files.py::test_another_video_of_the_class_is_shown",
                "tests/engine/test_bad_videos.py::test_training_goes_on",
                "tests/engine/test_bad_videos.py::test_evaluation_names_them",
                "tests/data/test_loader_processes.py::test_a_deadline_passes_while_nobody_asks_for_a_batch",
            ),
        ),
        (
            "finds damaged files beforehand",
            (
                "tests/engine/test_check.py::test_every_kind_of_problem",
                "tests/engine/test_check.py::test_file_that_hangs_costs_the_deadline",
            ),
        ),
        (
            "Interrupt a run whenever you like",
            (
                "tests/engine/test_interruption.py::test_stopped_run_resumes_to_the_unbroken_result",
                "tests/engine/test_interruption.py::test_ten_kills_at_random_moments_change_nothing",
            ),
        ),
        (
            "goes on and ends with the same numbers",
            (
                "tests/data/test_loader.py::test_batches_do_not_depend_on_the_workers",
                "tests/engine/test_interruption.py::test_stopped_run_resumes_to_the_unbroken_result",
                "tests/engine/test_resume.py::test_failed_starts_are_passed_over",
            ),
        ),
        (
            "Nothing has to be converted",
            ("tests/data/test_own_videos.py::test_training_on_own_videos_with_strange_names",),
        ),
    ],
    "docs/own-videos.md": [
        (
            "decodes every file on all cores, each within `--deadline` seconds (20), and lists what is wrong",
            (
                "tests/engine/test_check.py::test_file_that_hangs_costs_the_deadline",
                "tests/engine/test_check.py::test_every_kind_of_problem",
            ),
        ),
        (
            "a list names it, and it is not there",
            ("tests/engine/test_check.py::test_every_kind_of_problem",),
        ),
        (
            "not a video, damaged, a crash of the decoder, or not decoded in time",
            (
                "tests/engine/test_check.py::test_every_kind_of_problem",
                "tests/engine/test_check.py::test_damaged_frames_are_found",
                "tests/engine/test_check.py::test_file_that_hangs_costs_the_deadline",
                "tests/data/test_pool.py::test_a_worker_that_dies_is_replaced",
            ),
        ),
        (
            "fewer bytes or frames than its header or its table promises",
            (
                "tests/data/test_facts.py::test_truncated",
                "tests/engine/test_check.py::test_every_kind_of_problem",
            ),
        ),
        (
            "another number of frames than its header says",
            (
                "tests/engine/test_check.py::test_every_kind_of_problem",
                "tests/engine/test_check.py::test_originals",
            ),
        ),
        (
            "fewer frames than a clip spans",
            ("tests/engine/test_check.py::test_every_kind_of_problem",),
        ),
        (
            "the same file is in train and in test",
            ("tests/data/test_duplicates.py::test_check_reports_files_that_are_met_twice",),
        ),
        (
            "the same file is twice in one part",
            ("tests/data/test_duplicates.py::test_check_reports_files_that_are_met_twice",),
        ),
        (
            "it is there, and no list names it",
            ("tests/engine/test_check.py::test_every_kind_of_problem",),
        ),
        (
            "Exit code 0: nothing found; 1: something found; 2: bad input",
            (
                "tests/engine/test_check.py::test_clean_set_in_every_layout",
                "tests/engine/test_check.py::test_every_kind_of_problem",
                "tests/engine/test_check.py::test_bad_input",
            ),
        ),
        ("The table shows the first 20 of each kind", ("tests/engine/test_check.py::test_table",)),
        (
            "What was passed over in folders is one line on stderr (`ignored` in JSON)",
            ("tests/engine/test_check.py::test_what_was_passed_over_is_said_and_in_the_json",),
        ),
        (
            "takes all videos below a folder, `csv` the rows of a table; without the option the layout says which",
            ("tests/engine/test_check.py::test_clean_set_in_every_layout",),
        ),
        (
            "originals are never touched",
            ("tests/engine/test_prepare.py::test_same_layout_names_and_frames",),
        ),
        (
            "A file appears under its name only after all its frames were decoded again and counted",
            (
                "tests/engine/test_prepare.py::test_bad_originals_are_reported_and_not_written",
                "tests/engine/test_prepare.py::test_files_may_not_grow",
            ),
        ),
        (
            "The command goes on where it ended, also after a kill or a full disk (one line, nothing half-written)",
            (
                "tests/engine/test_prepare.py::test_goes_on_where_it_ended",
                "tests/engine/test_prepare.py::test_full_disk",
                "tests/engine/test_prepare.py::test_files_may_not_grow",
            ),
        ),
        (
            "other settings for the same folder are an error",
            ("tests/engine/test_prepare.py::test_another_setting_is_an_error",),
        ),
        (
            "Originals that cannot be read are listed at the end and not written (exit code 1)",
            ("tests/engine/test_prepare.py::test_bad_originals_are_reported_and_not_written",),
        ),
        (
            "A video with fewer frames than `clip_frames` is a short one for `uniform` as well",
            ("tests/data/test_clips.py::test_video_shorter_than_the_segments",),
        ),
        (
            "a video shorter than a window is one window",
            ("tests/data/test_windows.py::test_windows",),
        ),
        (
            "where a decoder gets stuck, the file is given up after `--deadline` seconds",
            (
                "tests/data/test_viewing.py::test_window_stuck_in_native_code_is_given_up",
                "tests/test_predict_windows.py::test_file_that_takes_too_long_is_given_up",
            ),
        ),
        (
            "Memory depends on the length of a window, not on that of the video",
            ("tests/test_predict_windows.py::test_memory_does_not_grow_with_the_video",),
        ),
        (
            "What was found before a file breaks is printed all the same; the exit code is then 2, and `--json` has the reason under `error`",
            (
                "tests/test_predict_windows.py::test_video_that_breaks_gives_what_came_before",
                "tests/test_predict_windows.py::test_killed_process_gives_what_came_before_and_an_error",
            ),
        ),
        (
            "A character that no font has, such as a Chinese one on a machine without a font for it, is drawn as its code (`\\u62cd`), and one line on stderr says so",
            ("tests/engine/test_render.py::test_what_no_font_has_is_spelled_and_said_once",),
        ),
        (
            "line breaks and the like are drawn as codes, too",
            ("tests/engine/test_render.py::test_what_cannot_be_seen_is_spelled",),
        ),
        (
            "the file appears when it is whole, and an interrupted command leaves none",
            (
                "tests/engine/test_render.py::test_a_video_that_breaks_leaves_no_file",
                "tests/engine/test_render.py::test_an_interruption_leaves_no_file",
            ),
        ),
        (
            "those of UCF-101's lists must stay in the folder of their class",
            ("tests/data/test_duplicates.py::test_ucf101_entries_stay_in_their_folders",),
        ),
        (
            "are recognised by what `--data.root` holds, and a line on stderr says which",
            ("tests/data/test_own_videos.py::test_a_folder_of_class_folders_is_recognised",),
        ),
        (
            "stays what it is: where the root holds another, the error names the option",
            ("tests/data/test_own_videos.py::test_what_was_named_stays_what_it_is",),
        ),
        (
            "The sample dataset is made in a new or empty folder alone",
            (
                "tests/data/test_own_videos.py::test_the_sample_goes_into_no_folder_of_other_files",
                "tests/data/test_sample.py::test_a_folder_of_something_else_is_not_touched",
            ),
        ),
        (
            "have one list of suffixes, in upper or lower case",
            (
                "tests/data/test_own_videos.py::test_one_list_of_suffixes",
                "tests/utils/test_media.py::test_suffixes_of_videos_in_any_letter_case",
                "tests/engine/test_prepare.py::test_every_suffix_and_its_time_stamps",
            ),
        ),
        (
            ".3g2 .3gp .amv .asf .avi .divx .dv",
            ("tests/test_promises.py::test_the_suffixes_of_the_page_are_those_of_the_program",),
        ),
        (
            "What operating systems leave behind is passed over in silence",
            (
                "tests/utils/test_media.py::test_names_of_operating_systems",
                "tests/data/test_own_videos.py::test_clutter_is_passed_over_alike",
            ),
        ),
        (
            "is counted and named in one line on stderr: other suffixes, links that lead nowhere, named pipes, sockets, folders that cannot be read",
            (
                "tests/data/test_own_videos.py::test_clutter_is_passed_over_alike",
                "tests/data/test_own_videos.py::test_a_folder_that_cannot_be_read_is_named",
                "tests/utils/test_media.py::test_everything_below_a_folder_is_taken_or_named",
            ),
        ),
        (
            "training looks into the class folders, and counts folders in them as passed over",
            (
                "tests/data/test_own_videos.py::test_training_counts_folders_in_class_folders_as_passed_over",
            ),
        ),
        (
            "A file that is named on the command line is tried whatever its suffix",
            (
                "tests/data/test_own_videos.py::test_a_file_that_is_named_is_tried_whatever_its_suffix",
            ),
        ),
        (
            "Names need not be UTF-8. In tables, JSON and on the terminal their other bytes are escaped",
            (
                "tests/data/test_own_videos.py::test_training_on_own_videos_with_strange_names",
                "tests/test_command_line.py::test_names_that_are_not_utf8_are_printed",
            ),
        ),
        (
            "without spaces around it and in Unicode's form NFC",
            (
                "tests/data/test_own_videos.py::test_labels_are_one_for_all_that_is_seen",
                "tests/data/test_own_videos.py::test_trailing_space",
                "tests/utils/test_text.py::test_labels",
            ),
        ),
        (
            "Labels that become one are said in one line",
            (
                "tests/data/test_own_videos.py::test_labels_are_one_for_all_that_is_seen",
                "tests/data/test_own_videos.py::test_trailing_space",
            ),
        ),
        (
            "A label of several lines, or an empty one, is an error",
            (
                "tests/data/test_own_videos.py::test_a_line_break_in_a_label",
                "tests/data/test_folders.py::test_wrong_csv",
            ),
        ),
        (
            "Training needs at least two classes",
            ("tests/data/test_own_videos.py::test_one_class_is_refused_before_work_starts",),
        ),
        (
            "is for `evaluate`: its labels must be among the classes that the checkpoint knows",
            (
                "tests/data/test_own_videos.py::test_training_on_own_videos_with_strange_names",
                "tests/test_cases.py::test_right_answer",
            ),
        ),
        (
            "are read as UTF-8, or as UTF-16 or UTF-32 where they begin with a byte-order mark",
            (
                "tests/utils/test_text.py::test_lists_in_unicode",
                "tests/data/test_own_videos.py::test_ucf101_lists_in_other_encodings",
                "tests/data/test_images.py::test_lists_of_cub_in_other_encodings",
            ),
        ),
        (
            "Any other encoding, such as Latin-1, is an error that names the line",
            (
                "tests/utils/test_text.py::test_lists_in_latin_1",
                "tests/data/test_own_videos.py::test_ucf101_lists_in_other_encodings",
                "tests/data/test_images.py::test_lists_of_cub_in_other_encodings",
            ),
        ),
        (
            "The same file (device and inode) in train and in test is an error in every layout, whatever the spelling",
            (
                "tests/data/test_duplicates.py::test_csv_with_one_file_in_both_parts",
                "tests/data/test_duplicates.py::test_folders_of_train_and_test",
                "tests/data/test_duplicates.py::test_a_class_folder_that_links_to_the_other_part",
                "tests/data/test_duplicates.py::test_ucf101_with_one_file_in_both_lists",
                "tests/data/test_duplicates.py::test_frame_folders_are_files_too",
            ),
        ),
        (
            "Twice in one part it counts once, and a line says so",
            (
                "tests/data/test_duplicates.py::test_csv_that_lists_a_file_twice_counts_it_once",
                "tests/data/test_duplicates.py::test_ucf101_that_lists_a_file_twice",
                "tests/data/test_duplicates.py::test_images_twice_in_one_part",
            ),
        ),
        (
            "where the parts are divided for you, this happens before",
            (
                "tests/data/test_duplicates.py::test_folders_that_are_divided",
                "tests/data/test_duplicates.py::test_csv_that_divides_itself_divides_files_and_not_names",
            ),
        ),
        (
            "Twice in one part under two classes it is kept in both, and a line says so (in a table it is an error)",
            (
                "tests/data/test_duplicates.py::test_a_file_of_two_classes_is_kept_and_said",
                "tests/data/test_duplicates.py::test_csv_with_one_file_of_two_labels",
            ),
        ),
        (
            "The same holds for images in folders, of CUB-200-2011 and Cityscapes, and, between train and the other parts, for the images of tracklets",
            (
                "tests/data/test_duplicates.py::test_images_in_train_and_test",
                "tests/data/test_duplicates.py::test_cub_with_one_image_in_both_parts",
                "tests/data/test_duplicates.py::test_cityscapes_with_one_image_in_both_parts",
                "tests/data/test_duplicates.py::test_tracklets_that_share_an_image",
            ),
        ),
        (
            "repeats the last frame of a short video, `wrap` starts again from the first one, `error` (the default) stops",
            (
                "tests/data/test_clips.py::test_short_video",
                "tests/data/test_clips.py::test_short_video_is_an_error",
                "tests/test_cli.py::test_short_video_is_taken_when_told_how",
            ),
        ),
        (
            "end a run in order, with exit codes 130, 143 and 129",
            (
                "tests/engine/test_interruption.py::test_stopped_run_resumes_to_the_unbroken_result",
                "tests/engine/test_trainer.py::test_terminated_loop_ends_in_143",
            ),
        ),
        (
            "a run under `nohup`, which ignores SIGHUP, goes on",
            (
                "tests/engine/test_interruption.py::test_a_run_under_nohup_outlives_its_terminal",
                "tests/utils/test_processes.py::test_a_signal_that_is_ignored_stays_so",
            ),
        ),
        (
            "After a kill or a power cut the last finished epoch is still whole",
            (
                "tests/engine/test_interruption.py::test_ten_kills_at_random_moments_change_nothing",
                "tests/engine/test_runs.py::test_failed_write_leaves_the_old_file_and_no_litter",
                "tests/engine/test_full_disk.py::test_a_checkpoint_that_does_not_fit_says_so_with_its_number",
            ),
        ),
        (
            "the newest run below ./runs that began its first step",
            (
                "tests/engine/test_resume.py::test_failed_starts_are_passed_over",
                "tests/engine/test_resume.py::test_a_run_begins_with_its_first_step",
            ),
        ),
        (
            "A resumed run sees the clips it would have seen and ends with the metrics of an unbroken one",
            ("tests/engine/test_interruption.py::test_stopped_run_resumes_to_the_unbroken_result",),
        ),
        (
            "also where its folder was moved, copied or is reached by a symbolic link",
            ("tests/engine/test_resume.py::test_a_run_in_another_place_keeps_its_best_epoch",),
        ),
        (
            "One that was killed in its first epoch starts that epoch again",
            (
                "tests/engine/test_resume.py::test_a_run_that_was_killed_in_its_first_epoch_starts_it_again",
            ),
        ),
        (
            "Runs whose start failed are passed over and named on stderr. `evaluate`, `predict` and the like, without a name, take the newest run that has a checkpoint",
            ("tests/engine/test_resume.py::test_failed_starts_are_passed_over",),
        ),
        (
            "Options on the command line override it (more epochs, another data root), but not the model and the seed",
            (
                "tests/engine/test_resume.py::test_what_a_resumed_part_used_is_stored",
                "tests/engine/test_train.py::test_resume_refuses_another_model",
            ),
        ),
        (
            "`run.json` and `config.yaml` then say what the resumed part used, and an entry of `resumed` in `run.json` says when",
            ("tests/engine/test_resume.py::test_what_a_resumed_part_used_is_stored",),
        ),
        (
            "Each of these ends with exit code 2, and nothing is changed",
            (
                "tests/engine/test_resume.py::test_a_missing_last_checkpoint_does_not_start_over_results",
                "tests/engine/test_resume.py::test_a_changed_list_of_files_is_refused",
            ),
        ),
        (
            "`last.ckpt` is missing or damaged, though an epoch was finished",
            (
                "tests/engine/test_resume.py::test_a_missing_last_checkpoint_does_not_start_over_results",
                "tests/engine/test_resume.py::test_a_damaged_last_checkpoint_is_named",
            ),
        ),
        (
            "fewer epochs than are finished",
            ("tests/engine/test_resume.py::test_fewer_epochs_than_are_finished",),
        ),
        (
            "other training or test files, labels, or another order, than the run was started with",
            ("tests/engine/test_resume.py::test_a_changed_list_of_files_is_refused",),
        ),
        (
            "another batch size, from a `--config`",
            (
                "tests/engine/test_resume.py::test_a_batch_size_counts_as_meant_only_where_it_is_given",
            ),
        ),
        (
            "another process trains the run just now",
            (
                "tests/engine/test_resume.py::test_only_one_process_trains_a_run",
                "tests/engine/test_interruption.py::test_two_resumes_at_once_are_one",
            ),
        ),
        (
            "which the system frees when the process ends, however it ends",
            ("tests/engine/test_resume.py::test_no_kill_leaves_the_lock_held",),
        ),
        (
            "where a file system has none, the command says so and goes on",
            (
                "tests/engine/test_resume.py::test_a_file_system_without_locks_is_said_and_trained_on",
            ),
        ),
        (
            "Temporary files that a kill has left in the run's folder go when the run is resumed",
            (
                "tests/engine/test_resume.py::test_what_a_kill_left_goes_and_permissions_follow_the_umask",
            ),
        ),
        (
            "Files get the permissions that your umask leaves",
            (
                "tests/engine/test_resume.py::test_what_a_kill_left_goes_and_permissions_follow_the_umask",
            ),
        ),
        (
            "A place that cannot be written to is found before the work begins",
            (
                "tests/engine/test_full_disk.py::test_a_folder_that_cannot_be_written_to_is_known_before_the_work",
                "tests/engine/test_full_disk.py::test_a_disk_without_a_block_is_known_before_the_work",
            ),
        ),
        (
            "A disk or quota that becomes full, read-only or broken during the work ends any command with one line and exit code 2",
            (
                "tests/engine/test_full_disk.py::test_commands_that_write_end_in_one_line",
                "tests/engine/test_full_disk.py::test_a_broken_disk_is_one_line",
                "tests/reid/test_cli.py::test_extract_on_a_full_disk_is_one_line",
            ),
        ),
        (
            "what was written before stays whole, so that `--resume` goes on from the last finished epoch",
            (
                "tests/engine/test_full_disk.py::test_training_ends_in_one_line_and_keeps_the_epochs_before",
            ),
        ),
        (
            "it must be divisible by devices x nodes x `optimizer.accumulate`",
            ("tests/test_cli.py::test_bad_input_gets_one_line_and_exit_code_2",),
        ),
        (
            "it ends those that it started, and the command ends with the error's line and exit code (2 for bad input)",
            (
                "tests/engine/test_distributed.py::test_an_error_in_the_first_process_ends_the_other",
                "tests/engine/test_distributed.py::test_processes_that_wait_in_native_code_are_ended",
            ),
        ),
        (
            "the others end at once or, where they are still loading, as soon as they have started",
            (
                "tests/utils/test_processes.py::test_processes_end_with_a_first_one_that_is_killed",
                "tests/engine/test_distributed.py::test_the_other_process_ends_with_a_first_one_that_is_killed_at_the_start",
            ),
        ),
        (
            "its line is on stderr as well. Lightning kills all within about five seconds",
            (
                "tests/engine/test_distributed.py::test_an_error_in_another_process_says_its_line_and_ends_all",
            ),
        ),
        (
            "After each of these, `--resume` goes on from the last finished epoch",
            (
                "tests/engine/test_interruption.py::test_stopped_run_resumes_to_the_unbroken_result",
                "tests/engine/test_resume.py::test_a_run_that_was_killed_in_its_first_epoch_starts_it_again",
            ),
        ),
    ],
    "docs/ucf101.md": [
        (
            "Before anything is decoded, every video that the split names must be there, and the classes in the lists must agree with `classInd.txt`",
            (
                "tests/data/test_ucf101.py::test_missing_video",
                "tests/data/test_ucf101.py::test_malformed_list",
            ),
        ),
        (
            "not on the number of workers or devices, and not on whether the run was interrupted",
            (
                "tests/data/test_loader.py::test_sample_is_a_function_of_seed_epoch_and_index",
                "tests/data/test_loader.py::test_ranks_share_the_batches_of_one_process",
                "tests/engine/test_interruption.py::test_stopped_run_resumes_to_the_unbroken_result",
            ),
        ),
        (
            "`v_Kayaking_g12_c03.avi` says 372 frames and holds 371; it is read all the same",
            (
                "tests/engine/test_check.py::test_originals",
                "tests/data/test_real_videos.py::test_packet_without_a_picture",
            ),
        ),
    ],
    "docs/reading-videos.md": [
        (
            "If anything goes wrong then, it is `pyav`",
            ("tests/data/test_choice.py::test_whatever_goes_wrong_means_pyav",),
        ),
        (
            "the data must not depend on a timing measurement",
            ("tests/data/test_choice.py::test_what_a_run_sees_does_not_hang_on_what_was_faster",),
        ),
        (
            "What decord or torchcodec would get wrong is read by `pyav`, and every process that decodes says so on stderr, one line for every reason",
            (
                "tests/data/test_choice.py::test_what_pyav_reads_instead_is_said_by_the_worker",
                "tests/data/test_odd_files.py::test_files_that_another_reader_reads_are_counted_and_said_once",
                "tests/data/test_odd_files.py::test_what_decord_would_get_wrong_in_mpeg_ts",
            ),
        ),
        (
            "torchcodec has to show by their time stamps that its frames are those that were asked for; where it does not, or fails, `pyav` reads that file from then on",
            ("tests/data/test_odd_files.py::test_torchcodec_shows_its_frames_by_their_times",),
        ),
        (
            "it reads containers with an index (MP4, MOV, Matroska, WebM, AVI), after its index was compared with the packets, and `pyav` reads all others, such as MPEG-TS",
            (
                "tests/data/test_odd_files.py::test_cases",
                "tests/data/test_odd_files.py::test_files_that_another_reader_reads_are_counted_and_said_once",
                "tests/data/test_odd_files.py::test_what_decord_would_get_wrong_in_mpeg_ts",
            ),
        ),
        (
            "These are the pixels of FFmpeg's own program",
            (
                "tests/data/test_odd_files.py::test_one_conversion_to_rgb",
                "tests/data/test_odd_files.py::test_colours_of_the_10_bit_case",
            ),
        ),
        (
            "Files of more than 8 bits, or of formats of which decoders make different colours, are read by `pyav`",
            ("tests/data/test_odd_files.py::test_one_conversion_to_rgb",),
        ),
        (
            "fields are not separated and nothing is deinterlaced",
            (
                "tests/data/test_odd_files.py::test_one_conversion_to_rgb",
                "tests/data/test_odd_files.py::test_cases",
            ),
        ),
        (
            "(default 67,108,864, that is 2^26; `--max_pixels` of `predict`, `check` and `prepare`)",
            (
                "tests/data/test_odd_files.py::test_options_without_max_pixels_are_read",
                "tests/test_cli.py::test_max_pixels_is_an_option_of_all_that_read_files",
            ),
        ),
        (
            "is compared with it, so that a small hostile file cannot take gigabytes of memory",
            (
                "tests/data/test_odd_files.py::test_frames_of_too_many_pixels",
                "tests/data/test_odd_files.py::test_frames_that_grow_behind_the_first",
                "tests/data/test_odd_files.py::test_a_few_bytes_do_not_take_gigabytes",
            ),
        ),
        (
            "`auto` takes its place in the runs that name it",
            ("tests/data/test_fallbacks.py::test_a_reader_of_earlier_versions_is_auto",),
        ),
        (
            "its packets count, not its header; `check` calls it `lying`",
            (
                "tests/data/test_facts.py::test_header_that_promises_another_number_of_frames",
                "tests/engine/test_check.py::test_every_kind_of_problem",
                "tests/data/test_odd_files.py::test_a_header_that_promises_millions_of_frames_is_not_given_to_decord",
            ),
        ),
        (
            "More than two in a row, or in what is asked for at once, are an error, never silent copies",
            ("tests/data/test_fallbacks.py::test_scattered_packets_without_a_picture",),
        ),
        (
            "AVI and Matroska by the size in their header, MP4 and MOV by their table of frames",
            (
                "tests/data/test_facts.py::test_truncated",
                "tests/data/test_facts.py::test_declared_size",
            ),
        ),
        (
            "an error when frames after the break are asked for; those before it are read",
            (
                "tests/data/test_real_videos.py::test_file_that_breaks_in_decoding",
                "tests/test_predict_windows.py::test_video_that_breaks_gives_what_came_before",
            ),
        ),
        (
            "all frames have the size of the first, scaled (bicubic)",
            ("tests/data/test_readers.py::test_size_changes_in_the_middle",),
        ),
        (
            "upright: the display matrix is applied, in quarter turns",
            ("tests/data/test_readers.py::test_rotated_and_mirrored",),
        ),
        (
            "frame 0 is the first frame, whatever its time stamp",
            ("tests/data/test_real_videos.py::test_odd_but_sound",),
        ),
        (
            "frames that it hides do not count, however many they are",
            (
                "tests/data/test_readers.py::test_frames_hidden_by_an_edit_list",
                "tests/data/test_odd_files.py::test_a_trim_at_the_end",
                "tests/data/test_odd_files.py::test_cases",
            ),
        ),
        (
            "two fields are one frame",
            (
                "tests/data/test_odd_files.py::test_fields_are_told_from_frames",
                "tests/data/test_odd_files.py::test_cases",
            ),
        ),
        ("is VP8 with packets that are never shown", ("tests/data/test_odd_files.py::test_cases",)),
        (
            "the frames that FFmpeg decodes count, from the first one; what cannot be decoded is counted and said in a line on stderr, and `check` lists it without calling it a fault",
            (
                "tests/data/test_odd_files.py::test_a_file_that_starts_in_the_middle",
                "tests/data/test_odd_files.py::test_a_head_that_cannot_be_decoded_is_said_once",
            ),
        ),
        (
            "`predict --window` takes their times from the file, also in an AVI file with empty chunks",
            (
                "tests/data/test_odd_files.py::test_a_long_gap_between_frames",
                "tests/data/test_odd_files.py::test_cases_prepared_and_looked_at",
            ),
        ),
        (
            "its size and its number of frames are place-holders, and are not looked at",
            ("tests/data/test_odd_files.py::test_cases",),
        ),
        (
            "has metadata that is not UTF-8",
            ("tests/data/test_odd_files.py::test_metadata_that_is_not_utf8",),
        ),
        (
            "the largest, the first of equals; cover images, and single images beside a video, are not videos",
            (
                "tests/data/test_readers.py::test_several_videos_in_a_file",
                "tests/data/test_readers.py::test_a_cover_picture_is_no_video",
                "tests/data/test_odd_files.py::test_a_still_image_beside_the_video",
            ),
        ),
        (
            "a video; its frames are complete images",
            ("tests/data/test_odd_files.py::test_gif_is_a_video",),
        ),
        (
            "it is a file all the same (names that are not UTF-8 are read by `pyav`)",
            ("tests/data/test_odd_files.py::test_names_that_look_like_something_else",),
        ),
        (
            "an error: only the regular file that was named is opened",
            (
                "tests/data/test_odd_files.py::test_a_pipe_is_not_opened",
                "tests/data/test_odd_files.py::test_a_list_of_other_files_is_not_followed",
            ),
        ),
        (
            "a video of length 1; `short_videos` decides",
            (
                "tests/data/test_readers.py::test_one_frame",
                "tests/data/test_clips.py::test_short_video",
            ),
        ),
        (
            "is of a kind that decord does not open (AV1)",
            ("tests/data/test_fallbacks.py::test_codec_that_decord_does_not_know",),
        ),
        (
            "is 16, 24, 48 or 72 pixels wide, or of an odd size",
            ("tests/data/test_fallbacks.py::test_sizes_that_decord_does_not_take",),
        ),
        ("the full range is used", ("tests/data/test_odd_files.py::test_one_conversion_to_rgb",)),
        (
            "has key frames that are no clean starts (open GOP, intra refresh)",
            (
                "tests/data/test_readers.py::test_what_is_refused_would_be_wrong",
                "tests/data/test_readers.py::test_every_decoder_returns_the_frames_asked_for",
            ),
        ),
        (
            "frames are counted from the first one: no time stamps tell them apart",
            (
                "tests/data/test_real_videos.py::test_frames_of_an_original_are_those_of_a_plain_loop",
                "tests/data/test_facts.py::test_reordered_frames_need_stored_time_stamps",
            ),
        ),
        (
            "is found once per process and remembered until the file changes",
            (
                "tests/data/test_facts.py::test_facts_are_found_once_and_again_when_the_file_changes",
            ),
        ),
        (
            "Each of these ends the command with one line that says what was found and what to do, and exit code 2",
            (
                "tests/test_cli.py::test_bad_input_gets_one_line_and_exit_code_2",
                "tests/test_advice.py::test_no_message_tells_to_destroy",
            ),
        ),
        (
            "no `--data.root`, one that does not exist, or another layout",
            (
                "tests/test_cli.py::test_bad_input_gets_one_line_and_exit_code_2",
                "tests/data/test_videos.py::test_no_root",
                "tests/data/test_videos.py::test_root_that_does_not_exist",
            ),
        ),
        (
            "a list or `classInd.txt` missing, malformed, or at odds with the other",
            (
                "tests/data/test_ucf101.py::test_missing_list",
                "tests/data/test_ucf101.py::test_malformed_list",
            ),
        ),
        (
            "videos that a list names and that do not exist",
            (
                "tests/data/test_ucf101.py::test_missing_video",
                "tests/data/test_ucf101.py::test_missing_class_folder",
                "tests/data/test_videos.py::test_missing_files",
            ),
        ),
        (
            "a file in train and in test, a list in another encoding, a path of a list that leaves its class folder",
            (
                "tests/data/test_duplicates.py::test_ucf101_with_one_file_in_both_lists",
                "tests/data/test_own_videos.py::test_ucf101_lists_in_other_encodings",
                "tests/data/test_duplicates.py::test_ucf101_entries_stay_in_their_folders",
            ),
        ),
        (
            "one class alone; a last batch of one clip that the network shrinks to one position (BatchNorm)",
            (
                "tests/data/test_own_videos.py::test_one_class_is_refused_before_work_starts",
                "tests/data/test_own_videos.py::test_a_last_batch_of_one_is_told_before_work_starts",
                "tests/engine/test_training_checks.py::test_which_batches_hold_one_sample",
            ),
        ),
        (
            "a class without videos to train on, or none that can be read",
            (
                "tests/data/test_videos.py::test_a_class_without_videos",
                "tests/data/test_bad_files.py::test_a_class_without_readable_videos_stops",
            ),
        ),
        (
            "a video shorter than a clip, a crop larger than the frame",
            (
                "tests/data/test_bad_files.py::test_a_short_video_is_a_matter_of_options",
                "tests/data/test_loader.py::test_crop_larger_than_the_short_side",
                "tests/test_cli.py::test_bad_input_gets_one_line_and_exit_code_2",
            ),
        ),
        (
            "more unreadable videos than `--data.max_failures` allows",
            (
                "tests/data/test_bad_files.py::test_too_many_bad_files_stop",
                "tests/engine/test_bad_videos.py::test_training_stops_at_too_many",
                "tests/engine/test_bad_videos.py::test_evaluation_stops_at_too_many",
            ),
        ),
        (
            "A single video that cannot be read stops nothing",
            ("tests/engine/test_bad_videos.py::test_training_goes_on",),
        ),
        (
            "an empty, truncated or non-video file, a file without a video stream or a frame",
            (
                "tests/data/test_facts.py::test_no_video",
                "tests/data/test_facts.py::test_truncated",
                "tests/data/test_facts.py::test_sound_only",
                "tests/data/test_clips.py::test_video_without_frames",
            ),
        ),
        (
            "a codec that cannot be decoded",
            ("tests/data/test_odd_files.py::test_a_codec_that_cannot_be_decoded_is_an_error",),
        ),
        (
            "frames of more than `--data.max_pixels` pixels",
            (
                "tests/data/test_odd_files.py::test_frames_of_too_many_pixels",
                "tests/data/test_odd_files.py::test_frames_that_grow_behind_the_first",
            ),
        ),
        (
            "a file that breaks while it is decoded",
            ("tests/data/test_real_videos.py::test_file_that_breaks_in_decoding",),
        ),
        (
            "a file that takes longer than `--data.deadline` (20 seconds)",
            (
                "tests/data/test_bad_files.py::test_another_video_of_the_class_is_shown",
                "tests/engine/test_bad_videos.py::test_training_goes_on",
            ),
        ),
        (
            "a file at which the third process in succession dies",
            (
                "tests/data/test_bad_files.py::test_a_file_that_kills_its_process_has_three_attempts",
            ),
        ),
        (
            "try a file again that failed, and note it when the second attempt fails too",
            (
                "tests/data/test_bad_files.py::test_a_fault_that_passes_costs_no_file",
                "tests/data/test_bad_files.py::test_another_video_of_the_class_is_shown",
            ),
        ),
        (
            "Where a process died, there are three attempts",
            (
                "tests/data/test_bad_files.py::test_a_file_that_kills_its_process_has_three_attempts",
            ),
        ),
        (
            "killed and replaced within a fraction of a second, also where a decoder never returns and holds Python's lock",
            (
                "tests/data/test_pool.py::test_a_task_stuck_in_native_code_is_killed_at_its_deadline",
            ),
        ),
        (
            "Time in which the whole command was stopped (Ctrl-Z) does not count",
            ("tests/data/test_pool.py::test_time_in_which_the_process_was_stopped_does_not_count",),
        ),
        (
            "one JSON object a line (`path`, `kind`, `reason`, `seconds` of the last attempt, `time`), and in a line on stderr",
            ("tests/data/test_quarantine.py::test_a_note_says_what_happened",),
        ),
        (
            "It is not tried again in this run, also after `--resume`",
            (
                "tests/engine/test_bad_videos.py::test_resuming_keeps_the_quarantine",
                "tests/data/test_bad_files.py::test_a_resumed_run_tries_no_bad_file_again",
            ),
        ),
        (
            "to have a mended file read again, take its line out of `quarantine.jsonl`",
            ("tests/data/test_quarantine.py::test_a_file_whose_line_was_taken_out_is_tried_again",),
        ),
        (
            "Several processes of one run share the file",
            (
                "tests/data/test_quarantine.py::test_several_may_write_at_once",
                "tests/engine/test_bad_videos.py::test_two_processes_share_a_quarantine",
            ),
        ),
        (
            "its clip is decoded again",
            (
                "tests/data/test_bad_files.py::test_a_fault_that_passes_costs_no_file",
                "tests/data/test_loader_processes.py::test_workers_killed_from_outside_change_nothing",
            ),
        ),
        (
            "In validation an unreadable one counts as wrong in top-1 and top-5",
            (
                "tests/engine/test_bad_videos.py::test_unreadable_test_videos_are_wrong_in_validation",
            ),
        ),
        (
            "The line of an epoch says how many there are",
            ("tests/engine/test_bad_videos.py::test_training_goes_on",),
        ),
        (
            "tries every file anew, counts an unreadable one as wrong, prints their number and names",
            ("tests/engine/test_bad_videos.py::test_evaluation_names_them",),
        ),
        (
            "the confusion matrices get a column `(unreadable)`",
            ("tests/engine/test_bad_videos.py::test_evaluation_names_them",),
        ),
        (
            "`--unreadable skip` leaves them out of all figures instead",
            ("tests/engine/test_bad_videos.py::test_evaluation_names_them",),
        ),
        (
            "is an error that names the video, and nothing is written",
            (
                "tests/export/test_damaged.py::test_evaluate_names_the_video_whose_scores_are_not_finite",
            ),
        ),
        (
            "In validation it counts as wrong.",
            ("tests/engine/test_evaluate.py::test_logits_that_are_not_finite_are_no_hit",),
        ),
        (
            "and in any case three of each: one bad file of ten need not stop a run",
            ("tests/data/test_quarantine.py::test_how_many_may_be_bad",),
        ),
        (
            "With 0 the first one stops it",
            ("tests/data/test_bad_files.py::test_one_bad_file_stops_where_none_may_be",),
        ),
        (
            "The summary names the first few and the quarantine file",
            ("tests/data/test_quarantine.py::test_too_many_are_summarised_in_one_line",),
        ),
        (
            "`video-snl check` finds bad files before a training does",
            (
                "tests/engine/test_check.py::test_every_kind_of_problem",
                "tests/engine/test_check.py::test_odd_videos",
            ),
        ),
    ],
    "docs/fine-tuning.md": [
        (
            "the weights are refused and the network stays as it was",
            ("tests/test_checkpoints.py::test_refuses_another_network_and_leaves_the_model_alone",),
        ),
        (
            "`--model.allow_partial_weights true` loads what matches instead",
            ("tests/test_checkpoints.py::test_partial_weights_on_request",),
        ),
        (
            "squeeze-and-excitation) are refused by name, however few parameters they have",
            (
                "tests/reid/test_reid_weights.py::test_small_parts_that_make_another_network_are_named",
            ),
        ),
        (
            "code in a file is never run, and a file that needs it is refused",
            ("tests/test_weights_sources.py::test_code_in_a_file_is_never_run",),
        ),
        (
            "A flipped bit, a file that is cut short or has bytes too many is one line and exit code 2, in every command and for `--model.weights` alike",
            (
                "tests/utils/test_archives.py::test_a_flipped_bit_is_an_error_or_changes_no_value",
                "tests/utils/test_archives.py::test_every_flip_in_a_tensor_is_noticed",
                "tests/utils/test_archives.py::test_bytes_too_many_or_too_few_are_errors",
                "tests/export/test_damaged.py::test_every_command_refuses_a_flipped_weight_and_names_the_other_checkpoint",
                "tests/reid/test_reid_damaged.py::test_a_flipped_weight_is_refused_and_the_other_checkpoint_is_named",
            ),
        ),
        (
            "the line names the other one of the run if that is whole",
            (
                "tests/utils/test_archives.py::test_the_other_checkpoint_of_the_run_is_named_if_it_is_whole",
                "tests/export/test_damaged.py::test_every_command_refuses_a_flipped_weight_and_names_the_other_checkpoint",
            ),
        ),
        (
            "Published folders and ONNX files carry a SHA-256 for this",
            (
                "tests/export/test_damaged.py::test_a_published_folder_is_compared_with_its_hash",
                "tests/export/test_damaged.py::test_a_flipped_bit_in_an_exported_file_is_an_error",
            ),
        ),
        (
            "Files of PyTorch before 1.6 have no checksum and cannot be checked",
            ("tests/utils/test_archives.py::test_whole_files_pass",),
        ),
        (
            "Weights or outputs that are NaN or infinite are an error that names the parameter or the input",
            (
                "tests/export/test_damaged.py::test_every_command_refuses_weights_that_are_not_finite",
                "tests/export/test_damaged.py::test_outputs_that_are_not_finite_are_an_error",
                "tests/reid/test_reid_damaged.py::test_weights_that_are_not_finite_are_refused",
                "tests/reid/test_reid_damaged.py::test_features_that_are_not_finite_are_refused",
            ),
        ),
        (
            "All JSON is valid: a number that does not exist, such as the loss of an epoch that diverged in `run.json`, is `null`",
            (
                "tests/utils/test_json_text.py::test_numbers_that_are_not_finite_become_null",
                "tests/utils/test_json_text.py::test_no_other_module_writes_json",
            ),
        ),
        (
            "On a machine that is offline the error names the URL and the very path to put the file at",
            (
                "tests/test_weights_sources.py::test_offline_names_the_file_and_its_place",
                "tests/test_weights_sources.py::test_failed_downloads_leave_nothing",
            ),
        ),
    ],
    "docs/configuration.md": [
        (
            "From the strongest to the weakest, wherever the words stand",
            (
                "tests/test_command_line.py::test_an_option_wins_wherever_it_stands",
                "tests/test_command_line.py::test_the_file_of_a_section_stands_between_options_and_config",
            ),
        ),
        (
            "two `--config` are merged entry by entry, in order",
            ("tests/test_command_line.py::test_an_option_wins_wherever_it_stands",),
        ),
        (
            "are the options `--data.dataset` and so on",
            ("tests/test_command_line.py::test_short_options_of_reid_win_wherever_they_stand",),
        ),
        (
            "A list of one may be written without brackets",
            ("tests/test_command_line.py::test_one_value_is_a_list_of_one",),
        ),
        (
            "An option is written in full: `--resum` is an error, and so are options, commands and entries that do not exist",
            (
                "tests/test_command_line.py::test_every_command_refuses_abbreviations",
                "tests/test_command_line.py::test_what_does_not_exist_is_refused_and_the_nearest_named",
                "tests/test_command_line.py::test_an_option_that_does_not_exist_in_a_file_is_named",
            ),
        ),
        (
            "The message names the nearest one that does; nothing is replaced silently",
            (
                "tests/test_command_line.py::test_what_does_not_exist_is_refused_and_the_nearest_named",
            ),
        ),
        (
            "A configuration of the other program is an error that names the right one",
            ("tests/test_command_line.py::test_a_configuration_of_the_other_program_says_so",),
        ),
        (
            "Bad input is one line and exit code 2",
            (
                "tests/test_cli.py::test_bad_input_gets_one_line_and_exit_code_2",
                "tests/test_hostile_options.py::test_any_options_end_in_success_or_one_line",
                "tests/test_hostile_options.py::test_any_file_is_a_configuration_or_one_line",
            ),
        ),
        (
            "at most 1 MiB, nested at most 32 levels deep, with at most 20,000 values; what an alias stands for is counted each time",
            (
                "tests/test_command_line.py::test_hostile_configurations_are_one_line_soon",
                "tests/test_command_line.py::test_a_file_that_has_no_end_is_refused",
                "tests/test_command_line.py::test_limits_of_text_leave_ordinary_text_alone",
            ),
        ),
        (
            "Values on the command line are nested no deeper",
            ("tests/test_command_line.py::test_hostile_values_are_one_line_soon",),
        ),
        (
            "Sizes have limits, so that a typing error costs a line and not the machine's memory",
            (
                "tests/test_command_line.py::test_sizes_and_names_are_refused_before_anything_is_taken",
            ),
        ),
        (
            "They hold for every command",
            (
                "tests/test_command_line.py::test_the_documentation_has_the_limits",
                "tests/test_command_line.py::test_sizes_and_names_are_refused_before_anything_is_taken",
            ),
        ),
        (
            "Where no least value is given, training checks the value",
            (
                "tests/reid/test_train.py::test_options_out_of_range_are_refused_before_a_run_is_made",
            ),
        ),
        (
            "has at most 134,217,728 values",
            ("tests/test_command_line.py::test_no_input_is_larger_than_the_limit",),
        ),
        (
            "is `auto`, `cpu`, `gpu` (or `cuda`) or `mps`",
            (
                "tests/test_command_line.py::test_sizes_and_names_are_refused_before_anything_is_taken",
            ),
        ),
        (
            "`trainer.precision bf16-true` needs a CUDA GPU",
            ("tests/test_command_line.py::test_bf16_true_is_refused_on_a_cpu",),
        ),
    ],
    "docs/serve.md": [
        (
            "Ctrl-C, SIGTERM or SIGHUP ends the page (exit codes 130, 143 and 129)",
            ("tests/serve/test_serve_command.py::test_signals_end_it_in_order",),
        ),
        (
            "(images whose names are of several identities, and several folders in one ZIP file, are refused)",
            (
                "tests/reid/test_reid_serve.py::test_uploads_of_several_tracklets_are_refused",
                "tests/reid/test_tracklet_folders.py::test_uploads_are_of_one_tracklet",
            ),
        ),
        (
            "made with the same checkpoint",
            ("tests/reid/test_reid_serve.py::test_a_gallery_of_another_network",),
        ),
        (
            "megabytes of all files of an upload, and of what a ZIP file holds",
            (
                "tests/serve/test_serve_command.py::test_too_large_an_upload_is_refused",
                "tests/serve/test_serve_command.py::test_an_upload_that_does_not_say_how_large_it_is",
                "tests/reid/test_reid_serve.py::test_zip_files_that_are_refused",
            ),
        ),
        (
            "the length of a video, by its time stamps: nothing is decoded to find it",
            ("tests/serve/test_serve_command.py::test_broken_uploads_get_a_message",),
        ),
        (
            "pixels of an image or of a frame of a video, before memory is taken",
            (
                "tests/data/test_still_images.py::test_bombs_are_refused_before_memory_is_taken",
                "tests/serve/test_serve_limits.py::test_videos_of_too_many_pixels_are_refused_before_memory_is_taken",
            ),
        ),
        (
            "how long an upload may take to come",
            ("tests/serve/test_serve_limits.py::test_an_upload_that_takes_too_long_is_given_up",),
        ),
        (
            "seconds of decoding; a process that takes longer is killed",
            (
                "tests/data/test_pool.py::test_a_task_stuck_in_native_code_is_killed_at_its_deadline",
                "tests/serve/test_serve_limits.py::test_a_video_that_hangs_is_given_up",
            ),
        ),
        (
            "Up to seven others wait, and the page says how many are before theirs; whoever closes the page gives the place up",
            (
                "tests/serve/test_serve_command.py::test_the_others_wait_for_their_turn",
                "tests/serve/test_serve_limits.py::test_who_no_longer_waits_gives_up_the_place",
            ),
        ),
        (
            "Uploads that are still coming hold no place: 32 may come at once",
            (
                "tests/serve/test_serve_limits.py::test_slow_clients_hold_no_place",
                "tests/serve/test_serve_limits.py::test_no_more_than_32_uploads_come_at_once",
            ),
        ),
        (
            "is given up with status 408",
            (
                "tests/serve/test_serve_limits.py::test_slow_clients_hold_no_place",
                "tests/serve/test_serve_limits.py::test_an_upload_that_takes_too_long_is_given_up",
            ),
        ),
        (
            "so that the page answers others meanwhile",
            (
                "tests/serve/test_serve_limits.py::test_others_are_answered_while_a_large_body_comes",
            ),
        ),
        (
            "A ZIP file is refused by the sizes and the number of entries that it declares, and no more than that is unpacked",
            ("tests/reid/test_reid_serve.py::test_zip_files_that_are_refused",),
        ),
        (
            "gets one line that says so, and the next one is taken",
            (
                "tests/serve/test_serve_command.py::test_broken_uploads_get_a_message",
                "tests/reid/test_reid_serve.py::test_broken_uploads_get_a_message",
                "tests/serve/test_serve_browser.py::test_broken_files_and_then_a_good_one",
            ),
        ),
        (
            "Playlists, which name other files, are refused",
            ("tests/serve/test_serve_command.py::test_broken_uploads_get_a_message",),
        ),
        (
            "that only the user of the server can read",
            (
                "tests/serve/test_serve_command.py::test_uploads_are_for_the_user_of_the_server_alone",
            ),
        ),
        (
            "They are removed before the answer is shown; the folder itself goes at the end, also after Ctrl-C, SIGTERM and SIGHUP",
            (
                "tests/serve/test_serve_command.py::test_the_classes_are_those_of_predict",
                "tests/serve/test_serve_limits.py::test_uploads_that_are_broken_off_leave_nothing",
                "tests/serve/test_serve_command.py::test_signals_end_it_in_order",
            ),
        ),
        (
            "a warning says so",
            ("tests/serve/test_serve_command.py::test_another_host_comes_with_a_warning",),
        ),
        (
            "forms of other sites are refused, and so are other names that lead to this machine",
            (
                "tests/serve/test_serve_command.py::test_pages_of_others_are_refused",
                "tests/serve/test_serve_limits.py::test_malformed_headers_are_bad_requests",
            ),
        ),
    ],
    "docs/export.md": [
        (
            "on random input of the training's size, of another batch and larger sizes, of the least sizes, and on the `--input`",
            ("tests/export/test_export.py::test_export_and_predict",),
        ),
        (
            "above 1e-4, or if a logit is not finite, nothing is written, and an older file of that name stays",
            (
                "tests/export/test_export.py::test_a_file_that_differs_is_not_left",
                "tests/export/test_damaged.py::test_outputs_that_are_not_finite_are_an_error",
            ),
        ),
        (
            "Whoever reads the file here checks it first",
            ("tests/export/test_damaged.py::test_a_flipped_bit_in_an_exported_file_is_an_error",),
        ),
        (
            "Files exported by earlier versions have no such hash, and are read as before",
            ("tests/export/test_damaged.py::test_files_without_a_seal_pass",),
        ),
        (
            "Where the least sizes cannot be recorded, `export` says so and takes those of the training as the least",
            (
                "tests/export/test_export.py::test_a_network_that_takes_no_smaller_pictures_than_in_training",
            ),
        ),
        (
            "for which ONNX has no operator, and `export` says so beforehand",
            ("tests/export/test_export.py::test_cayley_is_no_onnx",),
        ),
        (
            "Reading a `.pt2` can run any code that whoever made the file put into it",
            (
                "tests/export/test_export.py::test_why_entries_do_not_tell_whether_a_pt2_file_runs_code",
                "tests/export/test_export.py::test_that_a_pt2_file_runs_code_is_said",
            ),
        ),
        (
            "without one the table says so",
            ("tests/export/test_export.py::test_compiled_or_why_not",),
        ),
        (
            "the last two are compared whenever the folder is read",
            (
                "tests/export/test_damaged.py::test_every_entry_of_a_published_configuration_counts",
                "tests/export/test_damaged.py::test_a_published_folder_is_compared_with_its_hash",
                "tests/export/test_damaged.py::test_a_folder_published_before_there_was_a_hash_is_read",
                "tests/export/test_publish.py::test_broken_folders",
            ),
        ),
        (
            "in each case only if they are of the checkpoint's epoch",
            ("tests/export/test_publish.py::test_figures_of_another_epoch_are_left_out",),
        ),
        (
            "so `evaluate` needs `--data.root`",
            ("tests/export/test_publish.py::test_evaluate_of_a_folder_needs_the_root_of_the_data",),
        ),
        (
            "Training is not resumed from it",
            ("tests/export/test_publish.py::test_training_is_not_resumed_from_a_folder",),
        ),
    ],
    "docs/explain.md": [
        (
            "that are not written anew are removed",
            ("tests/explain/test_output.py::test_pictures_of_an_earlier_explanation_do_not_stay",),
        ),
        (
            "Where a network overflows, so that a map is not finite, nothing is written and the exit code is 2",
            (
                "tests/explain/test_output.py::test_what_is_not_finite_is_refused_before_anything_is_written",
                "tests/export/test_damaged.py::test_every_command_refuses_weights_that_are_not_finite",
            ),
        ),
    ],
    "docs/spectrum.md": [
        (
            "Inputs that cannot be read are one line on stderr each, the others are measured, and the exit code is 2",
            ("tests/spectrum/test_spectrum_command.py::test_bad_inputs_are_one_line_each",),
        ),
        (
            "no number that is not finite is measured or written",
            (
                "tests/spectrum/test_spectrum_command.py::test_an_input_that_overflows_is_a_line_and_no_number",
                "tests/spectrum/test_measure.py::test_features_that_are_not_finite_are_refused",
            ),
        ),
        (
            "Matrices of more than `--max_size` rows (4096) are left out",
            ("tests/spectrum/test_measure.py::test_full_matrices_that_are_too_large_are_left_out",),
        ),
        (
            "A network without any block is an error",
            ("tests/spectrum/test_spectrum_command.py::test_networks_without_an_affinity",),
        ),
        (
            "Each is written whole or not at all",
            ("tests/engine/test_runs.py::test_failed_write_leaves_the_old_file_and_no_litter",),
        ),
    ],
    "docs/images.md": [
        (
            "`evaluate`, `predict` and `train --resume` also see it by the run",
            ("tests/engine/test_image_runs.py::test_resumed_run_ends_as_the_unbroken_one",),
        ),
        (
            "An image that cannot be read, is smaller than the cut, or gets scores that are not finite is named on stderr and the others go on (exit code 2 at the end)",
            (
                "tests/engine/test_image_runs.py::test_predict_names_what_is_on_pictures",
                "tests/engine/test_evaluate_images.py::test_predict_names_a_picture_that_is_smaller_than_the_cut",
                "tests/engine/test_evaluate_images.py::test_predict_names_a_picture_whose_scores_are_not_finite",
            ),
        ),
        (
            "so is one that cannot be rendered (exit code 1)",
            (
                "tests/engine/test_image_runs.py::test_predict_goes_on_behind_a_picture_that_cannot_be_rendered",
            ),
        ),
        (
            "Images that cannot be read count as wrong (in segmentation, all of their labelled pixels), or are left out of all figures with `--unreadable skip`",
            (
                "tests/engine/test_evaluate_images.py::test_pictures_that_cannot_be_read_are_wrong_or_left_out",
                "tests/engine/test_evaluate_images.py::test_pixels_of_an_unreadable_scene_are_wrong_or_left_out",
                "tests/engine/test_image_runs.py::test_pictures_that_cannot_be_read",
            ),
        ),
        (
            "are not finite is an error that names it, and nothing is written",
            (
                "tests/engine/test_evaluate_images.py::test_scores_of_a_picture_that_are_not_finite_are_an_error",
                "tests/engine/test_evaluate_images.py::test_scores_of_pixels_that_are_not_finite_are_an_error",
            ),
        ),
        (
            "A figure that does not exist, such as the IoU of a class without pixels, is `null`",
            ("tests/engine/test_evaluate_images.py::test_figures_that_do_not_exist_are_null",),
        ),
        (
            "another `--data.statistics` is refused",
            (
                "tests/engine/test_image_runs.py::test_statistics_of_evaluation_are_those_of_the_checkpoint",
            ),
        ),
        (
            "`--kind` is needed for `nl`, `ns` and `a2`",
            ("tests/test_reference_blocks.py::test_kinds_with_the_same_keys_must_be_given",),
        ),
    ],
    "docs/images-data.md": [
        (
            "A set with other numbers than these is used all the same, and a line on stderr says so",
            ("tests/data/test_images.py::test_cub_is_divided_by_its_lists",),
        ),
        (
            "CIFAR's files are checked by their MD5 sums before they are unpickled",
            ("tests/data/test_images.py::test_faults_of_cifar_are_named",),
        ),
        (
            "are passed over; other files are counted and named on stderr",
            (
                "tests/data/test_still_images.py::test_what_a_class_folder_holds_besides_images_is_said",
            ),
        ),
        (
            "A class that is tested and not trained, and a class folder without training images, are errors",
            ("tests/data/test_images.py::test_faults_of_class_folders_are_named",),
        ),
        (
            "Class names are labels as [those of videos](own-videos.md#labels) are",
            ("tests/data/test_own_videos.py::test_labels_of_images",),
        ),
        (
            "an image that is both in training and in test is an error, by whatever name",
            ("tests/data/test_duplicates.py::test_images_in_train_and_test",),
        ),
        (
            "all files they name must exist",
            ("tests/data/test_images.py::test_faults_of_cub_are_named",),
        ),
        (
            "An id above 33 is an error",
            ("tests/data/test_scenes.py::test_unreadable_labels_are_named",),
        ),
        (
            "the batches are the same for any number of `num_workers` processes, and after an interruption",
            (
                "tests/data/test_image_loader.py::test_batches_are_the_same_for_any_number_of_processes",
                "tests/engine/test_image_runs.py::test_resumed_run_ends_as_the_unbroken_one",
            ),
        ),
        (
            "The cache may be deleted at any time",
            ("tests/data/test_images.py::test_pictures_in_memory_are_those_of_the_files",),
        ),
        (
            "One function reads every still image of both programs",
            ("tests/data/test_still_images.py::test_all_readers_see_the_same_pixels",),
        ),
        (
            "JPEG, PNG, BMP, DIB, GIF, PNM (PBM, PGM, PPM), TIFF and WebP, whatever the name",
            (
                "tests/data/test_still_images.py::test_suffixes_that_were_passed_over",
                "tests/test_promises.py::test_the_suffixes_of_the_page_are_those_of_the_program",
            ),
        ),
        (
            "refused; no other program is ever started",
            (
                "tests/data/test_still_images.py::test_no_other_program_is_started",
                "tests/data/test_still_images.py::test_pipes_sockets_and_folders_are_not_opened",
            ),
        ),
        (
            "upright: the orientation is applied",
            (
                "tests/data/test_still_images.py::test_the_orientation_is_applied",
                "tests/data/test_still_images.py::test_grey_tiff_files_are_not_torn_when_they_are_turned",
            ),
        ),
        (
            "v becomes round(v / 257)",
            (
                "tests/data/test_still_images.py::test_16_bits_are_divided_by_257_and_rounded",
                "tests/data/test_still_images.py::test_16_bits_grey_with_alpha",
                "tests/data/test_still_images.py::test_16_bits_of_tiff",
            ),
        ),
        (
            "refused: their range is not known",
            ("tests/data/test_still_images.py::test_values_of_32_bits_are_refused",),
        ),
        (
            "transparency is dropped, the colours are kept",
            (
                "tests/data/test_still_images.py::test_cmyk_and_palettes_with_transparency",
                "tests/data/test_still_images.py::test_16_bits_grey_with_alpha",
            ),
        ),
        (
            "converted to RGB by Pillow",
            (
                "tests/data/test_still_images.py::test_ordinary_images_are_what_pillow_makes_of_them",
            ),
        ),
        (
            "the first one",
            ("tests/data/test_still_images.py::test_of_several_frames_the_first_is_read",),
        ),
        (
            "refused by its header, before memory is taken",
            (
                "tests/data/test_still_images.py::test_bombs_are_refused_before_memory_is_taken",
                "tests/data/test_still_images.py::test_the_limit_is_an_option",
            ),
        ),
        (
            "has colours of 16 bits in separate planes or multiplied by alpha (TIFF) | refused",
            ("tests/data/test_still_images.py::test_16_bits_in_separate_planes_are_refused",),
        ),
        (
            "PNM files whose largest value is not 255 and TIFF files in which 0 is white are refused",
            ("tests/data/test_still_images.py::test_label_maps_keep_their_numbers",),
        ),
        (
            "no scaling, no palette and no orientation is applied",
            ("tests/data/test_still_images.py::test_label_maps_keep_their_numbers",),
        ),
        (
            "counts as unreadable, and both sizes are named",
            (
                "tests/data/test_still_images.py::test_an_image_that_no_longer_fits_its_label_map_counts_as_unreadable",
            ),
        ),
        (
            "is tried twice, then named on stderr and in the run's `quarantine.jsonl`",
            (
                "tests/engine/test_image_runs.py::test_pictures_that_cannot_be_read",
                "tests/data/test_image_loader.py::test_another_picture_of_the_class_trains_for_an_unreadable_one",
                "tests/data/test_image_loader.py::test_a_fault_that_passes_costs_no_picture",
            ),
        ),
        (
            "In training another image of its class replaces it, drawn from (seed, epoch, index)",
            (
                "tests/data/test_image_loader.py::test_another_picture_of_the_class_trains_for_an_unreadable_one",
            ),
        ),
        (
            "in evaluation it counts as wrong (in segmentation, all of its labelled pixels), or not at all",
            (
                "tests/engine/test_evaluate_images.py::test_pictures_that_cannot_be_read_are_wrong_or_left_out",
                "tests/data/test_image_loader.py::test_pixels_of_an_unreadable_test_scene_are_known_to_be_missed",
            ),
        ),
        (
            "of a part (and more than three) stop the command",
            (
                "tests/data/test_image_loader.py::test_too_many_unreadable_pictures_stop_with_their_names",
            ),
        ),
        (
            "A label map of the test part that cannot be read stops it at once",
            (
                "tests/data/test_image_loader.py::test_a_label_map_of_a_test_scene_that_cannot_be_read_stops",
            ),
        ),
    ],
    "docs/images-models.md": [
        (
            "less than 95 % of either side is an error, unless `allow_partial_weights` says otherwise",
            (
                "tests/models/test_image_weights.py::test_what_does_not_fit_is_said",
                "tests/test_checkpoints.py::test_refuses_another_network_and_leaves_the_model_alone",
                "tests/test_checkpoints.py::test_partial_weights_on_request",
            ),
        ),
        (
            "each refuses the other's files",
            (
                "tests/models/test_image_weights.py::test_what_does_not_fit_is_said",
                "tests/models/test_image_weights.py::test_the_textbooks_weights_are_no_released_ones",
            ),
        ),
    ],
    "docs/images-tables.md": [
        (
            "one that fails is named, and the others go on (exit code 1 at the end)",
            ("tests/tables/test_table_runs.py::test_a_cell_that_fails_stops_no_other",),
        ),
        (
            "Given again, the command skips what is done and goes on with half-done runs",
            (
                "tests/tables/test_table_runs.py::test_a_table_is_run_once_and_reported",
                "tests/tables/test_table_runs.py::test_interrupted_it_ends_its_trainings_in_order_and_goes_on",
                "tests/tables/test_table_runs.py::test_a_finished_run_without_a_row_is_not_trained_again",
            ),
        ),
        (
            "Before anything trains, the options of every cell are checked, as far as that needs no data, and its sizes counted",
            (
                "tests/tables/test_table_runs.py::test_bad_input_is_one_line",
                "tests/tables/test_table_runs.py::test_sizes_are_known_before_a_training_begins",
            ),
        ),
        (
            "What the cells differ in cannot be set",
            (
                "tests/tables/test_table_cells.py::test_options_that_no_cell_takes",
                "tests/tables/test_table_runs.py::test_bad_input_is_one_line",
            ),
        ),
        (
            "Results of a cell with other settings are named and do not count",
            ("tests/tables/test_table_store.py::test_results_of_other_settings_do_not_count",),
        ),
        (
            "Several processes may append to a store. A line that a kill has cut off is named and skipped",
            (
                "tests/tables/test_table_store.py::test_processes_that_append_at_once_do_not_mix_their_lines",
                "tests/tables/test_table_store.py::test_a_line_that_was_cut_off_is_reported_and_harms_no_other",
            ),
        ),
        (
            "end the trainings in order (exit codes 130, 143 and 129); what is finished is kept",
            (
                "tests/tables/test_table_runs.py::test_interrupted_it_ends_its_trainings_in_order_and_goes_on",
            ),
        ),
        (
            'each holds its lock, so that another command leaves it alone ("elsewhere") and finds its result afterwards',
            (
                "tests/tables/test_table_runs.py::test_killed_it_leaves_trainings_that_no_other_command_disturbs",
                "tests/tables/test_table_runs.py::test_two_commands_do_not_train_the_same",
            ),
        ),
        (
            "When it ends, it cancels its jobs",
            (
                "tests/tables/test_table_cluster.py::test_interrupted_it_takes_its_jobs_back",
                "tests/tables/test_table_cluster.py::test_jobs_are_cancelled_where_nobody_waits",
            ),
        ),
        (
            "A job that is preempted or out of time is queued again, up to 1,000 times, and goes on with its half-done run",
            (
                "tests/tables/test_table_cluster.py::test_a_job_that_is_out_of_time_is_queued_again",
                "tests/tables/test_table_cluster.py::test_jobs_of_slurm",
            ),
        ),
    ],
    "docs/architecture.md": [
        (
            "neither the number of worker processes nor an interruption changes what a run sees",
            (
                "tests/data/test_loader.py::test_batches_do_not_depend_on_the_workers",
                "tests/engine/test_interruption.py::test_stopped_run_resumes_to_the_unbroken_result",
            ),
        ),
        (
            "so that no name is taken for a protocol",
            ("tests/data/test_odd_files.py::test_names_that_look_like_something_else",),
        ),
        (
            "(sequenced packets: a message arrives whole or not at all)",
            (
                "tests/data/test_pool.py::test_large_values_come_back_whole",
                "tests/data/test_pool.py::test_workers_killed_from_outside_at_any_moment_lose_nothing",
            ),
        ),
        (
            "so that nothing is left in /dev/shm",
            (
                "tests/data/test_pool.py::test_nothing_is_left_behind",
                "tests/data/test_loader_processes.py::test_nothing_is_left_behind",
            ),
        ),
        (
            "A task over `data.deadline` is killed with SIGKILL; what its worker had queued behind it goes to others",
            (
                "tests/data/test_pool.py::test_a_task_stuck_in_native_code_is_killed_at_its_deadline",
            ),
        ),
        (
            "The kernel kills workers when the nursery ends, and the nursery ends when its channel is closed: with the command, however that ends",
            (
                "tests/data/test_pool.py::test_stuck_workers_die_with_a_killed_process",
                "tests/data/test_pool.py::test_the_nursery_has_one_thread_and_may_be_killed",
                "tests/engine/test_bad_videos.py::test_a_stopped_command_leaves_no_process",
            ),
        ),
        (
            "the command alone answers those",
            ("tests/data/test_pool.py::test_signals_to_the_group_are_not_for_workers",),
        ),
        (
            "A file that fails in a second attempt, too, goes to the quarantine",
            (
                "tests/data/test_bad_files.py::test_another_video_of_the_class_is_shown",
                "tests/data/test_bad_files.py::test_a_fault_that_passes_costs_no_file",
            ),
        ),
        (
            "in whatever order bad files are found",
            ("tests/data/test_bad_files.py::test_the_same_videos_stand_in_whatever_the_workers",),
        ),
        (
            "In evaluation the row is left out and its index listed in the batch (`unreadable`), for it to be counted as wrong",
            ("tests/data/test_bad_files.py::test_evaluation_lists_what_it_cannot_read",),
        ),
        (
            "are no fault of a file and stop at once",
            ("tests/data/test_bad_files.py::test_a_short_video_is_a_matter_of_options",),
        ),
        (
            "Every file is written beside its place and renamed into it",
            (
                "tests/engine/test_runs.py::test_failed_write_leaves_the_old_file_and_no_litter",
                "tests/test_weights_sources.py::test_the_cache_is_never_half_written",
            ),
        ),
        (
            "It is read with `weights_only=True`",
            (
                "tests/engine/test_runs.py::test_damaged_or_malicious_checkpoint_is_refused",
                "tests/test_weights_sources.py::test_code_in_a_file_is_never_run",
            ),
        ),
        (
            "SIGHUP, SIGINT and SIGTERM end a run in order with exit codes 129, 130 and 143",
            ("tests/engine/test_interruption.py::test_stopped_run_resumes_to_the_unbroken_result",),
        ),
        (
            "it takes the lock (`.lock`, `flock`, `utils/locks.py`), reads the record again",
            (
                "tests/engine/test_resume.py::test_only_one_process_trains_a_run",
                "tests/engine/test_interruption.py::test_two_resumes_at_once_are_one",
            ),
        ),
        (
            "`run.json` says when the first step began (`first_step`; a run without it is passed over)",
            (
                "tests/engine/test_resume.py::test_a_run_begins_with_its_first_step",
                "tests/engine/test_resume.py::test_failed_starts_are_passed_over",
            ),
        ),
        (
            "Runs of earlier versions lack these entries and are trained on without the checks that need them",
            ("tests/engine/test_resume.py::test_a_run_of_an_earlier_version_is_trained_on",),
        ),
        (
            "Which errors are a disk's is decided in `utils/files.py` (`storage_error`)",
            (
                "tests/engine/test_full_disk.py::test_errors_of_libraries_are_known_by_their_cause_or_number",
                "tests/engine/test_full_disk.py::test_what_is_no_fault_of_a_disk_keeps_its_traceback",
            ),
        ),
        (
            "an error by default, so that no run is changed silently; `repeat_last` and `wrap` by option",
            (
                "tests/data/test_bad_files.py::test_a_short_video_is_a_matter_of_options",
                "tests/data/test_clips.py::test_short_video",
            ),
        ),
        (
            "it is tried once more, and twice where the worker died",
            (
                "tests/data/test_bad_files.py::test_a_fault_that_passes_costs_no_file",
                "tests/data/test_bad_files.py::test_a_file_that_kills_its_process_has_three_attempts",
            ),
        ),
        (
            "so a damaged frame is counted, and a tracklet that hangs is given up, as a video is",
            (
                "tests/reid/test_loading.py::test_unreadable_frames_are_replaced_by_the_nearest_and_counted",
                "tests/reid/test_loading.py::test_a_tracklet_that_hangs_is_given_up",
            ),
        ),
    ],
    "docs/reid/datasets.md": [
        (
            "the same files under other names, counts once, and a line says so",
            ("tests/data/test_duplicates.py::test_a_tracklet_that_is_twice_in_one_part",),
        ),
        (
            "links to a folder that is read by another name or that holds the link",
            (
                "tests/reid/test_tracklet_folders.py::test_a_link_takes_no_tracklet_from_its_owner",
                "tests/reid/test_tracklet_folders.py::test_links_multiply_nothing",
            ),
        ),
        (
            "The same folder always gives the same lists",
            (
                "tests/reid/test_datasets_folder.py::test_whole_numbers_are_kept",
                "tests/reid/test_datasets_two_cameras.py::test_natural_order_is_total",
            ),
        ),
        (
            "a tracklet of mixed identities is an error that names the row",
            ("tests/reid/test_datasets_mars.py::test_mixed_people_are_named",),
        ),
        (
            "one line on stderr says so",
            (
                "tests/reid/test_datasets_two_cameras.py::test_ilids_without_its_divisions",
                "tests/reid/test_datasets_two_cameras.py::test_prid_without_its_divisions",
            ),
        ),
        (
            "That depends on no library and no machine; nothing is written",
            ("tests/reid/test_datasets_two_cameras.py::test_random_divisions_never_change",),
        ),
        (
            "Those of more than `data.max_pixels` pixels count as unreadable",
            (
                "tests/reid/test_datasets_check.py::test_table",
                "tests/reid/test_cli.py::test_extract_writes_what_it_was_given",
                "tests/data/test_still_images.py::test_the_limit_is_an_option",
            ),
        ),
        (
            "What else is there is passed over, counted and named in a line on stderr",
            (
                "tests/reid/test_tracklet_folders.py::test_the_dataset_folder_names_what_it_ignores",
                "tests/reid/test_tracklet_folders.py::test_a_folder_that_cannot_be_read_is_named",
            ),
        ),
        (
            "links to a folder that is read by another name or that holds the link",
            (
                "tests/reid/test_tracklet_folders.py::test_links_multiply_nothing",
                "tests/reid/test_tracklet_folders.py::test_the_dataset_folder_names_what_it_ignores",
            ),
        ),
        (
            "A link from one part into another counts as a folder of its own",
            (
                "tests/reid/test_tracklet_folders.py::test_one_tracklet_may_be_linked_into_both_parts",
            ),
        ),
        (
            "Evaluation needs `query` and `gallery`, training needs `train` as well",
            (
                "tests/reid/test_train.py::test_data_sets_that_cannot_be_trained_on_are_refused",
                "tests/reid/test_datasets_folder.py::test_what_does_not_fit",
            ),
        ),
        (
            "Person `-1` or `00-1` is junk",
            (
                "tests/reid/test_datasets_folder.py::test_names_of_nobody",
                "tests/reid/test_datasets_folder.py::test_junk_as_mars_writes_it",
                "tests/reid/test_tracklet_folders.py::test_names_of_junk_and_distractors",
            ),
        ),
        (
            "Both belong into `gallery`",
            ("tests/reid/test_datasets_folder.py::test_what_does_not_fit",),
        ),
        (
            "(`0007` is 7, and `7` beside it is an error)",
            (
                "tests/reid/test_datasets_folder.py::test_numbers_of_names",
                "tests/reid/test_datasets_folder.py::test_whole_numbers_are_kept",
            ),
        ),
        (
            "The other names, sorted, get the numbers after the largest of these, from 1 where there are none",
            (
                "tests/reid/test_datasets_folder.py::test_numbers_of_names",
                "tests/reid/test_datasets_folder.py::test_names_are_numbered_in_their_order",
            ),
        ),
        (
            "Reports show the names",
            ("tests/reid/test_names_across_files.py::test_reports_show_the_names_of_the_folders",),
        ),
        (
            "Data of one camera needs `--cameras ignore`",
            (
                "tests/reid/test_evaluate.py::test_one_camera_is_evaluated_where_cameras_are_ignored",
                "tests/reid/test_evaluate.py::test_one_camera_can_be_trained_on",
            ),
        ),
        (
            "The identities of `train` must not be among those of `query`",
            (
                "tests/reid/test_datasets_folder.py::test_what_does_not_fit",
                "tests/reid/test_datasets_mars.py::test_people_in_train_and_query",
            ),
        ),
        (
            "images or folders that are named and not there",
            ("tests/reid/test_datasets_check.py::test_every_kind_of_problem",),
        ),
        (
            "not an image of an accepted format, damaged, too large (`--max_pixels`), or not read in time (a process that hangs is killed; `deadline`)",
            (
                "tests/reid/test_datasets_check.py::test_pictures_of_every_kind",
                "tests/reid/test_datasets_check.py::test_table",
                "tests/reid/test_datasets_check.py::test_pictures_that_hang_or_kill_are_named",
            ),
        ),
        (
            "tracklets without images",
            (
                "tests/reid/test_datasets_check.py::test_own_data",
                "tests/reid/test_datasets_folder.py::test_empty_folders",
            ),
        ),
        (
            "tracklets of several identities or cameras, or of others than their names say",
            (
                "tests/reid/test_datasets_check.py::test_every_kind_of_problem",
                "tests/reid/test_datasets_mars.py::test_mixed_cameras_and_other_people_are_reported_together",
            ),
        ),
        (
            "identities both in train and in query",
            ("tests/reid/test_datasets_check.py::test_own_data",),
        ),
        (
            "an image file of train that is in query or gallery as well",
            ("tests/data/test_duplicates.py::test_tracklets_that_share_an_image",),
        ),
        (
            "in other datasets, a gallery that answers no query at all",
            ("tests/reid/test_datasets_check.py::test_own_data",),
        ),
        (
            "Exit code 0: nothing found; 1: something found; 2: the dataset cannot be read as a whole",
            (
                "tests/reid/test_datasets_check.py::test_a_sound_set",
                "tests/reid/test_datasets_check.py::test_every_kind_of_problem",
                "tests/reid/test_datasets_check.py::test_unusable_sets_are_refused",
                "tests/reid/test_datasets_mars.py::test_wrong_tables",
            ),
        ),
        (
            "During training and evaluation a damaged frame does not stop the run; it is left out and counted",
            (
                "tests/reid/test_train.py::test_unreadable_pictures_are_counted",
                "tests/reid/test_evaluate.py::test_unreadable_frames_and_tracklets_are_said_and_counted",
            ),
        ),
    ],
    "docs/reid/models.md": [
        (
            "less than 95 % matching is an error unless `model.allow_partial_weights`",
            (
                "tests/reid/test_reid_weights.py::test_refuses",
                "tests/reid/test_reid_weights.py::test_partial_weights_on_request",
            ),
        ),
        (
            "that is an error here, not an untrained network",
            ("tests/reid/test_reid_weights.py::test_imagenet_that_torchreid_has_not",),
        ),
        (
            "No code in a file is ever run",
            ("tests/test_weights_sources.py::test_code_in_a_file_is_never_run",),
        ),
        (
            "IBN, non-local blocks and squeeze-and-excitation are refused by name",
            (
                "tests/reid/test_reid_weights.py::test_small_parts_that_make_another_network_are_named",
            ),
        ),
        (
            "A whole network that was pickled is refused with the line that saves its state dict",
            (
                "tests/reid/test_reid_weights.py::test_a_saved_network_is_refused_and_how_to_save_its_tensors_is_said",
            ),
        ),
        (
            "The report notes GeM pooling, another pixel mean or deviation",
            (
                "tests/reid/test_reid_weights.py::test_fast_reids_checkpoint_with_other_statistics_says_so",
            ),
        ),
        (
            "Damaged files and NaN are errors before training starts",
            (
                "tests/utils/test_archives.py::test_bytes_too_many_or_too_few_are_errors",
                "tests/reid/test_reid_weights.py::test_weights_that_are_not_finite_are_refused",
            ),
        ),
    ],
    "docs/reid/report.md": [
        (
            "Files are written whole or not at all, and the same evaluation gives the same files",
            (
                "tests/reid/test_plots.py::test_a_failed_picture_leaves_the_old_one",
                "tests/reid/test_report.py::test_the_same_evaluation_gives_the_same_files",
            ),
        ),
        (
            "a frame that does not open is a crossed grey box",
            ("tests/reid/test_report.py::test_frames_that_do_not_open_are_crossed_boxes",),
        ),
        (
            "At equal distances the tracklet that comes first in the gallery stands first",
            ("tests/reid/test_report.py::test_equal_distances_go_by_row_and_junk_is_bounded",),
        ),
        ("others have a dash", ("tests/reid/test_search.py::test_the_table_says_what_is_unknown",)),
        (
            "frames are looked for where the feature file names them",
            ("tests/reid/test_search.py::test_the_page_shows_strips_and_survives_lost_pictures",),
        ),
        (
            "Features of another checkpoint are refused",
            (
                "tests/reid/test_search.py::test_features_of_another_network_are_refused",
                "tests/reid/test_cli.py::test_search_finds_a_tracklet_itself",
            ),
        ),
    ],
    "docs/reid/retrieval.md": [
        (
            "NaN among the distances, labels that do not fit, an empty gallery and lists without any match are errors",
            (
                "tests/reid/test_protocols.py::test_nan_names_the_query",
                "tests/reid/test_protocols.py::test_bad_input",
            ),
        ),
        (
            "the second pass checks that the matches' distances are equal to the last bit",
            (
                "tests/reid/test_retrieval.py::test_a_block_that_changes_between_the_passes_is_noticed",
            ),
        ),
        (
            "Features that are not finite, or whose squares overflow, are an error that names the row",
            (
                "tests/reid/test_retrieval.py::test_features_that_are_not_finite_are_named",
                "tests/reid/test_retrieval.py::test_large_features",
            ),
        ),
        (
            "bounds all that is held beside the features",
            ("tests/reid/test_rerank.py::test_the_limit_of_memory_is_kept",),
        ),
        (
            "If the sizes alone show that it does not suffice, this is said at the start, with what is needed",
            (
                "tests/reid/test_rerank.py::test_too_little_memory_is_said_before_it_is_taken",
                "tests/reid/test_evaluate.py::test_bad_options_are_one_line",
            ),
        ),
        (
            "if the neighbourhoods are larger than expected, before they are stored",
            ("tests/reid/test_rerank.py::test_too_little_memory_is_said_before_it_is_taken",),
        ),
        (
            "Blocks change results by rounding only",
            ("tests/reid/test_rerank.py::test_a_limit_of_memory_changes_no_number",),
        ),
        (
            "the number, where the name is a whole number (`0007` is 7), else null",
            (
                "tests/reid/test_names_across_files.py::test_files_hold_names_and_the_numbers_that_are_names",
            ),
        ),
        (
            "pages carry checksums, which `read_features` verifies",
            ("tests/reid/test_features.py::test_a_file_that_is_damaged_inside",),
        ),
        (
            "Files are written whole or not at all",
            (
                "tests/reid/test_features.py::test_a_failed_write_leaves_the_old_file",
                "tests/reid/test_cli.py::test_extract_on_a_full_disk_is_one_line",
            ),
        ),
        (
            "are refused with a line that says which and why",
            (
                "tests/reid/test_features.py::test_a_file_that_is_cut_off",
                "tests/reid/test_features.py::test_foreign_files",
                "tests/reid/test_features.py::test_tables_of_different_networks",
                "tests/reid/test_search.py::test_bad_input_is_said_in_one_line",
                "tests/utils/test_parquet.py::test_rows_that_a_file_cannot_hold",
            ),
        ),
        (
            "Identities and cameras are compared by their names, in one file and across files",
            (
                "tests/reid/test_names_across_files.py::test_two_files_give_what_the_whole_gives",
                "tests/reid/test_names_across_files.py::test_concatenated_files_give_what_the_whole_gives",
                "tests/reid/test_names_across_files.py::test_search_on_two_files_ranks_as_evaluate_does",
            ),
        ),
        (
            "Two names that differ are two identities, also `7` and `007`",
            (
                "tests/reid/test_names_across_files.py::test_names_are_compared_and_not_the_numbers_in_them",
            ),
        ),
        (
            "so beside another file they are refused: extract again",
            (
                "tests/reid/test_names_across_files.py::test_format_1_is_read_but_not_beside_another_file",
            ),
        ),
        (
            "tracklets at the same distance stand in the order of the gallery, as they do there",
            ("tests/reid/test_index.py::test_equal_distances_stand_in_the_order_of_the_gallery",),
        ),
        (
            "the index is -1 and the distance infinite",
            ("tests/reid/test_index.py::test_an_approximate_index_may_find_fewer",),
        ),
    ],
    "docs/reid/running.md": [
        (
            "it must be a multiple of their number",
            ("tests/reid/test_samplers.py::test_batches_that_cannot_be_are_refused",),
        ),
        (
            "goes on with the newest run that began its first step",
            ("tests/reid/test_train.py::test_runs_without_a_checkpoint_are_passed_over",),
        ),
        (
            "the result is that of a run that was never interrupted",
            ("tests/reid/test_train.py::test_worker_processes_and_an_interruption_change_nothing",),
        ),
        (
            "SIGHUP, SIGINT and SIGTERM end a run in order (exit codes 129, 130 and 143)",
            ("tests/reid/test_train.py::test_signals_end_a_run_in_order",),
        ),
        (
            "What is stored, checked and refused is as for [video-snl]",
            (
                "tests/reid/test_train.py::test_changed_tracklets_and_batches_are_refused",
                "tests/reid/test_train.py::test_resume_refuses_other_people_and_other_programs",
            ),
        ),
        (
            "given again, it goes on",
            (
                "tests/reid/test_cli.py::test_all_splits_go_on_where_they_were_stopped",
                "tests/reid/test_cli.py::test_every_split_is_a_run_until_one_does_not_finish",
            ),
        ),
        (
            "A frame that does not open is replaced, in training and wherever N frames are taken, by the nearest one that does (the earlier of two), and counted",
            (
                "tests/reid/test_loading.py::test_unreadable_frames_are_replaced_by_the_nearest_and_counted",
                "tests/reid/test_train.py::test_unreadable_pictures_are_counted",
            ),
        ),
        (
            "A tracklet of which no frame opens, or that takes longer than `data.deadline`, goes to the quarantine: another tracklet of its identity replaces it",
            (
                "tests/reid/test_loading.py::test_another_tracklet_of_the_person_stands_for_an_unreadable_one",
                "tests/reid/test_train.py::test_unreadable_pictures_are_counted",
                "tests/reid/test_loading.py::test_a_tracklet_that_hangs_is_given_up",
            ),
        ),
        (
            "Three such tracklets, or `data.max_failures` of a list, are allowed",
            (
                "tests/reid/test_loading.py::test_too_many_unreadable_tracklets_stop",
                "tests/data/test_quarantine.py::test_how_many_may_be_bad",
            ),
        ),
        (
            "the newest run below `--trainer.output` that has a checkpoint is taken",
            (
                "tests/reid/test_train.py::test_runs_without_a_checkpoint_are_passed_over",
                "tests/reid/test_evaluate.py::test_the_newest_run_of_the_data_set_is_the_default",
            ),
        ),
        (
            "Newer runs without a checkpoint are named on stderr, and so is the state of a run that is not finished",
            ("tests/reid/test_train.py::test_runs_without_a_checkpoint_are_passed_over",),
        ),
        (
            "(other datasets are refused)",
            ("tests/reid/test_evaluate.py::test_the_newest_run_of_the_data_set_is_the_default",),
        ),
        (
            "They must be of one network and dataset and of different runs",
            (
                "tests/reid/test_several.py::test_checkpoints_are_to_be_of_one_network_and_data_set",
                "tests/reid/test_several.py::test_a_run_counts_once",
            ),
        ),
        (
            "A split whose test identities a checkpoint was trained on is refused",
            ("tests/reid/test_evaluate.py::test_people_that_were_trained_on_are_not_searched_for",),
        ),
        (
            "what does not fit is refused",
            ("tests/reid/test_evaluate.py::test_bad_options_are_one_line",),
        ),
        (
            "called after its run (`-2`, `-3` where two have one name)",
            ("tests/reid/test_several.py::test_no_two_reports_share_a_folder",),
        ),
        (
            "A frame that does not open is left out of its tracklet, and counted",
            (
                "tests/reid/test_loading.py::test_evaluation_skips_and_counts_unreadable_frames",
                "tests/reid/test_evaluate.py::test_unreadable_frames_and_tracklets_are_said_and_counted",
            ),
        ),
        (
            "A query of which no frame opens stays in the figures, as wrong; a gallery tracklet of which none opens is left out; both are named",
            (
                "tests/reid/test_evaluate.py::test_unreadable_frames_and_tracklets_are_said_and_counted",
                "tests/reid/test_evaluate.py::test_lost_queries_are_counted_as_their_protocol_counts",
            ),
        ),
        (
            "`train` and `evaluate` refuse the data",
            (
                "tests/reid/test_evaluate.py::test_one_camera_is_evaluated_where_cameras_are_ignored",
                "tests/reid/test_evaluate.py::test_one_camera_can_be_trained_on",
            ),
        ),
        (
            "a tracklet of the gallery that is the query itself (the same files, a link to them, or a copy of the same bytes) is ignored",
            ("tests/reid/test_evaluate.py::test_copies_and_links_of_a_query_are_found",),
        ),
        (
            "A run trained with it is evaluated with it unless told otherwise",
            ("tests/reid/test_evaluate.py::test_one_camera_can_be_trained_on",),
        ),
        (
            "The whole tree below a folder is read before anything is decided, and a line says what was found in it and what was passed over",
            (
                "tests/reid/test_tracklet_folders.py::test_a_stray_image_hides_no_gallery",
                "tests/reid/test_names_across_files.py::test_two_files_give_what_the_whole_gives",
            ),
        ),
        (
            "`auto` passes over a single image beside tracklets (a preview) and images with the name of a video beside them",
            ("tests/reid/test_tracklet_folders.py::test_a_stray_image_hides_no_gallery",),
        ),
        (
            "they are an error that names the layouts to choose from",
            (
                "tests/reid/test_tracklet_folders.py::test_images_beside_tracklets_are_refused_and_the_layout_decides",
                "tests/reid/test_tracklet_folders.py::test_frames_of_a_street_beside_a_video_are_no_tracklet",
                "tests/reid/test_tracklet_folders.py::test_a_flat_market_folder_is_one_tracklet_per_image",
                "tests/reid/test_tracklet_folders.py::test_images_named_as_in_mars_are_grouped_by_their_names",
            ),
        ),
        (
            "of other folders, all tracklets must be equally deep",
            (
                "tests/reid/test_tracklet_folders.py::test_folders_of_several_depths_are_refused",
                "tests/reid/test_tracklet_folders.py::test_the_layout_folder_takes_names_from_one_depth",
            ),
        ),
        (
            "`@eaDir`) are ignored",
            ("tests/reid/test_tracklet_folders.py::test_a_stray_image_hides_no_gallery",),
        ),
        (
            "A link to a folder is followed unless that folder is read by another name or holds the link",
            ("tests/reid/test_tracklet_folders.py::test_links_multiply_nothing",),
        ),
        (
            "Should one input be missing or unreadable, nothing is written",
            ("tests/reid/test_cli.py::test_extract_writes_nothing_where_an_input_is_bad",),
        ),
        (
            "features of another checkpoint are not compared with it",
            (
                "tests/reid/test_cli.py::test_search_finds_a_tracklet_itself",
                "tests/reid/test_search.py::test_features_of_another_network_are_refused",
            ),
        ),
        (
            "`reid search` looks at as many of its queries",
            ("tests/reid/test_search.py::test_queries_are_of_as_many_frames_as_the_gallery",),
        ),
    ],
    "docs/blocks.md": [
        (
            "Options that exclude each other raise a `ValueError` that names both",
            ("tests/blocks/test_zoo.py::test_bad_options",),
        ),
    ],
}


def flat(text: str) -> str:
    """Text with its line ends and runs of spaces as single spaces."""
    return " ".join(text.split())


@cache
def page_text(page: str) -> str:
    return flat((ROOT / page).read_text(encoding="utf-8"))


@cache
def functions_of(file: str) -> frozenset[str]:
    """Names of the functions of a module; it is read and not run."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("page", PROMISES)
def test_every_promise_stands_in_its_page(page: str) -> None:
    gone = [words for words, _ in PROMISES[page] if flat(words) not in page_text(page)]
    assert not gone, f"{page} no longer says: {gone}; look at the tests of what it says now"


@pytest.mark.parametrize("page", PROMISES)
def test_every_promise_names_tests_that_exist(page: str) -> None:
    for words, tests in PROMISES[page]:
        assert tests, f"no test backs {words!r} of {page}"
        for test in tests:
            file, _, name = test.partition("::")
            assert name.startswith("test_") and file.startswith("tests/"), test
            assert (ROOT / file).is_file() and name in functions_of(file), f"{test} is not there"


def test_every_page_with_options_or_files_is_looked_at() -> None:
    """Pages without a promise are named, so that a new page is not forgotten."""
    none = {"docs/add-a-block.md", "docs/benchmarks.md", "docs/paper-tables.md", "docs/reid.md"}
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    assert pages - none == PROMISES.keys() - {"README.md"}


def test_the_suffixes_of_the_page_are_those_of_the_program() -> None:
    videos = " ".join(sorted(VIDEO_SUFFIXES))
    images = " ".join(sorted(IMAGE_SUFFIXES))
    assert videos in page_text("docs/own-videos.md")
    assert f"`{images}`" in page_text("docs/images-data.md")
