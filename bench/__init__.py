"""What weft must reach, measured: see bench/README.md."""
