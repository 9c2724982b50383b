"""The blocking face: coroutines run on one background event loop per process, which all threads share."""
