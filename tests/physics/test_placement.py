"""Replicas packed into whole domains, by hand and against direct packing."""

import itertools

import jax.numpy as jnp
import pytest
from physics_designs import h100, resized

from qsopt.physics.placement import replicas
from qsopt.spec.deployment import Deployment


def packed(devices: int, domain: int, tensor: int, data: int, pipeline: int) -> float:
    cluster = resized(h100(devices), scale_up_devices=float(domain))
    design = Deployment(tensor=tensor, data=data, pipeline=pipeline)
    return float(replicas(cluster, design))


def by_filling(devices: int, domain: int, tensor: int, data: int, pipeline: int) -> int:
    """Domains are filled one after the other with the largest groups that must not straddle."""
    stage, domain = tensor * data, min(domain, devices)
    sizes = [domain] * (devices // domain) + [devices % domain]
    if stage <= domain:
        return sum(size // stage for size in sizes) // pipeline
    if tensor <= domain:
        return sum(size // tensor for size in sizes) // data // pipeline
    return (devices // domain) // -(-stage // domain) // pipeline


def test_three_ranks_in_a_domain_of_eight_are_two_groups() -> None:
    assert packed(8, 8, 3, 1, 1) == 2
    assert packed(16, 8, 3, 1, 1) == 4
    assert packed(16, 8, 3, 1, 5) == 0


def test_packing_is_that_of_filling_domain_after_domain() -> None:
    sizes = itertools.product((7, 8, 16, 20, 72), (1, 8, 72), (1, 2, 3, 8, 16), (1, 2, 3), (1, 2))
    for case in sizes:
        assert packed(*case) == by_filling(*case), case


@pytest.mark.parametrize("devices", [8, 16, 72])
def test_packing_never_holds_more_than_the_devices_do(devices: int) -> None:
    for tensor, data, pipeline in itertools.product(range(1, 9), range(1, 5), (1, 2, 3)):
        cluster, design = h100(devices), Deployment(tensor=tensor, data=data, pipeline=pipeline)
        loose = float(replicas(cluster, design, whole_domains=False))
        assert float(replicas(cluster, design)) <= loose == devices // (tensor * data * pipeline)


def test_the_relaxed_model_counts_devices() -> None:
    design = Deployment(tensor=jnp.asarray(3.0))
    assert float(replicas(h100(8), design, softness=0.1)) == pytest.approx(8 / 3)
