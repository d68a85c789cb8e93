from pathlib import Path

import pytest

from faults.mutants import MUTANTS, Mutant, mutated, verdict


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_rig_notices_when(mutant: Mutant, tmp_path: Path) -> None:
    report = verdict(mutant, mutated(mutant, tmp_path))
    if report["skipped"]:
        pytest.skip(str(report["skipped"]))
    total = report["total"]
    noticed = sum(total[name] for name in ("lost", "doubled")) + len(total["wrong"])
    assert noticed, f"survived: {report}"
