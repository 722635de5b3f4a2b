"""What the driver's benchmark reads out of metrics and slices."""

from __future__ import annotations

import os

from benchmarks import dra

PAGE = """\
# TYPE dra_grpc_operations_duration_seconds histogram
dra_grpc_operations_duration_seconds_bucket{driver_name="gpu.slicewise.io",method_name="/k/NodePrepareResources",le="1"} 4
dra_grpc_operations_duration_seconds_sum{driver_name="gpu.slicewise.io",method_name="/k/NodePrepareResources"} 0.2
dra_grpc_operations_duration_seconds_count{driver_name="gpu.slicewise.io",method_name="/k/NodePrepareResources"} 4
dra_grpc_operations_duration_seconds_sum{driver_name="other",method_name="/k/NodePrepareResources"} 9
dra_grpc_operations_duration_seconds_count{driver_name="other",method_name="/k/NodePrepareResources"} 1
dra_grpc_operations_duration_seconds_sum{driver_name="gpu.slicewise.io",method_name="/k/NodeUnprepareResources"} 0
dra_grpc_operations_duration_seconds_count{driver_name="gpu.slicewise.io",method_name="/k/NodeUnprepareResources"} 0
"""  # noqa: E501


def test_the_kubelets_calls_to_our_driver_are_averaged():
    assert dra._kubelet_calls(PAGE) == {"NodePrepareResources": {"calls": 4.0, "mean_milliseconds": 50.0}}


def test_the_spread_of_times_names_its_quantiles():
    spread = dra._spread([float(value) for value in range(100, 0, -1)])
    assert spread == {"mean": 50.5, "p50": 51.0, "p95": 96.0, "p99": 100.0, "max": 100.0}


def test_the_objects_of_a_node_are_counted_slice_by_slice():
    slices = [
        {"spec": {"sharedCounters": [{}, {}]}},
        {"spec": {"devices": [{}, {}, {}]}},
        {"spec": {"devices": [{}]}},
    ]
    found = dra._objects(slices)
    assert (found["slices"], found["devices"]) == (3, 4)
    assert (found["most_devices_a_slice"], found["most_counter_sets_a_slice"]) == (3, 2)
    assert found["most_bytes_a_slice"] < found["bytes"]


def test_memory_and_processor_time_of_a_process_are_read():
    assert 0 < dra._resident_mib(os.getpid()) <= dra._highest_mib(os.getpid())
    assert dra._cpu_seconds(os.getpid()) > 0
