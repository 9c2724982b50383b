"""The commands of a server in memory, one file a type of value: those that the stores and their scripts use."""
