"""What works on this machine as a storage node and as a host, what is missing, and the command that mends it."""

from weft.doctor.examination import examine
from weft.doctor.finding import Finding, Part, Report, Verdict
from weft.doctor.machine import Machine, this_machine

__all__ = ["Finding", "Machine", "Part", "Report", "Verdict", "examine", "this_machine"]
