"""A typed client of the API: takes weft.requests, returns views and the model, raises the service's own errors."""

from weft.client.verbs import Client

__all__ = ["Client"]
