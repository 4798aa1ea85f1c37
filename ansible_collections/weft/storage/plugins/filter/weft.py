# Copyright: the weft developers
# Apache License 2.0 (see https://www.apache.org/licenses/LICENSE-2.0)
"""Filters for the configuration of weft."""

import json


def endpoint(address, port):
    """Address and port as weft reads them; an IPv6 address is in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def endpoints(addresses, port):
    return [endpoint(each, port) for each in addresses]


def portals(addresses, interfaces, able, transports, port, rdma_port):  # noqa: PLR0917 -- a filter's arguments
    """Where hosts are to connect, for target.portals; RDMA only on interfaces that are able to."""
    found = []
    for address in addresses:
        if "rdma" in transports and interfaces.get(address) in able:
            found.append("rdma://" + endpoint(address, rdma_port))
        if "tcp" in transports:
            found.append(endpoint(address, port))
    return found


def identity(before, now, random):
    """The host's NQN and id: what was there before the packages counts, and what these left is made of one piece."""
    start = "nqn.2014-08.org.nvmexpress:uuid:"
    old_id = before["id"].lower()
    nqn = before["nqn"] or (start + old_id if old_id else now["nqn"]) or start + random
    own_id = nqn[len(start) :].lower() if nqn.startswith(start) else now["id"].lower()
    return {"nqn": nqn, "id": old_id or own_id or random}


def pool_tables(pools):
    """The pools of storage_node_pools as tables of weft's configuration: without what is only for making them."""
    tables = []
    for pool in pools:
        table = {key: pool[key] for key in pool if key not in ("devices", "erase", "settings")}
        table.setdefault("kind", "lvm")
        if table["kind"] == "lvm":
            table.pop("path", None)
        else:
            table = {
                key: table[key] for key in table if key not in ("volume_group", "provisioning", "thin_pool")
            }
        tables.append(dict(table, **(pool.get("settings") or {})))
    return tables


def pool_faults(pools):
    """What cannot be in storage_node_pools, each as a sentence; none of it takes a look at a machine."""
    found = [] if pools else ["there is no pool"]
    found += [f"two pools are called {name}" for name in _twice(pool.get("name") for pool in pools)]
    found += [
        f"{device} is named twice"
        for device in _twice(device for pool in pools for device in pool.get("devices") or [])
    ]
    for pool in pools:
        found += [f"pool {pool.get('name')}: {fault}" for fault in _faults_of(pool)]
    return found


def _faults_of(pool):
    devices, erase = pool.get("devices") or [], pool.get("erase") or []
    if not pool.get("name"):
        yield "it has no name"
    if pool.get("kind", "lvm") == "lvm" and not pool.get("volume_group"):
        yield "a pool of kind lvm needs a volume_group"
    if pool.get("kind", "lvm") != "lvm" and (devices or erase):
        yield "devices and erase are for pools of kind lvm"
    if float(pool.get("over_commit", 1)) < 1:
        yield "over_commit is less than 1"
    for device in erase:
        if device not in devices:
            yield f"erase names {device}, which devices does not"
        # The permission stays in the variables, and a short name may lead to another disk after the next boot.
        if not device.startswith("/dev/disk/by-"):
            yield f"erase names {device}; it takes paths below /dev/disk/by-id or the like, which always lead to one disk"


def _twice(values):
    values = list(values)
    return sorted({value for value in values if value and values.count(value) > 1})


def toml(value):
    """A dictionary as TOML; None stands for a key that is left out."""
    if not isinstance(value, dict):
        raise TypeError(f"weft.storage.toml takes a dictionary, not {value!r}")
    return "\n".join(_tables(value, [])).lstrip("\n") + "\n"


def _tables(table, path):
    for key in table:
        if table[key] is not None and not _is_table(table[key]) and not _is_tables(table[key]):
            yield f"{_key(key)} = {_written(table[key])}"
    for key in table:
        below = [*path, _key(key)]
        if _is_table(table[key]):
            yield "\n[{}]".format(".".join(below))
            yield from _tables(table[key], below)
        elif _is_tables(table[key]):
            for each in table[key]:
                yield "\n[[{}]]".format(".".join(below))
                yield from _tables(each, below)


def _is_table(value):
    return isinstance(value, dict)


def _is_tables(value):
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(each, dict) for each in value)


def _key(text):
    plain = str(text).replace("_", "").replace("-", "")
    return str(text) if plain.isalnum() and plain.isascii() else _string(str(text))


def _written(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value + 0)
    if isinstance(value, (list, tuple)):
        return "[{}]".format(", ".join(_written(each) for each in value))
    return _string(str(value))


def _string(text):
    """JSON's strings are TOML's basic strings, but for surrogates and for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


class FilterModule:
    """Filters for the configuration of weft."""

    def filters(self):
        return {
            "endpoints": endpoints,
            "identity": identity,
            "pool_faults": pool_faults,
            "pool_tables": pool_tables,
            "portals": portals,
            "toml": toml,
        }
