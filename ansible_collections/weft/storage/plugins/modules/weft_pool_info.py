#!/usr/bin/python
# Copyright: the weft developers
# Apache License 2.0 (see https://www.apache.org/licenses/LICENSE-2.0)

DOCUMENTATION = r"""
module: weft_pool_info
short_description: Tell the pools of a storage node of weft
version_added: "0.1.0"
description:
  - Lists pools with their state, and how much of them is taken.
options:
  name:
    description:
      - Only the pool of this name.
    type: str
extends_documentation_fragment:
  - weft.storage.weft
attributes:
  check_mode:
    description: Changes nothing.
    support: full
seealso:
  - module: weft.storage.weft_volume
author:
  - The weft developers (@weft)
"""

EXAMPLES = r"""
- name: Look at the pools
  weft.storage.weft_pool_info:
  register: pools

- name: Stop where less than 10 GiB can be promised
  ansible.builtin.assert:
    that: pools.pools | map(attribute='room_bytes') | max >= 10 * 1024 ** 3
"""

RETURN = r"""
pools:
  description: The pools, each as C(weft pool list --json) shows it.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the pool.
      type: str
      sample: fast
    status:
      description: C(available), C(pending) or C(error).
      type: str
      sample: available
    reason:
      description: Why it is not available.
      type: str
    total_bytes:
      description: How large the pool is.
      type: int
    free_bytes:
      description: How much of it nobody uses.
      type: int
    room_bytes:
      description: How much can still be promised to volumes and snapshots.
      type: int
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.weft.storage.plugins.module_utils.weft import ARGUMENTS, Weft


def main():
    module = AnsibleModule(argument_spec=dict(ARGUMENTS, name={"type": "str"}), supports_check_mode=True)
    name = module.params["name"]
    module.exit_json(
        changed=False, pools=Weft(module).ask("pool", "list", *(["--name", name] if name else []))
    )


if __name__ == "__main__":
    main()
