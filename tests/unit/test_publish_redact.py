"""Secrets are blotted out; what only looks like one stays."""

import pytest

from accel_det.publish.redact import redact, redact_message

TOKEN = "hf_" + "Zz9" * 12


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"token {TOKEN}.", "token ***."),
        ("see https://ada:secret@example.org/x", "see https://***@example.org/x"),
        ("class hf_detector_small", "class hf_detector_small"),
        ("https://example.org:8080/a@b", "https://example.org:8080/a@b"),
    ],
)
def test_hub_tokens_and_passwords_in_addresses_go_and_the_rest_stays(text: str, left: str) -> None:
    assert redact(text) == left


def test_values_of_secret_variables_go_and_switches_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKER_API_KEY", "abcdefgh12345678")
    monkeypatch.setenv("USE_TOKEN", "true")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "falsefalse")
    assert redact("abcdefgh12345678 true falsefalse") == "*** true falsefalse"


def test_a_secret_that_contains_another_goes_whole() -> None:
    assert redact("long-secret-value", secrets=("secret", "long-secret-value")) == "***"


def test_messages_lose_authorization_headers_signatures_and_line_breaks() -> None:
    said = "you sent\nBearer abc.def-123456 to https://s3.example/x?a=1&X-Amz-Signature=0123abcd&b=2"
    assert redact_message(said) == "you sent Bearer *** to https://s3.example/x?a=1&***&b=2"
