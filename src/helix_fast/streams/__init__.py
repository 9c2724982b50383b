"""Streams: tokens in, resumable readers out. Store, structs and scripts of streams; other products stay out."""
