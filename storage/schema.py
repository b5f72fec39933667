"""What a store looks like: its variables, their dimensions, types, units, fills and ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from storage.digests import SHA256, Hasher
from storage.errors import SchemaError

TEXT = np.dtypes.StringDType()


@dataclass(frozen=True)
class Variable:
    """One variable of a schema.

    Parameters
    ----------
    dims
        Names of the dimensions, outermost first.
    dtype
        A numpy dtype name (``int16``, ``float32``) or ``string``.
    long_name, units
        As in the CF conventions; ``units`` is ``1`` for counts, ratios and flags, empty for text.
    fill
        The value that means *missing*. Floats are NaN and text is empty unless stated.
    low, high
        Inclusive range of every value that is not ``fill``; ``None`` leaves that side open.
    flags
        Meaning to value. Distinct values, or bits of a mask if ``is_mask``.
    bulk
        True: written shard by shard into a sharded array. False: a small column; it travels in the receipts (first
        dimension = the schema's row dimension) or is known to the plan (any other first dimension).
    inner_chunk
        Bulk only: chunk lengths of the dimensions after the first; ``None`` keeps a dimension whole.

    """

    dims: tuple[str, ...]
    dtype: str
    long_name: str
    units: str = "1"
    fill: int | float | str | None = None
    low: float | None = None
    high: float | None = None
    flags: Mapping[str, int] | None = None
    is_mask: bool = False
    bulk: bool = False
    inner_chunk: tuple[int | None, ...] | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def numpy_dtype(self) -> Any:
        """The numpy dtype that values of this variable have in memory."""
        return TEXT if self.dtype == "string" else np.dtype(self.dtype)

    @property
    def fill_value(self) -> Any:
        """The value that means missing, in this variable's own type."""
        if self.dtype == "string":
            return "" if self.fill is None else str(self.fill)
        if self.fill is None:
            return self.numpy_dtype.type(np.nan if self.numpy_dtype.kind == "f" else 0)
        return self.numpy_dtype.type(self.fill)

    def attributes(self) -> dict[str, Any]:
        """Return the attributes stored with the variable (CF names; ``fill`` says which value means missing)."""
        attributes: dict[str, Any] = {"long_name": self.long_name}
        if self.units:
            attributes["units"] = self.units
        if self.fill is not None and self.dtype != "string":
            attributes["fill"] = self.fill
        if self.flags is not None:
            attributes["flag_masks" if self.is_mask else "flag_values"] = list(self.flags.values())
            attributes["flag_meanings"] = " ".join(self.flags)
        return attributes | dict(self.attrs)


@dataclass(frozen=True)
class Schema:
    """A named, versioned set of variables whose rows are ``row_dim``."""

    name: str
    version: int
    row_dim: str
    title: str
    variables: Mapping[str, Variable]

    def bulk(self) -> dict[str, Variable]:
        """Return the variables written shard by shard."""
        return {name: variable for name, variable in self.variables.items() if variable.bulk}

    def columns(self) -> dict[str, Variable]:
        """Return the small per-row variables that travel in receipts."""
        return {n: v for n, v in self.variables.items() if not v.bulk and v.dims[0] == self.row_dim}

    def fixed(self) -> dict[str, Variable]:
        """Return the variables that the plan knows before any shard is made."""
        return {n: v for n, v in self.variables.items() if not v.bulk and v.dims[0] != self.row_dim}

    def check(self, block: xr.Dataset, sizes: Mapping[str, int], n_rows: int, where: str) -> None:
        """Check a shard's Dataset: names, dimensions, types, shapes and ranges.

        Raises
        ------
        SchemaError
            Naming the variable, what was expected and what was found: such a block is a bug of the stage, not of the
            data, and nothing of it is written.

        """
        expected = self.bulk() | self.columns()
        missing, foreign = (
            sorted(expected.keys() - set(block.variables)),
            sorted({str(name) for name in block.variables} - expected.keys()),
        )
        if missing or foreign:
            raise SchemaError(f"{where}: schema {self.name!r} lacks {missing or 'nothing'}, does not know {foreign or 'nothing'}")
        for name, variable in expected.items():
            shape = (n_rows, *(sizes[dim] for dim in variable.dims[1:]))
            _check_variable(block[name], name, variable, shape, where)


def _check_variable(array: xr.DataArray, name: str, variable: Variable, shape: tuple[int, ...], where: str) -> None:
    if array.dims != variable.dims or array.shape != shape:
        raise SchemaError(f"{where}: {name} must be {variable.dims} {shape}, found {array.dims} {array.shape}")
    if array.dtype != variable.numpy_dtype:
        raise SchemaError(f"{where}: {name} must be {variable.dtype}, found {array.dtype}")
    values = array.values
    if values.size == 0 or variable.dtype == "string":
        return
    if variable.flags is not None:
        _check_flags(values, name, variable, where)
    if variable.low is None and variable.high is None:
        return
    fill = variable.fill_value
    known = (
        values[~np.isnan(values)]
        if values.dtype.kind == "f"
        else (values[values != fill] if variable.fill is not None else values)
    )
    low = -np.inf if variable.low is None else variable.low
    high = np.inf if variable.high is None else variable.high
    if known.size and (known.min() < low or known.max() > high):
        raise SchemaError(f"{where}: {name} must lie in [{low}, {high}], found {known.min()} to {known.max()}")


def _check_flags(values: np.ndarray, name: str, variable: Variable, where: str) -> None:
    assert variable.flags is not None
    allowed = np.array(list(variable.flags.values()), dtype=np.int64)
    found = np.unique(values.astype(np.int64))
    wrong = found[(found & ~np.bitwise_or.reduce(allowed)) != 0] if variable.is_mask else found[~np.isin(found, allowed)]
    if wrong.size:
        raise SchemaError(f"{where}: {name} has undefined flags {wrong[:5].tolist()}; defined are {dict(variable.flags)}")


def digest_array(values: np.ndarray, algorithm: str = SHA256) -> str:
    """Return the digest of an array's type, shape and decoded content; text counts as UTF-8 with lengths."""
    values = np.asarray(values)
    digest = Hasher(algorithm)
    digest.update(f"{values.dtype}{values.shape}".encode())
    if values.dtype.kind == "T":
        for text in values.ravel().tolist():
            encoded = text.encode()
            digest.update(f"{len(encoded)}:".encode() + encoded)
    else:
        digest.update(values)
    return digest.text()
