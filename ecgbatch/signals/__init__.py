"""Samples stored: every record of an archive as a row of a chunked int16 store, with what is wrong with each of its leads.

What comes in are an archive and a workspace; what goes out are signals stores and ``WORK/archive.json``, which says which row of
which store each record is now. Later stages ask here for the records that are current.

Other wings use:

- ``quality``: ``warm_up``
- ``stage``: ``ARCHIVE_FILE``, ``Conversion``, ``LEFT_OUT``, ``NOT_TAKEN``, ``SIGNALS``, ``archive_facts``, ``convert_archive``,
  ``current_records``, ``new_records``, ``plan_again``, ``plan_signals``, ``produce_signals``, ``producer``, ``records_at``,
  ``signals_path``, ``verify_checksums``
"""
