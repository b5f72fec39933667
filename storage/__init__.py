"""Stores that are complete or absent: plans, shards, receipts, Zarr."""
