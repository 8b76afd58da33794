"""What is found, and the register of the rules that find it."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from blobnet.errors import BlobnetError, error_at

_MOST_FINDINGS = 500  # of one rule
ERROR, WARNING = "error", "warning"


class Finding(NamedTuple):
    """Something wrong (ERROR) or doubtful (WARNING); ``fault`` says where, what and what to do."""

    severity: str
    rule: str
    fault: BlobnetError

    def __str__(self) -> str:
        line = f":{self.fault.line}" if self.fault.line else ""
        place = f"{self.fault.file}{line}: " if self.fault.file else ""
        layer = f"{self.fault.layer}: " if self.fault.layer else ""
        return f"{place}{self.severity}: {layer}{self.fault.message} [{self.rule}]"


Place = tuple[Any, str, str]  # message, text, field: as for errors.error_at
Rule = Callable[[Any], Iterator[Place]]

_rules: dict[type, list[tuple[str, str, Rule]]] = {}


def rule(subject: type, severity: str) -> Callable[[Rule], Rule]:
    """Decorator of a function that yields what is wrong with a subject; its name is that of the rule."""

    def add(function: Rule) -> Rule:
        _rules.setdefault(subject, []).append((function.__name__.replace("_", "-"), severity, function))
        return function

    return add


def apply(subject: Any) -> Iterator[Finding]:
    """What all rules for a subject of this type find, of each no more than anybody reads."""
    for name, severity, function in _rules.get(type(subject), ()):
        for message, text, field in itertools.islice(function(subject), _MOST_FINDINGS):
            yield Finding(severity, name, error_at(message, text, field))


def rule_names() -> list[str]:
    """Every rule, sorted."""
    return sorted(name for rules in _rules.values() for name, _, _ in rules)
