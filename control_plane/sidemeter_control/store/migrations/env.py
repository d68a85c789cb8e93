"""How Alembic runs here: only on the connection that `Database.migrate` hands over, inside its transaction."""

from alembic import context

from sidemeter_control.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
