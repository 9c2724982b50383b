"""Locks with fencing tokens. Manager, structs and scripts; other products stay out."""
