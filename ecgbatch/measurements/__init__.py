"""What an electrocardiograph prints beside an ECG: each a number with a unit, or the reason why there is none.

What comes in are up to ten seconds of leads with their R peaks; what goes out are heart rate, intervals and levels. Reports show
them; the wing stands below the scores so that a score's guards can ask too.

Other wings use:

- ``intervals``: ``METHOD``, ``in_words``, ``measure``
"""
