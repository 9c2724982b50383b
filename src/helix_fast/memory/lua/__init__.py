"""Runs the scripts of ``helix_fast/lua`` in process: Lua 5.1 as Redis offers it to scripts, and no more.

The scripts are what the stores mean. Run here as they are, they cannot mean something else in memory than on a server.
What the scripts do not use of the language is refused when a script is read, never run differently: goto-less Lua 5.1
without metatables, coroutines, ``%b`` patterns and the libraries that Redis leaves out.
"""
