"""The page on the configuration shows every key with its default."""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from weft.config import ConfigFile, check_config

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def shown() -> dict[str, Any]:
    blocks = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return tomllib.loads(blocks[0])


def test_the_page_shows_the_defaults() -> None:
    assert msgspec.convert(shown(), ConfigFile) == ConfigFile()


def test_the_page_shows_every_key() -> None:
    assert keys(shown()) == keys(msgspec.to_builtins(ConfigFile()))


def keys(value: Any, above: str = "") -> set[str]:
    """The dotted names of all keys; those of a list's tables without their place in it."""
    if isinstance(value, dict):
        return {above}.union(*(keys(each, f"{above}.{key}") for key, each in value.items()))
    if isinstance(value, list | tuple):
        return {above}.union(*(keys(each, above) for each in value))
    return {above}


def test_every_example_is_a_configuration_that_weft_takes() -> None:
    pages = [PAGE, PAGE.with_name("storage-node.md")]
    texts = [page.read_text(encoding="utf-8") for page in pages]
    examples = re.findall(r"```toml\n(.*?)```", texts[0], re.DOTALL)[2:]
    examples += re.findall(r"<<'TOML'\n(.*?)TOML\n", texts[1], re.DOTALL)
    assert len(examples) == 4
    for example in examples:
        check_config(msgspec.convert(tomllib.loads(example), ConfigFile))
