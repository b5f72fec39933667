"""Archives: which records a folder holds, what is new or changed there, and what is known of each patient.

What comes in are an archive's folder, a label table and the look that was kept of the last time (``WORK/archive.parquet``); what
goes out is a listing, one row a record whatever is wrong with it, and the places of records that have not moved. Records of
erased patients, and files that still grow, are left out of a look. ``fetch`` brings a database here.

Other wings use:

- ``fetch``: ``fetch``
- ``finding``: ``search``, ``summarise_left_out``
- ``listing``: ``each``, ``list_archive``, ``summarise``
- ``remembered``: ``CACHE_FILE``, ``LOOK_COLUMNS``, ``Place``, ``cache_problems``, ``changed_key``, ``remember``,
  ``remember_moved``
- ``sums``: ``with_sums``
- ``untaken``: ``Untaken``, ``find_untaken``, ``summarise_untaken``
- ``watch``: ``Look``, ``LookOptions``, ``look_at``, ``settle_changes``
"""
