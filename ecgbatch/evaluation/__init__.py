"""A model judged: figures by patient, subgroups, simple baselines, comparisons, and an audit for leaks and shortcuts.

What comes in are a labelled workspace and a model, or a recipe to train anew by folds; what goes out is one
JSON document, and the scores store that it rests on.

Other wings use:

- ``audit``: ``Repeats``, ``evaluate_workspace``, ``repeated``
"""
