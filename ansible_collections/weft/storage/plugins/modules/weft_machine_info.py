#!/usr/bin/python
# Copyright: the weft developers
# Apache License 2.0 (see https://www.apache.org/licenses/LICENSE-2.0)

DOCUMENTATION = r"""
module: weft_machine_info
short_description: Tell what a machine has for weft, before weft is there
version_added: "0.1.0"
description:
  - Lists the RDMA links of a machine by their network interfaces, its addresses, its modules and its identity as an NVMe host,
    and says of block devices what they hold.
  - Reads files below C(/sys) and C(/etc/nvme), and runs C(ip), C(lsblk), C(blkid) and, where it is there, C(pvs). Changes nothing.
options:
  devices:
    description:
      - Paths of block devices to look at.
    type: list
    elements: path
    default: []
attributes:
  check_mode:
    description: Changes nothing.
    support: full
author:
  - The weft developers (@weft)
"""

EXAMPLES = r"""
- name: Look at the machine
  weft.storage.weft_machine_info:
    devices: [/dev/sdb]
  register: machine
"""

RETURN = r"""
interfaces:
  description: Names of the network interfaces, RDMA or not.
  returned: always
  type: list
  elements: str
  sample: [eth0]
addresses:
  description: The addresses of the machine, each with the interface that has it.
  returned: always
  type: dict
  sample:
    192.0.2.1: eth0
modules:
  description: The modules of the kernel that are loaded, or built in with parameters, with underscores in their names.
  returned: always
  type: list
  elements: str
  sample: [nvmet, nvmet_tcp]
identity:
  description: What C(/etc/nvme/hostnqn) and C(/etc/nvme/hostid) hold; empty where there is no such file.
  returned: always
  type: dict
  contains:
    nqn:
      description: The NQN of the host.
      type: str
      sample: nqn.2014-08.org.nvmexpress:uuid:0a4fd6e2-9d1b-4f5c-8a55-6d3a1ef2b7c0
    id:
      description: Its identifier.
      type: str
      sample: 0a4fd6e2-9d1b-4f5c-8a55-6d3a1ef2b7c0
rdma:
  description: The RDMA links, one for each port of a device and each interface that it has.
  returned: always
  type: list
  elements: dict
  contains:
    device:
      description: Name of the RDMA device.
      type: str
      sample: mlx5_0
    port:
      description: Number of its port.
      type: int
      sample: 1
    interface:
      description: Name of the network interface; empty where it has none.
      type: str
      sample: eth0
    state:
      description: State of the port.
      type: str
      sample: ACTIVE
    kind:
      description: C(InfiniBand), C(RoCE) or C(iWARP).
      type: str
      sample: RoCE
devices:
  description: The block devices that were asked for.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The path as it was given.
      type: str
      sample: /dev/sdb
    problem:
      description: Why nothing can be told about it, such as that it is not there. Empty where all is well.
      type: str
    holds:
      description: What is on it, each as a word or two.
      type: list
      elements: str
      sample: [ext4]
    volume_group:
      description: The volume group that it belongs to; empty if it belongs to none.
      type: str
    mounted:
      description: Where it, or a part of it, is mounted.
      type: list
      elements: str
"""

import glob
import json
import os
import stat

from ansible.module_utils.basic import AnsibleModule


def read(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def kind_of(device, port):
    """As drivers/infiniband/core/sysfs.c writes it: node_type is "1: CA" or, for iWARP alone, "4: RNIC"."""
    if read(device + "/node_type").startswith("4"):
        return "iWARP"
    return "InfiniBand" if read(port + "/link_layer") == "InfiniBand" else "RoCE"


def interfaces_of(device, port):
    """By the kernel's table of GIDs, which has VLANs and bonds too; else by the card, or by the address that is the GID."""
    found = {read(each) for each in glob.glob(port + "/gid_attrs/ndevs/*")} - {""}
    if not found:
        found = {os.path.basename(each) for each in glob.glob(device + "/device/net/*")}
    if not found:
        address = read(port + "/gids/0").replace(":", "")[:12]
        for each in glob.glob("/sys/class/net/*") if address.strip("0") else []:
            if read(each + "/address").replace(":", "") == address:
                found.add(os.path.basename(each))
    return sorted(found) or [""]


def links():
    for device in sorted(glob.glob("/sys/class/infiniband/*")):
        for port in sorted(glob.glob(device + "/ports/*")):
            for interface in interfaces_of(device, port):
                yield {
                    "device": os.path.basename(device),
                    "port": int(os.path.basename(port)),
                    "interface": interface,
                    "state": read(port + "/state").partition(":")[2].strip(),
                    "kind": kind_of(device, port),
                }


def addresses(module):
    ip = module.get_bin_path("ip", required=True, opt_dirs=["/sbin", "/usr/sbin"])
    told = json.loads(module.run_command([ip, "-json", "address", "show"], check_rc=True)[1] or "[]")
    return {
        address["local"]: interface["ifname"]
        for interface in told
        for address in interface.get("addr_info", [])
        if "local" in address
    }


def nodes(tree):
    for each in tree:
        yield each
        yield from nodes(each.get("children") or [])


def look_at(module, path):
    found = {"path": path, "problem": "", "holds": [], "volume_group": "", "mounted": []}
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return dict(found, problem=error.strerror)
    if not stat.S_ISBLK(mode):
        return dict(found, problem="It is not a block device")
    tree = module.run_command(
        ["lsblk", "--json", "--paths", "--output", "NAME,TYPE,FSTYPE,MOUNTPOINT", path], check_rc=True
    )[1]
    parts = list(nodes(json.loads(tree)["blockdevices"]))
    holds = [each["fstype"] for each in parts if each.get("fstype")]
    holds += [each["type"] + " " + each["name"] for each in parts[1:]]
    # The device's own content, also where udev has not looked at it yet; 2: there is none.
    code, output, errors = module.run_command(["blkid", "--probe", "--output", "export", path])
    if code not in (0, 2):
        return dict(found, problem=errors.strip() or "blkid cannot read it")
    told = dict(line.partition("=")[::2] for line in output.splitlines())
    holds += [told[each] for each in ("TYPE", "PTTYPE") if each in told]
    return dict(
        found,
        holds=sorted(set(holds)),
        volume_group=volume_group(module, path),
        mounted=sorted({each["mountpoint"] for each in parts if each.get("mountpoint")}),
    )


def volume_group(module, path):
    pvs = module.get_bin_path("pvs", opt_dirs=["/sbin", "/usr/sbin"])
    if not pvs:
        return ""
    code, output = module.run_command([pvs, "--noheadings", "--options", "vg_name", path])[:2]
    return output.strip() if code == 0 else ""


def main():
    module = AnsibleModule(
        argument_spec={"devices": {"type": "list", "elements": "path", "default": []}},
        supports_check_mode=True,
    )
    module.exit_json(
        changed=False,
        interfaces=sorted(os.path.basename(each) for each in glob.glob("/sys/class/net/*")),
        addresses=addresses(module),
        modules=sorted(os.listdir("/sys/module")),
        identity={"nqn": read("/etc/nvme/hostnqn"), "id": read("/etc/nvme/hostid")},
        rdma=list(links()),
        devices=[look_at(module, each) for each in module.params["devices"]],
    )


if __name__ == "__main__":
    main()
