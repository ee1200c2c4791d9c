"""Alembic environment: always runs on the connection that ``router.store.migrate`` passes in."""

from __future__ import annotations

from alembic import context

from router.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes a column only by copying its table
    transactional_ddl=False,  # the caller's transaction holds it all
)
context.run_migrations()
