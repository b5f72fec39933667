"""The package for programs: what is current in a workspace as tables and arrays, and the stages as plain calls.

What comes in are a workspace's place and names of records; what goes out are pandas tables, lazy xarray arrays in millivolts and
blocks of beats for training. docs/api.md has every public name and the promise that they stay. They are reached from the package
itself (``ecgbatch.open_workspace``), which imports a room when its name is asked for: ``workspace`` opens one, ``tables`` makes
its tables, ``recordings`` and ``windows`` are its arrays, read through ``lazy``; ``folds`` deals patients as training does,
``blocks`` hands beats out block by block, ``torch_beats`` to loaders of torch; ``stages`` are the stages, ``judging`` judges.

Other wings use:

- ``judging``: ``paired_difference``, ``patient_figures``
- ``stages``: ``Compute``, ``at_prevalence``, ``convert``, ``find_beats``, ``make_synthetic_archive``, ``measure``, ``report``,
  ``score``, ``start_model``, ``train``
- ``torch_beats``: ``BeatDataset``
- ``workspace``: ``Workspace``, ``open_workspace``
"""
