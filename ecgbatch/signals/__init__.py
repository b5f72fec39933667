"""Samples stored: every record of an archive as a row of a chunked int16 store, with what is wrong with each of its leads.

What comes in are an archive and a workspace; what goes out are signals stores and ``WORK/archive.json``, which says which row of
which store each record is now. Later stages ask here for the records that are current.

Other wings use:

- ``known``: ``new_records``
- ``lookup``: ``ARCHIVE_FILE``, ``LEFT_OUT``, ``NOT_TAKEN``, ``archive_facts``, ``current_records``, ``left_out_counts``,
  ``records_at``, ``signals_path``, ``verify_checksums``
- ``quality``: ``warm_up``
- ``shard``: ``produce_signals``, ``producer``
- ``stage``: ``convert_archive``, ``plan_again``
- ``table``: ``SIGNALS``, ``plan_signals``
- ``view``: ``Conversion``
"""
