"""Alembic's entry: runs the steps on the connection it is handed, or on this process's database."""

from alembic import context
from sqlalchemy import Connection

from managers.db.engine import session
from managers.db.models import Base


def run(connection: Connection) -> None:
    """Run the steps in the connection's own transaction, on SQLite too, so that they happen all or not at all."""
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes["connection"]
if given is None:
    with session() as opened:
        run(opened.connection())
else:
    run(given)
