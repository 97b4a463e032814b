"""Programs that use perfmodel beside torch. Run them from the root of the repository: ``python -m examples.NAME.FILE``."""
