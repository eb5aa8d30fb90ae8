"""Which rows are told not to go with those before, and what can be done about it."""

from __future__ import annotations

from mpibatch.core.forms import Column, Form, encode_form
from mpibatch.runtime.forms import Forms
from mpibatch.work import Failed, Succeeded

OLD, NEW = (encode_form(Form("csv", (Column(name, "int"),))) for name in ("old", "new"))


def message(forms: Forms) -> str:
    judged = forms.judged(Succeeded(1, 1, 1, 0.0, 0.0, NEW + b"1\n", header=len(NEW)))
    assert isinstance(judged, Failed) and judged.cause == "bad_rows"
    return judged.error.message


def test_only_of_rows_of_an_earlier_session_it_is_said_how_to_be_rid_of_them() -> None:
    assert "--fresh" in message(Forms([OLD]))
    now = Forms([])
    now.add(OLD)
    assert "only one has 'old'" in message(now) and "--fresh" not in message(now)
