"""What the extension module offers to the Python side."""

from typing import Any, Literal, TypedDict

__version__: str

# Settings: the one table, and the validators of its value kinds.

class SettingRow(TypedDict):
    name: str
    section: str
    flags: list[str]
    metavar: str | None
    action: Literal["store", "append", "store_true", "store_false", "store_optional"]
    const: str | None
    number: Literal["decimal", "any base"] | None
    kind: str
    wanted: str
    parameters: tuple[str, ...]
    default: Any
    computed: bool
    status: Literal["works", "not yet", "no effect"]
    reason: str | None
    own: bool
    help: str

def settings_table() -> list[SettingRow]: ...
def validate_setting(name: str, value: object) -> Any: ...
def validate_kind(
    kind: Literal["bool", "int", "text", "list", "words", "networks", "map"], value: object
) -> Any: ...
def refusal(name: str) -> str | None: ...
