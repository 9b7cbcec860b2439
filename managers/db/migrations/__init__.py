"""The steps from one schema to the next, run by `managers.db.schema`.

A new one, written from the difference between the models and the database in use:
`python -c "from alembic import command; from managers.db import schema;
command.revision(schema.config(), 'services gain a zone', autogenerate=True, rev_id='0002')"`.
"""
