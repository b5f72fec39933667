"""The packages beside this one, ``flows`` and ``storage``: found where this one lies, whatever else bears their names.

Both are common words. A folder of somebody's own flows, in which a command, a Dask worker or a process of Prefect's is started,
is often first on the path, and so is what ``PYTHONPATH`` names. ``ecgbatch`` itself is nobody else's, so what must not meet a
stranger enters by this module.
"""

from __future__ import annotations

import importlib
import pickle
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
"""The folder that all three packages lie in."""

BESIDE = ("flows", "storage")


class OtherRooms(ImportError):
    """What a task names is not here: this process has another ecgbatch than the one that sent it."""


class ForeignPackage(ImportError):
    """Another package has the name of one of ours, and this process has it already."""


def ours_first() -> None:
    """Put the folder of our packages on the path before any other that has one of their names.

    Where none has, the path stays as it is.

    Raises
    ------
    ForeignPackage
        If another of that name is found all the same: it is imported already, or something other than the path finds it.

    """
    for name in BESIDE:
        found = _place(name)
        if found is not None and found != ROOT / name:
            sys.path.insert(_before(found), str(ROOT))
            importlib.invalidate_caches()
            _refuse_foreign(name)


def _refuse_foreign(name: str) -> None:
    found = _place(name)
    if found != ROOT / name:
        raise ForeignPackage(
            f"expected the package {name!r} of ecgbatch at {ROOT / name}, found another: {found}, which was imported before. "
            "Rename that one, or see that nothing imports it in this process (PYTHONPATH, sitecustomize, .pth files)",
            name=name,
            path=str(found),
        )


def _place(name: str) -> Path | None:
    """Return the folder of a package as an import would find it, of a module its file; None where there is none.

    A folder without ``__init__.py`` is found only where no package is, so it hides none.
    """
    module = sys.modules.get(name)
    try:
        spec = module.__spec__ if module is not None else find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).resolve()
    return file.parent if file.name == "__init__.py" else file


def _before(found: Path) -> int:
    """Return the number of the first folder on the path that what was found lies in; 0 if it is in none."""
    folders = [Path(folder).resolve() for folder in sys.path]
    return next((number for number, folder in enumerate(folders) if folder in found.parents), 0)


def call_with_ours(pickled: bytes) -> Any:
    """Call a pickled (function, arguments) with our packages found first: so a task reaches a Dask worker that has others.

    Raises
    ------
    ForeignPackage
        As ``ours_first`` does, before anything is unpickled.
    OtherRooms
        If a module or a name that it needs is not here.

    """
    ours_first()
    try:
        function, arguments = pickle.loads(pickled)  # noqa: S301 - what Dask's messages are anyway, from the same sender
    except (ImportError, AttributeError) as error:
        raise OtherRooms(str(error)) from error
    return function(*arguments)
