"""The stores on Redis or Valkey."""
