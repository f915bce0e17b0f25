"""What the server counts for Prometheus; names nobody and holds no secret."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """The server's figures, in a registry of their own so that two servers never mix theirs."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "fedwitness_api_requests_total",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "fedwitness_api_request_seconds",
            "Time from a request's head to the end of its answer.",
            ("method", "route"),
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "fedwitness_api_uploads_in_flight",
            "Uploads whose body is arriving now.",
            registry=self.registry,
        )
        self.received_bytes = Counter(
            "fedwitness_api_upload_bytes_total",
            "Bytes of uploads taken.",
            registry=self.registry,
        )
        self.finished = Counter(
            "fedwitness_api_uploads_finished_total",
            "Uploads that came to an end.",
            ("state",),
            registry=self.registry,
        )
        self.gas = Counter(
            "fedwitness_api_relay_gas_total",
            "Gas that the relayer spent on records.",
            registry=self.registry,
        )
        self.index_lag = Gauge(
            "fedwitness_api_index_lag_blocks",
            "Blocks that the index is behind the chain, as of its last look.",
            registry=self.registry,
        )
