#!/usr/bin/python
# Copyright: the weft developers
# Apache License 2.0 (see https://www.apache.org/licenses/LICENSE-2.0)

DOCUMENTATION = r"""
module: weft_host
short_description: Register the hosts that may attach volumes of weft
version_added: "0.1.0"
description:
  - Has a host be registered, or not be registered.
  - A host is known by its NQN; what it is called, and where it is, are for people.
options:
  name:
    description:
      - Name of the host.
    type: str
    required: true
  state:
    description:
      - V(absent) forgets the host, which must have no volume attached.
    type: str
    choices: [absent, present]
    default: present
  nqn:
    description:
      - The NQN of the host. Without it, that of the machine that the module works on.
    type: str
  ip:
    description:
      - Its address, as a label. Counts when it is registered.
    type: str
  zones:
    description:
      - The availability zones that it belongs to. Counts when it is registered.
    type: list
    elements: str
    default: [default]
  key:
    description:
      - The key by which the host must authenticate (DH-HMAC-CHAP), such as C(nvme gen-dhchap-key) makes one. Needs an
        administrator's token, or the storage node itself.
      - weft does not tell keys, so this one is only set for a host that has none, unless O(update_key=always).
    type: str
  update_key:
    description:
      - V(once) sets O(key) for a host that has none. V(always) sets it every time, and reports a change every time.
    type: str
    choices: [always, once]
    default: once
extends_documentation_fragment:
  - weft.storage.weft
attributes:
  check_mode:
    description: Tells what it would do.
    support: full
  diff_mode:
    description: Shows name and NQN before and after.
    support: full
author:
  - The weft developers (@weft)
"""

EXAMPLES = r"""
- name: Register this machine
  weft.storage.weft_host:
    name: "{{ inventory_hostname }}"

- name: Register another one, which must show a key
  weft.storage.weft_host:
    name: web1
    nqn: nqn.2014-08.org.nvmexpress:uuid:0a4fd6e2-9d1b-4f5c-8a55-6d3a1ef2b7c0
    key: "{{ vault_web1_key }}"
"""

RETURN = r"""
host:
  description: The host as C(weft host show --json) shows it; never its key. Empty when there is none.
  returned: always
  type: dict
  contains:
    id:
      description: The id.
      type: str
    name:
      description: The name.
      type: str
    initiators:
      description: What it is known by, C(port_name) being its NQN.
      type: list
      elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.weft.storage.plugins.module_utils.weft import ARGUMENTS, Weft, difference


def nqn_of(host):
    return host["initiators"][0]["port_name"] if host["initiators"] else ""


def register(module, weft):
    params = module.params
    options = [word for zone in params["zones"] for word in ("--zone", zone)]
    for name in ("nqn", "ip"):
        if params[name]:
            options += ["--" + name, params[name]]
    made = weft.ask("host", "register", params["name"], *options)
    if made["name"] != params["name"]:
        module.fail_json(
            msg="This machine is registered already, as host {}: delete that, or keep its name.".format(
                made["name"]
            )
        )
    return made


def refuse_another(module, found):
    """A name that belongs to another machine is not taken from it."""
    if found and module.params["nqn"] and nqn_of(found) != module.params["nqn"]:
        module.fail_json(
            msg="Host {} is registered with the NQN {}, not {}: delete it, or choose another name.".format(
                found["name"], nqn_of(found), module.params["nqn"]
            )
        )


def set_key(module, weft, found):
    """Whether the key is set, or would be."""
    if not module.params["key"]:
        return False
    if (
        found
        and module.params["update_key"] == "once"
        and weft.ask("host", "show", found["id"]).get("host_key")
    ):
        return False
    if not module.check_mode:
        weft.ask("host", "set-key", found["id"], "--key-file", "-", stdin=module.params["key"] + "\n")
    return True


def have(module, weft, found):
    changed = not found
    if changed and not module.check_mode:
        found = register(module, weft)
    before = {} if changed else {"name": found["name"], "nqn": nqn_of(found)}
    nqn = nqn_of(found) if found else module.params["nqn"] or "(of this machine)"
    after = {"name": module.params["name"], "nqn": nqn}
    changed = set_key(module, weft, found) or changed
    module.exit_json(changed=changed, diff=difference(before, after), host=found or {})


def forget(module, weft, found):
    if found and not module.check_mode:
        weft.ask("host", "delete", found["id"], "--yes")
    before = {"name": found["name"], "nqn": nqn_of(found)} if found else {}
    module.exit_json(changed=bool(found), diff=difference(before, {}), host={})


def main():
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENTS,
            name={"type": "str", "required": True},
            state={"type": "str", "choices": ["absent", "present"], "default": "present"},
            nqn={"type": "str"},
            ip={"type": "str"},
            zones={"type": "list", "elements": "str", "default": ["default"]},
            key={"type": "str", "no_log": True},
            update_key={"type": "str", "choices": ["always", "once"], "default": "once", "no_log": False},
        ),
        supports_check_mode=True,
    )
    weft = Weft(module)
    found = weft.only("host", name=module.params["name"])
    refuse_another(module, found)
    if module.params["state"] == "present":
        have(module, weft, found)
    forget(module, weft, found)


if __name__ == "__main__":
    main()
