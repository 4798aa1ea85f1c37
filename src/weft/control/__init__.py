"""The control plane: intent is written first, then a loop makes the world agree with it."""
