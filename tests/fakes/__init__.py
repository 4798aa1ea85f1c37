"""Implementations of the doors that keep their world in memory and can crash at every effect."""
