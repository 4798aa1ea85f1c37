"""What doctor has to say: findings, each with a verdict and, where something is to be mended, a command."""

from dataclasses import dataclass
from enum import StrEnum


class Part(StrEnum):
    """What a finding is about: the machine whatever it does, the storage node, or the host."""

    MACHINE = "machine"
    NODE = "node"
    HOST = "host"


class Verdict(StrEnum):
    """MISSING: the configuration asks for it. UNKNOWN: it could not be looked at. WARN: it works, but look at it."""

    OK = "ok"
    MISSING = "missing"
    WARN = "warn"
    UNKNOWN = "unknown"
    IRRELEVANT = "does-not-matter-here"


@dataclass(frozen=True, slots=True)
class Finding:
    """about: a word or two. sentence: for a person. command: a line for root's shell that mends it, or nothing."""

    part: Part
    about: str
    verdict: Verdict
    sentence: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """Makes the findings of one part of the machine."""

    part: Part

    def ok(self, about: str, sentence: str) -> Finding:
        return Finding(self.part, about, Verdict.OK, sentence)

    def missing(self, about: str, sentence: str, command: str = "") -> Finding:
        return Finding(self.part, about, Verdict.MISSING, sentence, command)

    def warn(self, about: str, sentence: str, command: str = "") -> Finding:
        return Finding(self.part, about, Verdict.WARN, sentence, command)

    def unknown(self, about: str, sentence: str, command: str = "") -> Finding:
        return Finding(self.part, about, Verdict.UNKNOWN, sentence, command)

    def irrelevant(self, about: str, sentence: str, command: str = "") -> Finding:
        return Finding(self.part, about, Verdict.IRRELEVANT, sentence, command)


MACHINE = Section(Part.MACHINE)
NODE = Section(Part.NODE)
HOST = Section(Part.HOST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """config_error: why the configuration was refused; the findings go by the defaults then."""

    findings: tuple[Finding, ...]
    config_error: str = ""

    def with_verdict(self, verdict: Verdict) -> tuple[Finding, ...]:
        return tuple(each for each in self.findings if each.verdict is verdict)

    @property
    def fit(self) -> bool:
        """Whether the machine can do what its configuration asks for, as far as all of it could be looked at."""
        return not (
            self.config_error or self.with_verdict(Verdict.MISSING) or self.with_verdict(Verdict.UNKNOWN)
        )
