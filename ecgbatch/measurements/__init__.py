"""What an electrocardiograph prints beside an ECG: each a number with a unit, or the reason why there is none.

What comes in are ten seconds of leads in millivolts with their R peaks; what goes out are heart rate, intervals and levels.
Reports show them; a score's guards may ask for them, which is why this wing stands below both.

Other wings use:

- ``intervals``: ``METHOD``, ``in_words``, ``measure``
"""
