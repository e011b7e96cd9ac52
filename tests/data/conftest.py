import os
from pathlib import Path

import pytest


@pytest.fixture
def real_data():
    """Folder of one real capture by name; skips, saying so, where it is absent."""
    root = Path(os.environ.get("RAYTRANS_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")

    def folder(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(f"real capture {name} not found in {root} (set RAYTRANS_DATA)")
        return root / name

    return folder
