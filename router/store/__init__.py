"""Durable state: hard facts as rows in SQLite (embedded) or PostgreSQL (a cluster)."""

from router.store.boot import BootState
from router.store.commit import Commit
from router.store.store import Store

__all__ = ["BootState", "Commit", "Store"]
