"""Bytes to and from the server: lanes (requests), hubs (pushes), topologies (which server), retries. No store logic."""
