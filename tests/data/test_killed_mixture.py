"""A mixture under SIGKILL, resumed with 1 and 2 processes: the benchmark, small."""

import json
from pathlib import Path

import pytest

from data_helpers import REAL
from thalweg.core.names import load_file

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "mixture_resume.py"


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / "domains").is_dir(), reason="the 21 texts are not here")
def test_a_killed_mixture_gives_the_same_stream(tmp_path: Path):
    script = load_file(SCRIPT)
    stores = script.make_stores(REAL / "domains", tmp_path, 64)
    (tmp_path / "stores.json").write_text(json.dumps(stores))
    lines = script.compare(tmp_path, 3)
    assert "the same" in lines
    assert "21 sources" in lines[0]
