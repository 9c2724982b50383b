"""Bindings to other libraries, one module each. Nothing of the library imports them; each needs its own extra."""
