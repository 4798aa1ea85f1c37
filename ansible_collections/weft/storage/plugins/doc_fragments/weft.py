# Copyright: the weft developers
# Apache License 2.0 (see https://www.apache.org/licenses/LICENSE-2.0)
"""What all modules that run weft have in common."""


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  executable:
    description:
      - Path of the command C(weft) on the machine that the module works on.
    type: path
    default: /usr/local/bin/weft
  config:
    description:
      - Path of the configuration of weft.
      - Without it weft takes the one that it takes by itself, usually C(/etc/weft/weft.toml).
    type: path
requirements:
  - weft on the machine that the module works on, which is a storage node, or was logged in to one by C(weft login)
"""
