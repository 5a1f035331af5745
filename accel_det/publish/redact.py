"""Access tokens never reach a file, a log or an error: they are blotted out of every text on its way there."""

import os
import re
from collections.abc import Iterable

BLOT = "***"

_SECRET_VARIABLE = re.compile(r"(^|_)(TOKEN|SECRET|PASSWORD|API_KEY|ACCESS_KEY)$")
_SHORTEST_SECRET = 8
_IN_TEXT = (
    re.compile(r"\bhf_[A-Za-z0-9]{30,}"),
    re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),
)
_IN_MESSAGE = (re.compile(r"(?i)(?<=bearer )[\w.~+/=-]{8,}"), re.compile(r"(?<=[?&])X-Amz-[\w-]+=[^&\s]+"))


def secrets_of_environment() -> tuple[str, ...]:
    """Values of variables such as HF_TOKEN or WANDB_API_KEY; short ones are no secrets but switches."""
    return tuple(
        value for name, value in os.environ.items() if _SECRET_VARIABLE.search(name) and len(value) >= _SHORTEST_SECRET
    )


def redact(text: str, *, secrets: Iterable[str] = ()) -> str:
    """The text without Hub tokens, passwords in URLs, the secrets of the environment and those given."""
    for secret in sorted({*secrets, *secrets_of_environment()} - {""}, key=len, reverse=True):
        text = text.replace(secret, BLOT)
    for pattern in _IN_TEXT:
        text = pattern.sub(BLOT, text)
    return text


def redact_message(text: str, *, secrets: Iterable[str] = ()) -> str:
    """As `redact`, for what a server or a library said: also authorization headers and signatures of URLs; one line."""
    text = redact(" ".join(text.split()), secrets=secrets)
    for pattern in _IN_MESSAGE:
        text = pattern.sub(BLOT, text)
    return text
