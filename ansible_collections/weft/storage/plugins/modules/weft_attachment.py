#!/usr/bin/python
# Copyright: the weft developers
# Apache License 2.0 (see https://www.apache.org/licenses/LICENSE-2.0)

DOCUMENTATION = r"""
module: weft_attachment
short_description: Attach volumes of weft to this host
version_added: "0.1.0"
description:
  - Has a volume be attached to the machine that the module works on, or not be attached.
  - The host is registered if it is not known yet.
  - That the module has changed something never means that the volume is empty, for a volume with data is attached anew as well.
options:
  volume:
    description:
      - Name or id of the volume.
    type: str
    required: true
  state:
    description:
      - V(attached) gives the volume a path on this host. V(detached) flushes it and takes the path away; what uses it
        must have ended. A volume that there is none of is not attached.
    type: str
    choices: [attached, detached]
    default: attached
  persist:
    description:
      - Whether it is attached at every boot, by a systemd unit of its own. Needs root, and the units that the role
        weft.storage.host installs.
      - V(false) never takes such a unit away; detaching the volume does.
    type: bool
    default: true
  force:
    description:
      - Detach also when the node does not answer. What was not flushed is lost.
    type: bool
    default: false
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
    description: Shows whether it is attached, and at every boot, before and after.
    support: full
seealso:
  - module: weft.storage.weft_volume
author:
  - The weft developers (@weft)
"""

EXAMPLES = r"""
- name: Attach a volume, also after the next boot
  weft.storage.weft_attachment:
    volume: data
  register: attached

- name: Have a file system on it, made only where there is none
  community.general.filesystem:
    dev: "{{ attached.path }}"
    fstype: ext4

- name: Detach it
  weft.storage.weft_attachment:
    volume: data
    state: detached
"""

RETURN = r"""
path:
  description: By which any program can use the volume. Empty when it is not attached.
  returned: always
  type: str
  sample: /dev/nvme0n1
volume_id:
  description: The id of the volume; C(/dev/disk/by-id/nvme-uuid.ID) is the same device at every boot.
  returned: when there is such a volume
  type: str
unit:
  description: The systemd unit that attaches it at every boot, for what must come after it.
  returned: when it is attached at every boot
  type: str
  sample: weft-attach@5fd8be8a-4b1a-4e9c-9fb8-4b9f3a2d7c11.service
"""

import glob

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.weft.storage.plugins.module_utils.weft import ARGUMENTS, Weft, difference

UNIT = "weft-attach@%s.service"


def is_persistent(volume_id):
    return bool(glob.glob("/etc/systemd/system/*.wants/" + UNIT % volume_id))


def find(weft, wanted):
    """Of the volume: its id, its path here, and whether it is attached at every boot; all empty where there is none."""
    status = weft.ask("status", whatever_is_wrong=True)
    attached = {row["volume_id"]: row["path"] for row in status["attached"]}
    if wanted in attached:
        return {"volume_id": wanted, "path": attached[wanted], "persist": is_persistent(wanted)}
    volume = weft.ask("volume", "show", wanted, or_none=True)
    if volume is None:  # it may be made by a task before this one, of which check mode only tells
        return {"volume_id": "", "path": "", "persist": False}
    volume_id = volume["id"]
    return {
        "volume_id": volume_id,
        "path": attached.get(volume_id, ""),
        "persist": is_persistent(volume_id),
    }


def attach(module, weft, found):
    persist = ["--persist"] if module.params["persist"] else []
    volume = found["volume_id"] or module.params["volume"]
    made = weft.ask("attach", volume, "--wait", str(module.params["wait"]), *persist)
    return {"volume_id": made["volume_id"], "path": made["path"], "persist": made["persistent"]}


def detach(module, weft, found):
    force = ["--force"] if module.params["force"] else []
    weft.ask("detach", found["volume_id"], "--wait", str(module.params["wait"]), *force)


def answer(module, before, after, changed):
    result = {"path": after["path"]}
    if after["volume_id"]:
        result["volume_id"] = after["volume_id"]
    if after["persist"] and after["volume_id"]:
        result["unit"] = UNIT % after["volume_id"]
    shown = [{"attached": bool(state["path"]), "persist": state["persist"]} for state in (before, after)]
    module.exit_json(changed=changed, diff=difference(*shown), **result)


def main():
    module = AnsibleModule(
        argument_spec=dict(
            ARGUMENTS,
            volume={"type": "str", "required": True},
            state={"type": "str", "choices": ["attached", "detached"], "default": "attached"},
            persist={"type": "bool", "default": True},
            force={"type": "bool", "default": False},
            wait={"type": "int", "default": 120},
        ),
        supports_check_mode=True,
    )
    weft = Weft(module)
    before = find(weft, module.params["volume"])
    if module.params["state"] == "attached":
        wanted = dict(before, path=before["path"] or "(a new path)")
        wanted["persist"] = before["persist"] or module.params["persist"]
    else:
        wanted = dict(before, path="", persist=False)
    changed = wanted != before
    if changed and not module.check_mode:
        if wanted["path"]:
            wanted = attach(module, weft, before)
        else:
            detach(module, weft, before)
    answer(module, before, wanted, changed)


if __name__ == "__main__":
    main()
