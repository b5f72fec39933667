"""Models made: from prepared beats of labelled patients to members that are judged on patients whom they never saw.

What comes in are workspaces with beats, a recipe's name and, to go on from, a model or a trunk; what goes out is a model's folder
with figures out of fold. Each fold's member resumes exactly where it was stopped. (``by_beat`` deals beats instead, as published;
its model says that it leaks.)

Other wings use:

- ``arrhythmia``: ``train_arrhythmia``
- ``data``: ``BEAT_SETTINGS``, ``GROUPS``
- ``member``: ``load_libraries``
- ``recipes``: ``RECIPES``, ``Training``, ``train_workspace``, ``train_workspaces``
- ``settings``: ``TrainSettings``
"""
