"""Stores that are complete or absent: plans, shards, receipts, Zarr.

What comes in are a plan and a pure function from a shard to a Dataset; what goes out are published stores that prove themselves,
on a disk or in a bucket, and small sealed documents beside them. Nothing here has heard of an ECG. ``__all__`` is what others
use; few enter ``arrays``, ``plan``, ``reading``, ``receipts`` and ``schema`` for a name more. ``heap`` hands freed memory back to
the system.
"""

from storage.address import is_address, refuse_foreign
from storage.build import Map, Progress, build
from storage.digests import STRONG, Hasher, algorithm_of
from storage.errors import CorruptStore, ForeignStore, LockedWorkspace, SchemaError, StoreError, UnfinishedStore
from storage.failing import FAILED, NOT_OF_A_ROW, RowsFailed, build_around, failed_rows, noting, preference, row_key, together
from storage.folder import PARTIAL, Folder
from storage.location import folder_at
from storage.lock import only_writer
from storage.maker import other_makers, this_maker
from storage.mirror import cache_folder, cached_mirror, is_mirror
from storage.plan import Plan, Shard, make_plan
from storage.reading import forget_columns, list_stores, load_columns, open_once, open_store, read_columns
from storage.remake import Origin, copied, planned_like, remove_store, remove_whole, schema_of
from storage.schema import TEXT, Schema, Variable
from storage.sealed import document_problems, folder_problems, seal_again, seal_folder, sealed, unsealed
from storage.verify import verify_build, verify_store
from storage.versions import installed_version

__all__ = [
    "FAILED",
    "NOT_OF_A_ROW",
    "PARTIAL",
    "STRONG",
    "TEXT",
    "CorruptStore",
    "Folder",
    "ForeignStore",
    "Hasher",
    "LockedWorkspace",
    "Map",
    "Origin",
    "Plan",
    "Progress",
    "RowsFailed",
    "Schema",
    "SchemaError",
    "Shard",
    "StoreError",
    "UnfinishedStore",
    "Variable",
    "algorithm_of",
    "build",
    "build_around",
    "cache_folder",
    "cached_mirror",
    "copied",
    "document_problems",
    "failed_rows",
    "folder_at",
    "folder_problems",
    "forget_columns",
    "installed_version",
    "is_address",
    "is_mirror",
    "list_stores",
    "load_columns",
    "make_plan",
    "noting",
    "only_writer",
    "open_once",
    "open_store",
    "other_makers",
    "planned_like",
    "preference",
    "read_columns",
    "refuse_foreign",
    "remove_store",
    "remove_whole",
    "row_key",
    "schema_of",
    "seal_again",
    "seal_folder",
    "sealed",
    "this_maker",
    "together",
    "unsealed",
    "verify_build",
    "verify_store",
]
