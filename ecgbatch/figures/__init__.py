"""Numbers about a cohort: figures of merit and curves with intervals that resample patients, calibration, drift.

What comes in are probabilities, labels and patients as arrays or a scores store's small columns; what goes out are figures as
{value, low, high, n_patients} and curves, as plain values. Nothing here knows a model or a page.

Other wings use:

- ``against_other``: ``figures_against_other``, ``threshold_sparing``
- ``agreement``: ``agreement``
- ``by_patient``: ``ALL_FIGURES``, ``Figure``, ``paired_difference``, ``patient_figures``
- ``calibration``: ``compare_calibrations``, ``fit_platt``
- ``curves``: ``AGE_BANDS``, ``REMARKABLE``, ``curve_bands``, ``subgroups``
- ``drift``: ``CHANGES``, ``MOST_NAMED``, ``Shift``, ``WORDS``, ``distributions``, ``drift``, ``of_training``, ``shift_of_new``,
  ``since_last_run``
- ``of_scores``: ``evaluate_scores``, ``indeterminate_flags``
- ``patients``: ``mi_or_other``
- ``resampling``: ``N_RESAMPLES``
- ``thresholds``: ``choose_threshold``
"""
