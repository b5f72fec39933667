"""Decisions: a probability, an interval and a decision for every record, or a reason why it has no score.

What comes in are a workspace with beats and a model; what goes out is one immutable scores store a run. The decision is made in
``stage``; a record that has not changed is not scored again (``earlier``).

Other wings use:

- ``earlier``: ``PLACE``
- ``stage``: ``MIN_LEAD_SHARE``, ``REASONS``, ``SCORES``, ``heart_rate_bpm``, ``plan_rows``, ``prepared_beats``,
  ``read_record_beats``, ``score_settings``, ``score_versions``, ``score_workspace``, ``scores_path``, ``with_own_status``
"""
