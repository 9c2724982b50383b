"""What is stored and sent, as msgspec structs, and its checks. No I/O."""
