"""Fixtures that several parts of the tests share; each has a module under `tests/fixtures`."""

pytest_plugins = ["tests.fixtures.disk", "tests.fixtures.postgres", "tests.fixtures.triton"]
