"""Where intent lives."""
