"""What weft reads of the running kernel."""

import gzip

import pytest

from doctor.machines import DEBIAN_MODULES, NVME_CORE, NVMET, RELEASE, MachineFiles
from weft.kernel import Kernel, ModuleState


def kernel(files: MachineFiles) -> Kernel:
    return Kernel(root=files.root, release=RELEASE)


def test_a_module_is_found_whether_it_is_named_with_dashes_or_underscores(files: MachineFiles) -> None:
    files.modules()
    assert kernel(files).module("nvmet-tcp") is kernel(files).module("nvmet_tcp") is ModuleState.LOADABLE


def test_a_loaded_module_is_told_from_one_that_is_built_in(files: MachineFiles) -> None:
    files.modules(built_in=["kernel/fs/configfs/configfs.ko"])
    files.load("nvmet")
    files.write("sys/module/nvme_core/parameters/multipath", "Y\n")
    assert kernel(files).module("nvmet") is ModuleState.LOADED
    assert kernel(files).module("configfs") is ModuleState.BUILT_IN
    assert kernel(files).module("nvme-core") is ModuleState.BUILT_IN
    assert kernel(files).parameter("nvme-core", "multipath") == "Y"


def test_a_kernel_whose_modules_were_removed_by_an_upgrade_is_told_from_one_without_the_module(
    files: MachineFiles,
) -> None:
    assert f"{RELEASE} is not there" in (kernel(files).why_not_module("nvmet") or "")
    files.modules({})
    assert kernel(files).why_not_module("nvmet") == f"the kernel {RELEASE} has no module nvmet"


@pytest.mark.parametrize("command", ["/bin/false", "/usr/bin/true", "/bin/true # hardening", ":"])
def test_a_module_that_modprobe_is_told_not_to_load_is_forbidden(files: MachineFiles, command: str) -> None:
    files.modules()
    file = files.write("etc/modprobe.d/hardening.conf", f"install nvmet-tcp {command}\n")
    assert kernel(files).module("nvmet_tcp") is ModuleState.FORBIDDEN
    assert str(file) in (kernel(files).why_not_module("nvmet_tcp") or "")


def test_a_module_that_is_only_kept_from_loading_by_itself_is_loadable(files: MachineFiles) -> None:
    files.modules()
    files.write("etc/modprobe.d/local.conf", "blacklist nvmet_tcp\ninstall nvmet /sbin/modprobe -i nvmet\n")
    assert kernel(files).module("nvmet_tcp") is ModuleState.LOADABLE
    assert kernel(files).module("nvmet") is ModuleState.LOADABLE


def test_an_administrators_file_hides_that_of_a_package(files: MachineFiles) -> None:
    files.modules()
    files.write("usr/lib/modprobe.d/nvme.conf", "install nvmet /bin/false\n")
    assert kernel(files).module("nvmet") is ModuleState.FORBIDDEN
    files.write("etc/modprobe.d/nvme.conf", "")
    assert kernel(files).module("nvmet") is ModuleState.LOADABLE


def test_options_are_read_from_the_kernels_own_copy_or_from_boot(files: MachineFiles) -> None:
    assert kernel(files).option("CONFIG_NVME_TARGET") is None
    files.write(f"boot/config-{RELEASE}", "CONFIG_NVME_TARGET=m\n# CONFIG_NVME_TARGET_AUTH is not set\n")
    assert kernel(files).option("CONFIG_NVME_TARGET") == "m"
    assert kernel(files).option("CONFIG_NVME_TARGET_AUTH") == "n"
    compressed = files.write("proc/config.gz")
    compressed.write_bytes(gzip.compress(b"CONFIG_NVME_TARGET_AUTH=y\n"))
    assert kernel(files).option("CONFIG_NVME_TARGET_AUTH") == "y"


def test_authentication_is_seen_in_what_the_modules_need(files: MachineFiles) -> None:
    files.modules()
    assert kernel(files).target_authenticates() is True
    assert kernel(files).host_authenticates() is True
    files.modules({NVMET: (NVME_CORE,), NVME_CORE: ()})
    assert kernel(files).target_authenticates() is False
    assert kernel(files).host_authenticates() is False


def test_nothing_is_claimed_of_authentication_where_nothing_tells(files: MachineFiles) -> None:
    assert kernel(files).target_authenticates() is None
    assert kernel(files).host_authenticates() is None


def test_a_host_in_configfs_shows_whether_the_target_authenticates(files: MachineFiles) -> None:
    files.modules(DEBIAN_MODULES)
    host = files.root / "sys/kernel/config/nvmet/hosts/nqn.2014-08.org.nvmexpress:uuid:1"
    host.mkdir(parents=True)
    assert kernel(files).target_authenticates() is False
    (host / "dhchap_key").touch()
    assert kernel(files).target_authenticates() is True


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        ("CONFIG_NVME_AUTH=y", True),
        ("CONFIG_NVME_AUTH=m\n# CONFIG_NVME_HOST_AUTH is not set", False),
        ("CONFIG_NVME_AUTH=m\nCONFIG_NVME_HOST_AUTH=y", True),
    ],
    ids=["before 6.7", "the target alone", "both"],
)
def test_the_hosts_option_had_another_name_once(
    files: MachineFiles, configuration: str, *, expected: bool
) -> None:
    files.write(f"boot/config-{RELEASE}", configuration)
    assert kernel(files).host_authenticates() is expected
