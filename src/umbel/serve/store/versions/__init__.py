"""The steps from each schema of the store to the next, for Alembic; a step that was released is never changed."""
