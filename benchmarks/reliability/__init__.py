"""Faults put into the real command line, counted: ``python -m benchmarks.reliability`` (``make reliability``).

After each fault the same command is run again, undisturbed: every byte of the stores and models must be that of a run which
nothing disturbed, the same reports must be there, nothing may be left beside them (what lies below .build is not looked at), and
``verify`` must find nothing. ``__main__.Campaigns`` lists what there is; ``page`` keeps the figures and writes
docs/RELIABILITY.md.
"""
