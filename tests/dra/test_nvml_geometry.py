"""The fake card and the project's MIG geometry agree on every sequence of making and taking away."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dra.cards import CardRefused
from dra.catalog import models
from dra.mig import geometry
from tests.fake_nvml.fixtures import library as library
from tests.fake_nvml.loaded import cards_of
from tests.fake_nvml.state import FakeNode

NODES = {"dgx-a100": "A100-80GB", "dgx-h100": "H100-80GB", "nvl72": "GB200-186GB"}

# (which of the placements, or of the live instances; whether to make or to take away)
STEPS = st.lists(st.tuples(st.integers(0, 999), st.booleans() | st.just(True)), max_size=14)


@pytest.mark.parametrize("profile", sorted(NODES))
def test_create_is_refused_exactly_when_the_geometry_says_so(library, tmp_path, profile):
    node = FakeNode.create(tmp_path / "state", profile, gpus=1, mig=True)
    model = models()[NODES[profile]]
    grid = geometry(model)
    uuid = node.uuid(0)
    with cards_of(node, library) as nvml:
        ids = {offered.name: offered.profile_id for offered in nvml.cards()[0].profiles}

        @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(steps=STEPS)
        def agree(steps):
            for instance in nvml.live(uuid):
                nvml.destroy(uuid, instance.gpu_instance_id)
            held = {}
            for number, make in steps:
                if not make:
                    if held:
                        key = sorted(held)[number % len(held)]
                        nvml.destroy(uuid, key)
                        del held[key]
                    continue
                index = number % len(grid.placements)
                wanted = grid.placements[index]
                mask = sum(placement.bits for placement in held.values())
                fits = bool(grid.fits[index, mask])
                if model.profile(wanted.profile).media:
                    # The mask cannot show it: one instance has the only media engines.
                    fits = fits and not any(model.profile(p.profile).media for p in held.values())
                if not fits:
                    with pytest.raises(CardRefused, match="insufficient-resources"):
                        nvml.create(uuid, ids[wanted.profile], wanted.start)
                    continue
                made = nvml.create(uuid, ids[wanted.profile], wanted.start)
                assert made.bits == wanted.bits
                held[made.gpu_instance_id] = wanted
            seen = [(instance.profile, instance.start, instance.size) for instance in node.instances()]
            assert seen == sorted(((p.profile, p.start, p.size) for p in held.values()), key=lambda p: p[1])
            assert bool(grid.reachable[sum(p.bits for p in held.values())])

        agree()
