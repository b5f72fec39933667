"""Archives that we make ourselves: PTB-like records from a moving dipole, with known beats, labels and diseases.

What comes in are a folder, numbers of records and seconds, and a seed; what goes out are WFDB files, the same for the same seed.
The demo, the tests and the benchmarks live on them, since the project holds no recording of a person.

Other wings use:

- ``archive``: ``ArchiveShape``, ``write_archive``
"""
