"""Usage: entries in, rollups out. Store, structs and scripts; other products stay out."""
