"""Sessions: state, messages, checkpoints and staging. Store, structs and scripts; other products stay out."""
