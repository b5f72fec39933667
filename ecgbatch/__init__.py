"""ecgbatch: archives of ECG recordings in, beats, scores and reports out.

A house of wings; each says at its door what goes in and out, and may import those on the lines below its own:

    cli                                                    what a user types
    (flows)                                                when and where: a package beside this one
    upkeep                                                 workspaces kept whole
    evaluation, reports                                    a model judged; what people read
    scores, training                                       decisions; models made
    measurements                                           what an electrocardiograph prints
    beats                                                  R peaks and windows
    signals                                                samples stored, leads flagged
    archive                                                what records there are, what is new
    workspace, model, figures, formats, synthetic          what is remembered; members; numbers; files; made archives
    settings, kernels, terms, own_packages                 the ground
    (storage)                                              stores: a package beside this one
"""

__version__ = "0.1.0"
