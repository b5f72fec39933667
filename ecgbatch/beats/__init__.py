"""R peaks of every record, and a window around each: by our own detection, or as Kachuee and others published.

What comes in are rows of a signals store, or a reference's annotations; what goes out are peaks and beats stores, annotation
files and the paper's table. One record is handled in ``record``, a store in ``stage``, a workspace in ``lookup``.

Other wings use:

- ``derived``: ``FLAGS``
- ``kachuee``: ``KACHUEE_WINDOW_S``, ``resample_lead``
- ``lookup``: ``ANNOTATIONS_FOLDER``, ``Extraction``, ``current_beats``, ``export_annotations``, ``extract_beats``,
  ``leads_of_signals``
- ``record``: ``BeatSettings``, ``KACHUEE_LENGTH``, ``REFERENCE_LEADS``, ``WORKING_RATE_HZ``
- ``rhythm``: ``rhythm``
- ``shard``: ``flags_of_ecgs``
- ``stage``: ``BEATS``, ``PEAKS``, ``SHARD_SIGNAL_BYTES``, ``plan_beats``, ``plan_peaks``, ``stage_settings``, ``stage_versions``
- ``table``: ``write_beat_table``
- ``warm``: ``cut_as_published``, ``cut_beats``, ``find_peaks``
"""
