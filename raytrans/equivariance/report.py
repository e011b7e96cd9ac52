"""What a check of contracts found: one row each, as a table for people and as numbers for machines."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BROKEN = 1e30  # error of a rendering that is NaN, constant, of the wrong shape, or could not be made


def relative_error(got: Tensor, expected: Tensor, typical: Tensor | float | None = None) -> float:
    """max|got - expected| / max|expected|, or over max|typical|.

    `BROKEN` for another shape, a value that is not finite, or nothing but zeros to compare with.
    """
    if got.shape != expected.shape or not got.numel():
        return BROKEN
    scale = torch.as_tensor(expected if typical is None else typical).abs().max().double().item()
    error = (got - expected).abs().max().double().item()
    # comparisons with NaN are false, so whatever is not finite must be refused by name
    return min(error / scale, BROKEN) if scale > 0 and math.isfinite(error) and math.isfinite(scale) else BROKEN


@dataclass(frozen=True)
class Row:
    """One line of a report: an exact contract with its `tolerance`, or without one a number that is only reported."""

    name: str
    error: float
    tolerance: float | None = None
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.tolerance is None or self.error <= self.tolerance  # false for NaN


@dataclass(frozen=True)
class Report:
    """Rows of a check in the order in which they were measured; `title` says of what."""

    rows: tuple[Row, ...]
    title: str = ""

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"expected one of {', '.join(row.name for row in self.rows)}, got {name!r}")

    @property
    def contracts(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.tolerance is not None)

    @property
    def reported(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.tolerance is None)

    @property
    def broken(self) -> list[str]:
        """Names of the contracts that do not hold."""
        return [row.name for row in self.contracts if not row.passed]

    @property
    def passed(self) -> bool:
        """Whether there are contracts and every one of them holds."""
        return bool(self.contracts) and not self.broken

    def to_dict(self) -> dict:
        """{"contracts": {name: {"error", "tolerance", "passed"}}, "reported": {name: {"error"}}, "passed": bool}."""
        contracts = {r.name: {"error": r.error, "tolerance": r.tolerance, "passed": r.passed} for r in self.contracts}
        return {
            "contracts": contracts,
            "reported": {r.name: {"error": r.error} for r in self.reported},
            "passed": self.passed,
        }

    def __str__(self) -> str:
        """The table: name, error, tolerance, verdict and note of every row."""
        width = max([len("contract"), *(len(row.name) for row in self.rows)])
        lines = [self.title] if self.title else []
        lines.append(f"{'contract':{width}}  {'error':>8}  {'tolerance':>9}")
        for row in self.contracts:
            verdict = "kept  " if row.passed else "BROKEN"
            lines.append(f"{row.name:{width}}  {row.error:8.1e}  {row.tolerance:9.0e}  {verdict}  {row.note}".rstrip())
        if self.reported:
            lines.append("reported")
        for row in self.reported:
            lines.append(f"{row.name:{width}}  {row.error:8.1e}  {'':9}  {'':6}  {row.note}".rstrip())
        verdict = "every contract holds" if self.passed else "broken: " + (", ".join(self.broken) or "nothing measured")
        return "\n".join([*lines, verdict])
