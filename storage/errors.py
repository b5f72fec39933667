"""The family of storage's errors."""


class StoreError(Exception):
    """Something about a store is not as it must be; the message says what to do."""


class SchemaError(StoreError):
    """A block does not fit its schema: a bug of the stage that made it."""


class UnfinishedStore(StoreError):
    """A store lacks shards; the message names them."""


class CorruptStore(StoreError):
    """Bytes on disk are not the bytes that were written."""


class ForeignStore(StoreError):
    """A store was written by something else, or by a version that this one cannot read."""


class LockedWorkspace(StoreError):
    """Another writer holds the workspace; the message says who."""
