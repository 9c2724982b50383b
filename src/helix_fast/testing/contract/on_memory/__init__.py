"""The whole contract on the stores in memory: `pytest --pyargs helix_fast.testing.contract -o asyncio_mode=auto`."""
