from pathlib import Path

import pytest

from faults.mutants import MUTANTS, Mutant, mutated, verdict


@pytest.mark.parametrize(
    "mutant", [pytest.param(mutant, marks=[pytest.mark.soak] * mutant.is_long, id=mutant.name) for mutant in MUTANTS]
)
def test_the_rig_notices_when(mutant: Mutant, tmp_path: Path) -> None:
    report = verdict(mutant, mutated(mutant, tmp_path))
    if report["skipped"]:
        pytest.skip(str(report["skipped"]))
    total = report["total"]
    noticed = sum(total[name] for name in ("lost", "doubled")) + len(total["wrong"])
    assert noticed, f"survived: {report}"
