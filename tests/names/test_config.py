"""The configuration: defaults that serve anybody, and every wrong value refused by the name of its key."""

from pathlib import Path

import pytest

from weft.config import (
    ApiAuth,
    ApiSection,
    ConfigFile,
    HostSection,
    PoolSection,
    TargetSection,
    TlsSection,
    check_config,
    load_config,
    parse_listen,
    parse_portal,
)
from weft.errors import InvalidValueError
from weft.model import Transport


@pytest.fixture
def write(tmp_path: Path) -> Path:
    return tmp_path / "weft.toml"


def loaded(path: Path, text: str) -> object:
    path.write_text(text)
    return load_config(path)


def test_an_empty_file_serves_a_file_pool_in_the_data_directory(write: Path) -> None:
    write.write_text('data_dir = "/srv/weft"\nruntime_dir = "/run/w"\n')
    config = load_config(write)
    assert config.source == write
    assert (config.data_dir, config.runtime_dir) == (Path("/srv/weft"), Path("/run/w"))
    assert config.database == Path("/srv/weft/weft.db")
    assert config.api_socket == Path("/run/w/api.sock")
    assert config.target_socket == Path("/run/w/target.sock")
    assert config.token_file == Path("/srv/weft/token")
    assert config.attached_dir == Path("/run/w/attached")
    assert [config.pool_path(pool) for pool in config.pools] == [Path("/srv/weft/pools/default")]
    assert [str(portal) for portal in config.portals()] == ["127.0.0.1:4420"]
    assert config.api.listen == ()
    assert config.api.auth is ApiAuth.TOKEN
    assert config.target.allow_any_host is False
    assert config.node_name


def test_the_environment_names_the_file_that_is_read_when_no_other_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = tmp_path / "mine.toml", tmp_path / "other.toml"
    mine.write_text('node_name = "mine"\n')
    other.write_text('node_name = "other"\n')
    monkeypatch.setenv("WEFT_CONFIG", str(mine))
    assert load_config().node_name == "mine"
    assert load_config(other).node_name == "other"
    mine.unlink()
    with pytest.raises(InvalidValueError, match=r"mine\.toml cannot be read"):
        load_config()


def test_every_key_can_be_given(write: Path) -> None:
    write.write_text("""
        data_dir = "/srv/weft/../weft"
        runtime_dir = "/run/w"
        node_name = "node 1"
        log_level = "debug"
        [api]
        listen = ["127.0.0.1:50040", "[::1]:50040"]
        auth = "none"
        [target]
        kind = "embedded"
        portals = ["192.0.2.1:4420", "[2001:db8::1]", "192.0.2.2"]
        nqn_prefix = "nqn.2020-02.org.example:weft:"
        allow_any_host = true
        snapshot_hold_seconds = 5
        max_connections = 10
        max_io_queues = 2
        [host]
        nqn = "nqn.2014-08.org.nvmexpress:uuid:3f2b8c1e-5d4a-4f6b-9c7d-0123456789ab"
        id = "3f2b8c1e-5d4a-4f6b-9c7d-0123456789ab"
        reconnect_delay = 2
        controller_loss_timeout = -1
        keep_alive = 10.5
        [[pools]]
        name = "fast"
        kind = "file"
        path = "/srv/fast"
        over_commit = 2
        availability_zone = "az1"
        multi_attach = false
        description = "flash"
        capabilities = { diskType = "nvme" }
        [[pools]]
        name = "slow"
    """)
    config = load_config(write)
    assert config.data_dir == Path("/srv/weft")
    assert [str(portal) for portal in config.portals()] == [
        "192.0.2.1:4420",
        "[2001:db8::1]:4420",
        "192.0.2.2:4420",
    ]
    assert [config.pool_path(pool) for pool in config.pools] == [
        Path("/srv/fast"),
        Path("/srv/weft/pools/slow"),
    ]
    assert config.pools[0].capabilities == {"diskType": "nvme"}
    assert config.host.controller_loss_timeout == -1


