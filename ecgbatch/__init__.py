"""ecgbatch: archives of ECG recordings in, beats, scores and reports out.

For programs (docs/api.md): ``ecgbatch.open_workspace(work)`` and what ``dir(ecgbatch)`` names beside it; each is imported when
it is asked for.

A house of wings; each says at its door what goes in and out, and may import those on the lines below its own:

    cli                                                    what a user types
    api                                                    what a program calls
    (flows)                                                when and where: a package beside this one
    serving                                                a workspace in a browser
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

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and editors; at run time ``__getattr__`` imports what is asked for
    from ecgbatch.api.judging import paired_difference as paired_difference
    from ecgbatch.api.judging import patient_figures as patient_figures
    from ecgbatch.api.stages import Compute as Compute
    from ecgbatch.api.stages import convert as convert
    from ecgbatch.api.stages import find_beats as find_beats
    from ecgbatch.api.stages import make_synthetic_archive as make_synthetic_archive
    from ecgbatch.api.stages import measure as measure
    from ecgbatch.api.stages import report as report
    from ecgbatch.api.stages import score as score
    from ecgbatch.api.stages import train as train
    from ecgbatch.api.torch_beats import BeatDataset as BeatDataset
    from ecgbatch.api.workspace import Workspace as Workspace
    from ecgbatch.api.workspace import open_workspace as open_workspace

__version__ = "0.1.0"

_ROOM_OF = {
    "open_workspace": "workspace",
    "Workspace": "workspace",
    "BeatDataset": "torch_beats",
    "Compute": "stages",
    "make_synthetic_archive": "stages",
    "convert": "stages",
    "find_beats": "stages",
    "measure": "stages",
    "train": "stages",
    "score": "stages",
    "report": "stages",
    "patient_figures": "judging",
    "paired_difference": "judging",
}
"""The public names, and the room of ``ecgbatch.api`` that each is in."""


def __getattr__(name: str) -> Any:
    """Return a public name from its room, which is imported now."""
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'ecgbatch' has no attribute {name!r}; public names: {', '.join(_ROOM_OF)}")
    return getattr(import_module(f"ecgbatch.api.{_ROOM_OF[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names and no others: what an editor offers is what stays."""
    return sorted({"__version__", *_ROOM_OF})
