"""The codec in plain Python: the twin of `codec/compiled`, the oracle of its tests, and the fallback."""