NQN = "nqn.2014-08.org.nvmexpress:uuid:3f2b8c1e-5d4a-4f6b-9c7d-0123456789ab"


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("colour = 1", r"colour: is not a key that weft knows \(in .*weft\.toml\)"),
        ("[api]\ncolour = 1", "api.colour: is not a key that weft knows"),
        ("[[pools]]\ncolour = 1", r"pools\[0\]\.colour: is not a key that weft knows"),
        ("data_dir = 5", "data_dir: Expected `str`, got `int`"),
        ('data_dir = "here"', "data_dir: 'here' is not an absolute path"),
        ('data_dir = "~/weft"', "data_dir: '~/weft' is not an absolute path"),
        ('data_dir = "/srv/\\u0000"', "data_dir: must not hold control characters"),
        ('runtime_dir = "run"', "runtime_dir: 'run' is not an absolute path"),
        (f'runtime_dir = "/{"x" * 100}"', "runtime_dir: .* is too long for a unix socket"),
        ('node_name = "a/b"', "node_name: 'a/b' may only hold"),
        ('log_level = "loud"', "log_level: 'loud' is none of debug, info, warning, error"),
        ("log_level = true", "log_level: Expected `str`, got `bool`"),
        ('api = "x"', "api: Expected `object`, got `str`"),
        ('api.listen = ["rdma://127.0.0.1:1"]', "api.listen: 'rdma://127.0.0.1:1' is not address:port"),
        ('api.listen = ["loop"]', "api.listen: 'loop' is not address:port"),
        ('api.listen = ["localhost:50040"]', "api.listen: 'localhost' is not an IPv4 or IPv6 address"),
        ('api.listen = ["127.0.0.1"]', "api.listen: '127.0.0.1' is not address:port"),
        ('api.listen = ["127.0.0.1:99999"]', "api.listen: '99999' is not a port"),
        ('api.listen = ["::1:50040"]', "api.listen: '::1:50040' is not address:port"),
        ('api.listen = ["127.0.0.1:1", "127.0.0.1:1"]', "api.listen: names the same address and port twice"),
        ('api.listen = "127.0.0.1:1"', "api.listen: Expected `array`, got `str`"),
        ('api.auth = "none"\napi.listen = ["192.0.2.1:1"]', "api.auth: none is for loopback alone"),
        ('api.tls.certificate = "/c.pem"', "api.tls: certificate and key belong together"),
        (
            'api.tls.certificate = "c.pem"\napi.tls.key = "/k"',
            "api.tls.certificate: 'c.pem' is not an absolute",
        ),
        ('api.tls.certificate = "/c"\napi.tls.key = "k.pem"', "api.tls.key: 'k.pem' is not an absolute path"),
        ('api.auth = "trust"', "api.auth: Invalid enum value 'trust'; it is one of token, none"),
        ('target.kind = "magic"', "target.kind: Invalid enum value 'magic'"),
        (
            'target.kind = "embedded"\ntarget.portals = ["rdma://192.0.2.1"]',
            "target.portals: .* serves tcp alone",
        ),
        ('target.kind = "embedded"\ntarget.portals = ["loop"]', "target.portals: loop: .* serves tcp alone"),
        ('target.portals = ["loop", "loop"]', "target.portals: names the same .* twice"),
        ('[[target.portals]]\naddress = "store"', "target.portals.address: 'store' is not an IPv4 or IPv6"),
        ('[[target.portals]]\naddress = "::1"\nport = 0', "target.portals.port: 0 is not a port"),
        (
            '[[target.portals]]\naddress = "::1"\ninline_data_size = 16385',
            "target.portals.inline_data_size: 16385 is not between 0 and 16384",
        ),
        (
            '[[target.portals]]\naddress = "::1"\nmax_queue_size = 8',
            "target.portals.max_queue_size: 8 is less than 16",
        ),
        ("target.restore_seconds = -1", "target.restore_seconds: -1 is not between 0 and 3600"),
        ("target.portals = []", "target.portals: must name at least one"),
        ('target.portals = ["0.0.0.0:4420"]', "target.portals: 0.0.0.0:4420 stands for any address"),
        ('target.portals = ["[::]"]', r"target.portals: \[::\]:4420 stands for any address"),
        ('target.portals = ["store:4420"]', "target.portals: 'store' is not an IPv4 or IPv6 address"),
        ('target.portals = ["192.0.2.1:0"]', "target.portals: '0' is not a port"),
        ('target.portals = ["192.0.2.1", "192.0.2.1:4420"]', "target.portals: names the same .* twice"),
        ('target.portals = ["[::1%a/b]"]', "target.portals: .* is not an IPv4 or IPv6 address"),
        ('target.nqn_prefix = "weft:"', "target.nqn_prefix: .* is not an NQN"),
        ('target.nqn_prefix = ""', "target.nqn_prefix: '' has no colon before the volume id"),
        ('target.nqn_prefix = "nqn.2020-02.org.example"', "target.nqn_prefix: .* has no colon"),
        (f'target.nqn_prefix = "nqn.2020-02.org:{"x" * 180}"', "target.nqn_prefix: is longer than 223 bytes"),
        ("target.allow_any_host = 1", "target.allow_any_host: Expected `bool`, got `int`"),
        ("target.snapshot_hold_seconds = 0", "target.snapshot_hold_seconds: 0 is not between 0.1 and 3600"),
        ("target.snapshot_hold_seconds = nan", "target.snapshot_hold_seconds: nan is not between"),
        ("target.max_connections = 1", "target.max_connections: 1 is not between 2 and 65536"),
        ("target.max_connections = 2.5", "target.max_connections: Expected `int`, got `float`"),
        ("target.max_io_queues = 0", "target.max_io_queues: 0 is not between 1 and 128"),
        ('host.connector = "magic"', "host.connector: Invalid enum value 'magic'; it is one of auto, kernel"),
        ('host.transport = "fc"', "host.transport: 'fc' is none of tcp, rdma, loop"),
        ("host.io_queues = -1", "host.io_queues: -1 is not between 0 and 1024"),
        ('host.nqn = "me"\nhost.id = "x"', "host.nqn: 'me' is not an NQN"),
        (f'host.nqn = "{NQN}"', "host.id: host.nqn and host.id belong together"),
        (f'host.nqn = "{NQN}"\nhost.id = "me"', "host.id: 'me' is not a lower-case UUID"),
        ('host.id = "3f2b8c1e-5d4a-4f6b-9c7d-0123456789ab"', "host.id: host.nqn and host.id belong together"),
        ("host.reconnect_delay = 0", "host.reconnect_delay: 0 is not between 0.1 and 3600"),
        ("host.controller_loss_timeout = -2", "host.controller_loss_timeout: -2 is not between -1 and"),
        ("host.keep_alive = 0.5", "host.keep_alive: 0.5 is not between 1 and 3600"),
        ('[[pools]]\nkind = "lvm"', "pools.volume_group: pool default is of kind lvm and needs one"),
        ('[[pools]]\nvolume_group = "vg"', "pools.volume_group: pool default is of kind file, not lvm"),
        ('[[pools]]\nkind = "lvm"\nvolume_group = "-x"', "pools.volume_group: '-x' is not a name that LVM"),
        (
            '[[pools]]\nkind = "lvm"\nvolume_group = "vg"\nthin_pool = "../x"',
            "pools.thin_pool: '../x' is not a name that LVM takes",
        ),
        (
            '[[pools]]\nkind = "lvm"\nvolume_group = "vg"\npath = "/srv"',
            "pools.path: pool default is of kind lvm: give volume_group instead",
        ),
        (
            '[[pools]]\nkind = "lvm"\nvolume_group = "vg"\n[[pools]]\nname = "b"\nkind = "lvm"\nvolume_group = "vg"',
            "pools.volume_group: two pools have the same volume group and thin pool",
        ),
        (
            '[[pools]]\nprovisioning = "fat"',
            r"pools\[0\]\.provisioning: Invalid enum value 'fat'; it is one of thin",
        ),
        (
            '[[pools]]\nkind = "lvm"\nvolume_group = "vg"\nwarn_percent = 0',
            "pools.warn_percent: 0 is not between 1 and 100",
        ),
        ("pools = []", "pools: must hold at least one pool"),
        ('[[pools]]\nname = ""', "pools.name: must not be empty"),
        ('[[pools]]\nname = ".."', "pools.name: '..' cannot be the name of a directory"),
        ('[[pools]]\nname = "../x"', "pools.name: '../x' may only hold"),
        (f'[[pools]]\nname = "{"x" * 65}"', "pools.name: is longer than 64 characters"),
        ('[[pools]]\n[[pools]]\nname = "default"', "pools.name: two pools have the same name"),
        ('[[pools]]\nkind = "tape"', r"pools\[0\]\.kind: Invalid enum value 'tape'; it is one of file"),
        ('[[pools]]\npath = "pool"', "pools.path: 'pool' is not an absolute path"),
        (
            '[[pools]]\npath = "/srv/p"\n[[pools]]\nname = "b"\npath = "/srv//p/."',
            "pools.path: pools default and b have the same path",
        ),
        ("[[pools]]\nover_commit = 0.5", "pools.over_commit: 0.5 is not between 1 and 1000"),
        ("[[pools]]\nover_commit = inf", "pools.over_commit: inf is not between 1 and 1000"),
        ('[[pools]]\navailability_zone = ""', "pools.availability_zone: must not be empty"),
        ("[[pools]]\nmulti_attach = 1", r"pools\[0\]\.multi_attach: Expected `bool`, got `int`"),
        ('[[pools]]\ndescription = "\\u001b[2J"', "pools.description: must not hold control characters"),
        ("[[pools]]\ncapabilities = { a = 1 }", r"pools\[0\]\.capabilities.*: Expected `str`, got `int`"),
        ('[[pools]]\ncapabilities = { a = "\\u0007" }', "pools.capabilities.a: must not hold control"),
        ("this is no TOML", r"config: .*weft\.toml is not valid TOML"),
    ],
)
def test_a_wrong_value_is_refused_in_a_sentence_that_names_its_key(
    write: Path, text: str, refusal: str
) -> None:
    with pytest.raises(InvalidValueError, match=f"^{refusal}"):
        loaded(write, text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.toml", tmp_path):
        with pytest.raises(InvalidValueError, match=f"config: {path} cannot be read"):
            load_config(path)
    binary = tmp_path / "weft.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidValueError, match=r"config: .* cannot be read"):
        load_config(binary)


def test_every_key_of_a_section_is_tried_above() -> None:
    """A key that is added has to be refused somewhere too."""
    here = Path(__file__).read_text()
    for section, prefix in (
        (ConfigFile, ""),
        (ApiSection, "api."),
        (TlsSection, "api.tls."),
        (TargetSection, "target."),
        (HostSection, "host."),
        (PoolSection, "pools."),
    ):
        for field in section.__struct_fields__:
            refusals = (
                f'"{prefix}{field}: ',
                f'"{prefix}{field}.',
                rf"pools\[0\]\.{field}",
                f'r"{prefix}{field}',
            )
            assert any(each in here for each in refusals), f"{prefix}{field} is never refused"


def test_the_parts_check_in_the_name_of_whoever_asks() -> None:
    assert parse_listen("listen", "[::1]:50040") == ("::1", 50040)
    portal = parse_portal("portal", "192.0.2.1")
    assert (portal.transport, portal.address, portal.port) == (Transport.TCP, "192.0.2.1", 4420)
    for wrong in ("", ":4420", "192.0.2.1:", "[]:1", "[::1", "::1", "a b", "192.0.2.1:4420:1", "[::1]x"):
        with pytest.raises(InvalidValueError, match=r"^portal: "):
            parse_portal("portal", wrong)


@pytest.mark.parametrize("path", ["pools/default", "pools", "pools/default/volumes", "link", "link/volumes"])
def test_pools_that_share_a_directory_by_another_name_are_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "link").symlink_to("pools/default")
    (tmp_path / "loop").symlink_to("loop")
    pools = (PoolSection(), PoolSection(name="other", path=str(tmp_path / path)))
    with pytest.raises(InvalidValueError, match=r"^pools\.path: pools default and other have the same path"):
        check_config(ConfigFile(data_dir=str(tmp_path), runtime_dir="/run/w", pools=pools))
    pools = (PoolSection(), PoolSection(name="other", path=str(tmp_path / "loop")))
    check_config(ConfigFile(data_dir=str(tmp_path), runtime_dir="/run/w", pools=pools))


def test_a_checked_configuration_has_absolute_paths_without_a_file() -> None:
    config = check_config(ConfigFile(data_dir="/srv/weft", runtime_dir="/run/w"))
    assert config.source is None
    assert config.data_dir.is_absolute()
    assert config.runtime_dir.is_absolute()
