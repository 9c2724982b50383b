"""The live page: what runs in a store, in a browser. It reads by the stores' public methods, and writes only stops."""
