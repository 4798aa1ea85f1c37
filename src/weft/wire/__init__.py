"""OpenSDS v1beta JSON <-> model, views and requests. The API reads requests and writes replies, the client the reverse.

A *body* is what a client sends, with every key optional; a *resource* is what the server answers. Both directions of
each go through one msgspec struct, whose fields in camelCase are the keys. Sizes are GiB on the wire and bytes inside.
"""
