"""What an electrocardiograph prints beside an ECG: each a number with a unit, or the reason why there is none.

What comes in are rows of signals and beats stores; what goes out are stores of measurements, a row a record: heart rate,
intervals, axes and levels, measured on up to ten seconds of it. Which ten seconds is decided in ``excerpt``, one record is
measured in ``record``, a store in ``stage``, a workspace in ``lookup``. Reports show them; the wing stands below the scores so
that a score's guards can ask too.

Other wings use:

- ``document``: ``document``, ``in_words``
- ``excerpt``: ``EXCERPT_S``, ``Span``, ``choose_excerpt``, ``has_equals``, ``in_millivolts``, ``measure_excerpt``
- ``lookup``: ``Measuring``, ``current_measurements``, ``measure_workspace``
- ``quantities``: ``LEAD_QUANTITIES``, ``QUANTITIES``, ``REASONS``
- ``record``: ``VERSION``
- ``stage``: ``MEASUREMENTS``, ``SAID_OF_ERASED``, ``measure_settings``, ``measure_versions``, ``measured_of``,
  ``plan_measurements``
"""
