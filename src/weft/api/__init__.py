"""The HTTP face: OpenSDS v1beta routes over the service."""
