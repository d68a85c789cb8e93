"""Plan files: YAML that means the same to every program. One plan a document, several documents in a file if wanted.

YAML 1.1 and 1.2 read `no`, `010`, `18:00`, `1e3` and dates differently, and a bare 0.1 is a binary float to most programs.
Such words are refused until they are quoted, and so are anchors, tags and keys that come twice.
"""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import yaml

from sidemeter_control.errors import InvalidInput
from sidemeter_control.pricing.documents import Document

__all__ = ["MAX_FILE_CHARS", "read_yaml", "write_yaml"]

MAX_FILE_CHARS = 1_000_000
"""More than the API would take of a plan: a body of `/graphql` is at most 1 MiB."""

_NAMES = ("str", "int", "float", "bool", "null", "map", "seq", "timestamp", "merge", "value")
_KINDS = {f"tag:yaml.org,2002:{name}": name for name in _NAMES}
"""What a value can be by its looks. The last three are YAML 1.1's alone."""
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,39}", re.ASCII)
_FRACTION = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+", re.ASCII)
_NUMBER = re.compile(r"[-+.]?[0-9][0-9_.]*([eE][-+]?[0-9]+)?|0[ox][0-9a-fA-F]+", re.ASCII)
_WORD = re.compile(r"[A-Za-z][\w/() -]*[\w)]|[A-Za-z]", re.ASCII)


class _Composer(yaml.SafeLoader):
    """What YAML's grammar says, without aliases: a few nested ones stand for more than memory holds."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise _refused(self.peek_event(), "must be written out: there are no aliases here")  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)


def read_yaml(text: str) -> list[object]:
    """The values of each document of the text, as JSON has them; fractions are Decimals.

    >>> read_yaml("key: pro\\ncharges: []")
    [{'key': 'pro', 'charges': []}]
    >>> read_yaml("name: no")
    Traceback (most recent call last):
    sidemeter_control.errors.InvalidInput: line 1: no must be quoted: programs read it differently

    InvalidInput names the line.
    """
    if len(text) > MAX_FILE_CHARS:
        raise InvalidInput("file", f"must be at most {MAX_FILE_CHARS} characters")
    try:
        return [_value(node) for node in yaml.compose_all(text, _Composer)]
    except yaml.MarkedYAMLError as exc:
        line = 1 if exc.problem_mark is None else exc.problem_mark.line + 1
        raise InvalidInput(f"line {line}", f"{exc.problem or exc}") from exc
    except yaml.YAMLError as exc:
        raise InvalidInput("file", str(exc)) from exc
    except RecursionError as exc:
        raise InvalidInput("file", "must not be nested so deeply") from exc


def write_yaml(documents: Iterable[Document]) -> str:
    """The documents as text that `read_yaml` reads as the same values."""
    return yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False
    )


def _value(node: yaml.Node) -> object:
    match node:
        case yaml.MappingNode():
            return _mapping(node)
        case yaml.SequenceNode() if _kind(node) == "seq":
            return [_value(each) for each in node.value]
        case yaml.ScalarNode():
            return _scalar(node)
    raise _refused(node, f"must not have the tag {node.tag}")


def _mapping(node: yaml.MappingNode) -> Document:
    if _kind(node) != "map":
        raise _refused(node, f"must not have the tag {node.tag}")
    found: Document = {}
    for key_node, value_node in node.value:
        key = _value(key_node)
        if not isinstance(key, str):
            raise _refused(key_node, f"{key!r} must be quoted: the name of a field is text")
        if key in found:
            raise _refused(key_node, f"{key} must be written once")
        found[key] = _value(value_node)
    return found


def _scalar(node: yaml.ScalarNode) -> object:
    text = node.value
    match _kind(node):
        case None:
            raise _refused(node, f"must not have the tag {node.tag}")
        case "str" if node.style is not None or not _NUMBER.fullmatch(text):
            return text
        case "null" if text in {"", "null", "~"}:
            return None
        case "bool" if text in {"true", "false"}:
            return text == "true"
        case "int" if _WHOLE.fullmatch(text):
            return int(text)
        case "float" if _FRACTION.fullmatch(text):
            return Decimal(text)
    raise _refused(node, f"{text} must be quoted: programs read it differently")


def _kind(node: yaml.Node) -> str | None:
    return _KINDS.get(node.tag)


def _refused(at: Any, rule: str) -> InvalidInput:
    return InvalidInput(f"line {at.start_mark.line + 1}", rule)


class _Dumper(yaml.SafeDumper):
    """Quotes every text but plain words, so that no reader takes it for something else."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        """Lists stand further in than what they belong to."""
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if _WORD.fullmatch(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


def _decimal(dumper: yaml.SafeDumper, value: Decimal) -> yaml.ScalarNode:
    text = format(value, "f")
    kind = "float" if "." in text else "int"
    return dumper.represent_scalar(f"tag:yaml.org,2002:{kind}", text)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(Decimal, _decimal)
