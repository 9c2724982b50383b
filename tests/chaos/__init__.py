"""Chaos: programs at work, a nemesis that hurts their servers and links, and a checker that reads their journals."""
