"""How Alembic runs here: only on the connection that `Database.migrate` hands over, inside its transaction."""

from alembic import context

from sidemeter_control.store.tables import metadata

given = context.config.attributes
context.configure(
    connection=given["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    on_version_apply=given.get("applied"),
)
context.run_migrations()
