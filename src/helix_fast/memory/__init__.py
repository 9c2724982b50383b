"""The twins of the stores, in process."""
