"""What the tests stand on: real servers that can be hurt, and a proxy that hurts the way to them."""
