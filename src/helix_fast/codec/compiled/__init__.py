"""The parts of the extension, which ``_codec.pyx`` includes. Coverage finds its sources only in packages."""
