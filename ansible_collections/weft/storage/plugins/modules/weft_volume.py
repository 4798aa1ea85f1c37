#!/usr/bin/python
# Copyright: the weft developers
# Apache License 2.0 (see https://www.apache.org/licenses/LICENSE-2.0)

DOCUMENTATION = r"""
module: weft_volume
short_description: Make, grow and delete volumes of weft
version_added: "0.1.0"
description:
  - Has a volume of a name be there with at least a size, or not be there.
  - A volume is grown, also while hosts use it, and never made smaller. One that is in error ends the module with its reason.
options:
  name:
    description:
      - Name of the volume. Where several have it, the module stops.
    type: str
    required: true
  state:
    description:
      - V(present) makes the volume, or grows it. V(absent) deletes it with its data; it must not be attached.
    type: str
    choices: [absent, present]
    default: present
  size_gib:
    description:
      - Size in GiB. A volume that is larger already stays as it is. Needed to make a volume.
    type: int
  pool:
    description:
      - The pool to make it in; by default one with room. A volume is not moved.
    type: str
  profile:
    description:
      - The class of volume to make it of. A volume does not change its class.
    type: str
  zone:
    description:
      - The availability zone to make it in.
    type: str
  multi_attach:
    description:
      - Whether several hosts may attach it at one time. Counts when it is made.
    type: bool
    default: false
  description:
    description:
      - Free text. Counts when the volume is made.
    type: str
  wait:
    description:
      - For how many seconds to wait until it is done.
    type: int
    default: 120
extends_documentation_fragment:
  - weft.storage.weft
attributes:
  check_mode:
    description: Tells what it would do.
    support: full
  diff_mode:
    description: Shows name and size before and after.
    support: full
seealso:
  - module: weft.storage.weft_attachment
author:
  - The weft developers (@weft)
"""

EXAMPLES = r"""
- name: Have a volume of 10 GiB
  weft.storage.weft_volume:
    name: data
    size_gib: 10

- name: Delete it, with its data
  weft.storage.weft_volume:
    name: data
    state: absent
"""

RETURN = r"""
volume:
  description: The volume as C(weft volume show --json) shows it. Empty when there is none.
  returned: always
  type: dict
  contains:
    id:
      description: The id, which is also the uuid of the namespace that hosts see.
      type: str
    status:
      description: What it can be used for, such as C(available) or C(inUse).
      type: str
    size_bytes:
      description: Size in bytes.
      type: int
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.weft.storage.plugins.module_utils.weft import ARGUMENTS, GIB, Weft, difference

ATTRIBUTES = ("pool", "profile", "zone", "description")


def make(module, weft):
    params = module.params
    if params["size_gib"] is None:
        module.fail_json(msg="There is no volume {} yet: making it takes size_gib.".format(params["name"]))
    if module.check_mode:
        return {}
    options = ["--size", f"{params['size_gib']}GiB", "--wait", str(params["wait"])]
    for name in ATTRIBUTES:
        if params[name] is not None:
            options += ["--" + name, params[name]]
    if params["multi_attach"]:
        options.append("--multi-attach")
    return weft.ask("volume", "create", params["name"], *options)


def grow(module, weft, found):
    if module.check_mode:
        return found
    size = f"{module.params['size_gib']}GiB"
    return weft.ask("volume", "extend", found["id"], "--size", size, "--wait", str(module.params["wait"]))


def have(module, weft, found):
    """The volume, what changes of it, and whether anything does."""
    before = {"name": found["name"], "size_bytes": found["size_bytes"]} if found else {}
    wanted = (module.params["size_gib"] or 0) * GIB
    after = {"name": module.params["name"], "size_bytes": max(wanted, before.get("size_bytes", 0))}
    if not found:
        return make(module, weft), difference(before, after), True
    if found["status"] == "error":
        module.fail_json(
            msg="Volume {} is in error: {}".format(
                found["name"], found.get("reason") or "weft says no reason."
            )
        )
    if wanted > found["size_bytes"]:
        return grow(module, weft, found), difference(before, after), True
    return found, difference({}, {}), False


def main():
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENTS,
            name={"type": "str", "required": True},
            state={"type": "str", "choices": ["absent", "present"], "default": "present"},
            size_gib={"type": "int"},
            pool={"type": "str"},
            profile={"type": "str"},
            zone={"type": "str"},
            multi_attach={"type": "bool", "default": False},
            description={"type": "str"},
            wait={"type": "int", "default": 120},
        ),
        supports_check_mode=True,
    )
    weft = Weft(module)
    found = weft.only("volume", name=module.params["name"])
    if module.params["state"] == "present":
        volume, diff, changed = have(module, weft, found)
        module.exit_json(changed=changed, diff=diff, volume=volume)
    if found and not module.check_mode:
        weft.ask("volume", "delete", found["id"], "--yes", "--wait", str(module.params["wait"]))
    diff = difference({"name": found["name"], "size_bytes": found["size_bytes"]} if found else {}, {})
    module.exit_json(changed=bool(found), diff=diff, volume={})


if __name__ == "__main__":
    main()
