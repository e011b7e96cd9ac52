import json
import math

import pytest
import torch

from raytrans.equivariance import Report, Row
from raytrans.equivariance.report import BROKEN, relative_error


def test_relative_errors():
    a = torch.tensor([1.0, 2.0])
    assert relative_error(a, a) == 0
    assert relative_error(a + torch.tensor([0.0, 0.1]), a) == pytest.approx(0.05)
    assert relative_error(a, a + 1, typical=10.0) == pytest.approx(0.1)
    for bad in (torch.zeros(2), torch.tensor([1.0, math.nan]), torch.tensor([1.0, math.inf]), torch.ones(3)):
        assert relative_error(a, bad) == BROKEN
    assert relative_error(torch.zeros(2), torch.zeros(2)) == relative_error(torch.ones(0), torch.ones(0)) == BROKEN


def test_the_report_as_numbers_and_as_text():
    rows = (Row("a", 1e-7, 1e-4), Row("b", 1e30, 1e-4, "worst: x"), Row("c", 0.3))
    report = Report(rows, "title")
    assert json.loads(json.dumps(report.to_dict())) == {
        "contracts": {
            "a": {"error": 1e-7, "tolerance": 1e-4, "passed": True},
            "b": {"error": 1e30, "tolerance": 1e-4, "passed": False},
        },
        "reported": {"c": {"error": 0.3}},
        "passed": False,
    }
    lines = str(report).splitlines()
    assert lines[0] == "title" and lines[-1] == "broken: b"
    assert ["kept" in line for line in lines[2:4]] == [True, False] and "BROKEN" in lines[3] and "worst: x" in lines[3]
    assert Report(rows[:1]).passed and not Report(rows[2:]).passed and not Report(()).passed
    assert not Row("a", math.nan, 1e-4).passed
    with pytest.raises(KeyError, match="expected one of a, b, c"):
        report["d"]
