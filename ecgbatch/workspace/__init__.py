"""What a workspace remembers beside its stores: runs and their logs, pseudonyms, who was erased, what compactions replaced,
what readers said.

What comes in and goes out are small documents below WORK, most of them sealed, read and written through ``storage``. Rooms of
every stage ask here what is known; none of these rooms imports a stage.

Other wings use:

- ``compacted``: ``COMPACTED_FILE``, ``compacted``, ``compaction_problems``, ``proof_of``, ``stands_for``
- ``erased``: ``ERASED_FILE``, ``Erased``, ``N_ERASURES``, ``VIEW_FILE``, ``erased_list``, ``unended``, ``write_erased``
- ``privacy``: ``PSEUDONYMOUS``, ``Pseudonyms``, ``TABLE_FILE``, ``days_apart``, ``without_order``, ``workspace_pseudonyms``,
  ``write_pseudonyms``
- ``reviews``: ``CALLS``, ``Kept``, ``LABELS``, ``LONGEST_NOTE``, ``OPINIONS``, ``REVIEWS``, ``Review``, ``agreed_labels``,
  ``blind_opinion``, ``forget``, ``is_conflict``, ``latest``, ``now``, ``put_review``, ``read_reviews``, ``review_problems``
- ``runs``: ``Timing``, ``earlier_run``, ``latest_run``, ``log_event``, ``log_file``, ``log_problems``, ``name_log``, ``put_log``,
  ``read_run``, ``runs_by_time``, ``stated_reports``, ``write_run``
"""
