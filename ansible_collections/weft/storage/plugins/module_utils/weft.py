# Copyright: the weft developers
# Apache License 2.0 (see https://www.apache.org/licenses/LICENSE-2.0)
"""weft's command line as modules use it.

The modules run the command weft of the machine that they work on, and read the JSON that it promises. So one client
speaks to the API, checks the node's key and says in weft's words what went wrong; tokens stay in the file that
"weft login" keeps, and the Python that Ansible uses there needs nothing of weft's.
"""

import json

ARGUMENTS = {
    "executable": {"type": "path", "default": "/usr/local/bin/weft"},
    "config": {"type": "path"},
}

GIB = 1024**3
_NOT_FOUND = 4


class Weft:
    """Runs weft for a module, which it ends with weft's own sentence when weft fails."""

    def __init__(self, module):
        self._module = module
        self._executable = module.params["executable"]
        self._options = ["--json"]
        if module.params["config"]:
            self._options += ["--config", module.params["config"]]

    def ask(self, *arguments, **more):
        """What a command prints, decoded.

        stdin: what it reads, for secrets never stand on a command line. whatever_is_wrong: "weft status" also ends with
        an error where something that it tells of is wrong. or_none: None is the answer where weft knows no such thing.
        """
        command = [self._executable, *arguments, *self._options]
        try:
            code, output, errors = self._module.run_command(
                command, data=more.get("stdin"), handle_exceptions=False
            )
        except OSError as error:
            if self._module.check_mode:  # on a bare machine; what weft would say is not known
                self._module.exit_json(changed=True, msg="weft is not installed on this machine yet.")
            self._module.fail_json(
                msg=f"{self._executable} cannot be run: {error.strerror}. Install weft on this machine, or say by the option executable where it is."
            )
        if code == _NOT_FOUND and more.get("or_none"):
            return None
        if code != 0 and not (more.get("whatever_is_wrong") and output.strip()):
            self._module.fail_json(msg=_sentence(errors), exit_code=code, command=" ".join(arguments[:2]))
        try:
            return json.loads(output) if output.strip() else {}
        except ValueError:
            self._module.fail_json(
                msg=f"{self._executable} did not answer in JSON: is it weft?", answer=output[:200]
            )

    def only(self, kind, **filters):
        """The one thing of a kind that has these attributes; None if there is none. Several end the module."""
        words = [word for name in sorted(filters) for word in ("--" + name, filters[name])]
        found = self.ask(kind, "list", *words)
        if len(found) > 1:
            self._module.fail_json(
                msg="Several {}s have that name; their ids are {}.".format(
                    kind, ", ".join(row["id"] for row in found)
                )
            )
        return found[0] if found else None


def difference(before, after):
    """For --diff: the attributes that change, before and after; None stands for a thing that is not there."""
    return {"before": _shown(before, after), "after": _shown(after, before)}


def _shown(one, other):
    if not one:
        return {}
    return {key: value for key, value in one.items() if not other or other.get(key) != value}


def _sentence(errors):
    """The message of the error that weft prints as a line of JSON; else all that was said."""
    for line in reversed(errors.splitlines()):
        if line.startswith("{"):
            try:
                return json.loads(line)["error"]["message"]
            except (ValueError, KeyError, TypeError):
                break
    return errors.strip() or "weft said nothing."
