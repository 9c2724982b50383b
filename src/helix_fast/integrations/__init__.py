"""Bindings to other libraries, one module each, each with its own extra. The library itself imports none of them."""
