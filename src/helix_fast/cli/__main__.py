"""`python -m helix_fast.cli`: the same as `helix-fast`."""

from . import main

main()
