"""The Ansible collection: what it says of itself, and that it says the same everywhere."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from weft.units import HOST, NODE

ROOT = Path(__file__).parents[2]
COLLECTION = ROOT / "ansible_collections" / "weft" / "storage"
ROLES = sorted(each.name for each in (COLLECTION / "roles").iterdir())
MODULES = sorted(each.stem for each in (COLLECTION / "plugins" / "modules").glob("*.py"))


def variables(role: str) -> set[str]:
    """Those that the role has a default for."""
    text = (COLLECTION / "roles" / role / "defaults" / "main.yml").read_text()
    return set(re.findall(r"^(\w+):", text, re.MULTILINE))


def specified(role: str) -> set[str]:
    """Those that the role's argument specification names."""
    text = (COLLECTION / "roles" / role / "meta" / "argument_specs.yml").read_text()
    return set(re.findall(rf"^      ({role}_\w+):", text, re.MULTILINE))


def test_the_readme_shows_the_playbook_as_it_is() -> None:
    playbook = (COLLECTION / "playbooks" / "pair.yml").read_text()
    assert f"```yaml\n{playbook}```" in (COLLECTION / "README.md").read_text()


def test_the_playbook_is_no_longer_than_a_page() -> None:
    assert len((COLLECTION / "playbooks" / "pair.yml").read_text().splitlines()) <= 40


@pytest.mark.parametrize("role", ROLES)
def test_each_role_specifies_every_variable_that_it_has_a_default_for(role: str) -> None:
    assert variables(role) - specified(role) == set()


@pytest.mark.parametrize("role", ROLES)
def test_each_role_has_a_readme_that_the_collection_leads_to(role: str) -> None:
    assert (COLLECTION / "roles" / role / "README.md").is_file()
    assert f"(roles/{role}/README.md)" in (COLLECTION / "README.md").read_text()


@pytest.mark.parametrize("module", MODULES)
def test_each_module_is_in_the_readme_and_takes_the_defaults_of_the_group(module: str) -> None:
    assert f"`{module}`" in (COLLECTION / "README.md").read_text()
    assert f"    - {module}\n" in (COLLECTION / "meta" / "runtime.yml").read_text()


def test_the_version_is_that_of_weft() -> None:
    versions = {
        re.search(r"^version: (.+)$", (COLLECTION / "galaxy.yml").read_text(), re.MULTILINE),
        re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE),
    }
    assert len({found[1] for found in versions if found}) == 1


def test_the_licence_is_that_of_weft() -> None:
    assert (COLLECTION / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_removing_takes_every_unit_that_installing_brings() -> None:
    tasks = (COLLECTION / "roles" / "remove" / "tasks" / "main.yml").read_text()
    assert {unit for unit in (*NODE, *HOST) if f'"{unit}"' not in tasks} == set()


def test_only_the_role_that_installs_knows_families_of_systems() -> None:
    others = [COLLECTION / "roles" / role / "tasks" for role in ROLES if role != "install"]
    knowing = [file for folder in others for file in folder.glob("*.yml") if "os_family" in file.read_text()]
    assert knowing == []


@pytest.mark.parametrize("family", ["debian", "redhat"])
def test_each_family_names_the_same_things(family: str) -> None:
    text = (COLLECTION / "roles" / "install" / "vars" / f"{family}.yml").read_text()
    assert re.findall(r"^(\w+):", text, re.MULTILINE) == [
        "__install_python",
        "__install_packages",
        "__install_kernel_packages",
    ]
    assert re.findall(r"^  (\w+):", text, re.MULTILINE) == ["all", "storage_node", "host"]


@pytest.mark.slow
def test_ansible_understands_the_documentation_of_roles_and_modules() -> None:
    subprocess.run([ROOT / "scripts" / "ansible.sh", "setup"], check=True, timeout=600, capture_output=True)

    def listed(kind: str) -> set[str]:
        done = subprocess.run(
            [
                ROOT / ".venv-ansible" / "bin" / "ansible-doc",
                "--json",
                "--list",
                "--type",
                kind,
                "weft.storage",
            ],
            env={
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT),
                "HOME": str(ROOT / ".venv-ansible"),
                "LC_ALL": "C.UTF-8",
            },
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        return set(json.loads(done.stdout))

    assert listed("module") == {f"weft.storage.{module}" for module in MODULES}
    assert listed("role") == {f"weft.storage.{role}" for role in ROLES}
