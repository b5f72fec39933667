"""Files as archives have them: WFDB, EDF, DICOM, each parsed strictly in a room of its own, none trusted.

What comes in are an archive's folder and a record's name; what goes out is the record's header, a verdict that needs no sample
(``inspection``), or its samples exactly as they were recorded (``records``), and for what cannot be used ``UnreadableRecord``
with a stable code of ``header.REASONS``. A new file format is a new room here, called by ``inspection`` and ``records``.

Other wings use:

- ``files``: ``check_record_name``, ``read_small_file``
- ``header``: ``Header``, ``REASONS``, ``UnreadableRecord``, ``WARNINGS``
- ``inspection``: ``Inspection``, ``SUFFIXES``, ``has_checksums``, ``inspect_record``, ``inspect_records``
- ``records``: ``read_record``, ``read_samples``, ``source_digest``
- ``sample_kernels``: ``deal``
- ``wfdb_annotation``: ``BEAT_SYMBOLS``, ``EXTENSION``, ``Reference``, ``decode``, ``encode_beats``, ``reference_beats``
- ``wfdb_header``: ``NULL_FILE``
"""
