"""The contract: tests that every store passes, ours on every server. Provisional, see ``docs/testing.md``.

A ``conftest.py`` takes the fixtures and defines the factories of its stores (see :mod:`.fixtures` for all of them)::

    from .fixtures import *

    @pytest.fixture
    def new_lock_manager():
        database = Database()
        return lambda **options: MyLockManager(database, **options)

A test file then takes the tests of these stores, ``locks`` here, or ``state``, ``streams``, ``resumable``, ``usage``::

    from .locks import *

The tests run under pytest-asyncio with ``asyncio_mode = "auto"``.
"""
