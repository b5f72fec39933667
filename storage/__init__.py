"""Stores that are complete or absent: plans, shards, receipts, Zarr."""

from storage.build import Map, Progress, build
from storage.errors import CorruptStore, ForeignStore, SchemaError, StoreError, UnfinishedStore
from storage.location import Folder
from storage.plan import Plan, Shard, make_plan
from storage.reading import list_stores, open_once, open_store
from storage.schema import TEXT, Schema, Variable
from storage.verify import verify_store

__all__ = [
    "TEXT",
    "CorruptStore",
    "Folder",
    "ForeignStore",
    "Map",
    "Plan",
    "Progress",
    "Schema",
    "SchemaError",
    "Shard",
    "StoreError",
    "UnfinishedStore",
    "Variable",
    "build",
    "list_stores",
    "make_plan",
    "open_once",
    "open_store",
    "verify_store",
]
