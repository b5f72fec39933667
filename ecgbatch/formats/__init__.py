"""Files as archives have them: WFDB, EDF, DICOM and what hospital devices write, each parsed strictly, none trusted.

What comes in are an archive's folder and a record's name; what goes out is the record's header, a verdict that needs no sample
(``inspection``), or its samples exactly as they were recorded (``records``). A record that cannot be used has a stable code of
``header.REASONS``: ``inspection`` states it, ``records`` raises it as ``UnreadableRecord``. Annotation files are read and written
here too. A new format of a hospital device is a new room and one line in the tables of ``devices`` (by suffix, by XML root); any
other format of one file, a line in ``inspection._INSPECTORS`` and one in ``records._READERS``.

Other wings use:

- ``cart``: ``NUMBERS``, ``PHRASE``, ``as_text``, ``free_text``, ``of_text``
- ``devices``: ``DEVICE_SUFFIXES``, ``is_device_file``
- ``dicom``: ``HEAD_BYTES``, ``is_waveform_file``
- ``files``: ``check_record_name``, ``first_bytes``, ``read_small_file``
- ``header``: ``Header``, ``REASONS``, ``UnreadableRecord``, ``WARNINGS``, ``columns_of``, ``day_number``, ``step``
- ``inspection``: ``Inspection``, ``SUFFIXES``, ``has_checksums``, ``inspect_record``, ``inspect_records``
- ``leads``: ``is_ecg``, ``is_known``, ``which_are_ecgs``, ``which_decide_rate``
- ``records``: ``read_record``, ``read_samples``, ``source_digest``
- ``sample_kernels``: ``deal``
- ``warm``: ``warm_up``
- ``wfdb_annotation``: ``BEAT_SYMBOLS``, ``EXTENSION``, ``Reference``, ``decode``, ``encode_beats``, ``reference_beats``
- ``wfdb_header``: ``MAX_HEADER_BYTES``, ``NULL_FILE``, ``is_layout``
"""
