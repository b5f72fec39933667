"""Decisions: a probability, an interval and a decision for every record, or a reason why it has no score.

What comes in are a workspace with beats and a model; what goes out is one immutable scores store a run. The decision is made in
``decision``; a record that has not changed is not scored again (``earlier``).

Other wings use:

- ``earlier``: ``PLACE``
- ``scorable``: ``MIN_LEAD_SHARE``, ``REASONS``, ``with_own_status``
- ``shard``: ``heart_rate_bpm``, ``prepared_beats``
- ``stage``: ``score_workspace``
- ``stored_beats``: ``read_record_beats``
- ``table``: ``SCORES``, ``plan_rows``, ``score_settings``, ``score_versions``, ``scores_path``
"""
