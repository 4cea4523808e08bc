"""Readers of the outside world, one kind of source a module."""
