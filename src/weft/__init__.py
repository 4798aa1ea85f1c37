"""weft serves block volumes to hosts over NVMe fabrics."""

__version__ = "0.1.0"
