"""Series of model servers as they export them, for the real Prometheus to scrape: pod ``<server>`` each."""

from __future__ import annotations

from typing import Protocol


class Page(Protocol):
    def add(self, name: str, labels: dict[str, str], first: float, growth: float = 0.0) -> None: ...


def add_servers(page: Page) -> None:
    """Each server has 6 requests in flight and finishes 3 a second (15 s from sample to sample)."""

    def pod(pod_name: str, /, **more: str) -> dict[str, str]:
        return {"namespace": "serving", "pod": pod_name, **more}

    for rank in ("0", "1"):
        page.add("sglang:num_running_reqs", pod("sglang", tp_rank=rank), 4)
        page.add("sglang:num_queue_reqs", pod("sglang", tp_rank=rank), 2)
    page.add("tgi_batch_current_size", pod("tgi"), 4)
    page.add("tgi_queue_size", pod("tgi"), 2)
    page.add("nv_inference_request_success", pod("triton", model="m", version="1"), 0, 45)
    # 3 requests a second, 2 s each: 6 s of request time a second.
    page.add("nv_inference_request_duration_us", pod("triton", model="m", version="1"), 0, 90e6)
    page.add("nv_inference_pending_request_count", pod("triton", model="m", version="1"), 1)
    for quantile, value in (("0.5", 1e6), ("0.95", 2.5e6)):
        page.add("nv_inference_request_summary_us", pod("triton", model="m", quantile=quantile), value)
    page.add("rest_server_requests_in_progress", pod("mlserver", method="POST", app_name="mlserver"), 6)
    infer, ready = "/v2/models/{model_name}/infer", "/v2/models/{model_name}/ready"
    page.add("rest_server_requests_total", pod("mlserver", path=infer, status_code="200"), 0, 45)
    page.add("rest_server_requests_total", pod("mlserver", path=ready, status_code="200"), 0, 15)
    page.add("bentoml_service_request_in_progress", pod("bentoml", endpoint="/a"), 4)
    page.add("bentoml_service_request_in_progress", pod("bentoml", endpoint="/b"), 2)
    page.add("bentoml_service_request_total", pod("bentoml", endpoint="/a"), 0, 45)
    page.add("bentoml_service_request_total", pod("bentoml", endpoint="/readyz"), 0, 15)
    page.add("ovms_current_requests", pod("openvino", name="m"), 6)
    page.add("ts_inference_requests_total", pod("torchserve", model_name="m"), 0, 45)
    page.add("ts_inference_latency_microseconds", pod("torchserve", model_name="m"), 0, 75e6)
    page.add("ts_queue_latency_microseconds", pod("torchserve", model_name="m"), 0, 15e6)
    page.add(":tensorflow:serving:request_count", pod("tensorflow-serving", status="OK"), 0, 45)
    page.add(":tensorflow:serving:request_latency_sum", pod("tensorflow-serving"), 0, 90e6)
    page.add("ray_serve_replica_processing_queries", pod("ray-serve", replica="a"), 4)
    page.add("ray_serve_deployment_queued_queries", pod("ray-serve", deployment="d"), 2)
    page.add("ray_serve_replica_processing_queries", pod("ray-worker", replica="b"), 6)
    for le, served, probed in (("5", 0, 15), ("200", 9, 15), ("5000", 45, 15), ("+Inf", 45, 15)):
        http = "ray_serve_http_request_latency_ms_bucket"
        page.add(http, pod("ray-serve", route="/", le=le), 0, served)
        page.add(http, pod("ray-serve", route="/-/healthz", le=le), 0, probed)
        took = 45 if le in ("200", "5000", "+Inf") else 0
        inside = "ray_serve_deployment_processing_latency_ms_bucket"
        page.add(inside, pod("ray-serve", route="/", le=le), 0, took)
        page.add(inside, pod("ray-worker", route="/", le=le), 0, took)
    page.add("kn_serving_queue_depth", pod("knative"), 6)
    page.add("revision_queue_depth", pod("knative-revision"), 6)
    page.add("revision_request_count", pod("knative-revision", response_code="200"), 0, 45)
    page.add("inference_pool_per_pod_queue_size", pod("picker", model_server_pod="inference-gateway"), 6)
    page.add("http_server_active_requests", pod("opentelemetry"), 6)
    for reporter, growth in (("destination", 90e3), ("source", 7e3)):
        page.add("istio_request_duration_milliseconds_sum", pod("istio", reporter=reporter), 0, growth)
        page.add("istio_requests_total", pod("istio", reporter=reporter), 0, 45)
    page.add("http_requests_in_flight", pod("generic"), 6)
    # 3 requests a second, 600 tokens in, 150 out, 30 ms from token to token, 5 s in all.
    old, new = pod("old-tokens", engine="0"), pod("new-tokens", engine="0")
    for where in (old, new):
        page.add("vllm:request_success_total", {**where, "finished_reason": "stop"}, 0, 45)
        page.add("vllm:prompt_tokens_total", where, 0, 45 * 600)
        page.add("vllm:generation_tokens_total", where, 0, 45 * 150)
    for name, each, mean in (
        ("vllm:request_prompt_tokens", 1, 600),
        ("vllm:request_generation_tokens", 1, 150),
        ("vllm:inter_token_latency_seconds", 149, 0.03),
        ("vllm:e2e_request_latency_seconds", 1, 5),
    ):
        page.add(f"{name}_sum", new, 0, 45 * each * mean)
        page.add(f"{name}_count", new, 0, 45 * each)
    page.add("vllm:time_per_output_token_seconds_sum", old, 0, 45 * 149 * 0.03)
    page.add("vllm:time_per_output_token_seconds_count", old, 0, 45 * 149)
    for rank in ("0", "1"):  # of one engine: not to be added
        where = pod("sglang-tokens", tp_rank=rank)
        page.add("sglang:prompt_tokens_total", where, 0, 45 * 600)
        page.add("sglang:generation_tokens_total", where, 0, 45 * 150)
        page.add("sglang:num_requests_total", where, 0, 45)
    for direction, tokens in (("input", 600), ("output", 150)):
        kind = pod("triton-tokens", model="m", response_metric_type=f"total_{direction}_tokens")
        page.add(f"nv_llm_{direction}_token_len_sum", kind, 0, 45 * tokens)
        page.add(f"nv_llm_{direction}_token_len_count", kind, 0, 45)
    for name, value in (
        ("tgi_request_input_length", 600),
        ("tgi_request_generated_tokens", 150),
        ("tgi_request_mean_time_per_token_duration", 0.03),
        ("tgi_request_duration", 5),
    ):
        page.add(f"{name}_sum", pod("tgi-tokens"), 0, 45 * value)
        page.add(f"{name}_count", pod("tgi-tokens"), 0, 45)
    # Whoever calls others has a sidecar too, a waypoint is a proxy; the server knows more.
    page.add("istio_requests_total", pod("caller", reporter="source"), 0, 45)
    page.add("istio_requests_total", pod("waypoint", reporter="waypoint"), 0, 45)
    page.add("http_requests_in_flight", pod("meshed-http"), 6)
    page.add("istio_requests_total", pod("meshed-http", reporter="destination"), 0, 45)
    # A model server behind a sidecar: the server's own word goes first.
    page.add("vllm:num_requests_running", pod("meshed"), 5)
    page.add("istio_requests_total", pod("meshed", reporter="destination"), 0, 45)
