import pytest
from clients import Clients

from depthfield.cluster import gridengine


@pytest.fixture
def clients(tmp_path, monkeypatch) -> Clients:
    """Stand-ins for Grid Engine's clients, asked again without much of a pause."""
    monkeypatch.setattr(gridengine, "FIRST_PAUSE_SECONDS", 0.01)
    return Clients(tmp_path, monkeypatch)
