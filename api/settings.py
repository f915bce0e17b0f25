"""What the REST server is told at start: addresses, folders and limits."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE
LOCAL_HOSTS = ("127.0.0.1", "localhost")
MAX_UPLOAD_BYTES = 4 * GIBIBYTE
HOSPITAL_QUOTA_BYTES = 8 * GIBIBYTE


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the server finds its federation, and how much it takes from anybody.

    Attributes:
        rpc_url: The chain's JSON-RPC address.
        ledger: The RoundLedger's address, EIP-55.
        image_access: The ImageAccess contract's address, EIP-55.
        ipfs: The Kubo RPC's address, such as ``/ip4/127.0.0.1/tcp/5001``.
        index_url: SQLAlchemy URL of the index of the chain.
        spool: Folder for uploads and transactions that are not on the ledger yet; it must survive
            a restart, and be one server's alone.
        keystore: Folder of the relayer's key files. The relayer needs gas and no role.
        relayer: The relayer's name in the keystore.
        password_file: File with the password of the relayer's key files.
        host: Address to listen on.
        port: Port to listen on.
        origin: How clients reach the server, scheme and authority; None means host and port.
        hosts: Further names that a ``Host`` header may carry.
        max_upload_bytes: Largest envelope.
        hospital_quota_bytes: Most bytes of a hospital's unfinished uploads together.
        hospital_quota_uploads: Most unfinished uploads of a hospital.
        spool_reserve_bytes: Free disk space that uploads leave alone.
        max_model_bytes: Largest model that is handed out.
        max_body_bytes: Largest request body other than an upload's or a batch of looks.
        max_looks_bytes: Largest batch of looks that is handed over.
        max_header_bytes: Largest request head.
        body_idle_seconds: Longest wait for the next piece of a request body.
        body_total_seconds: Longest time for a whole body other than an upload's.
        max_requests: Most requests at one time; more are turned away with a problem.
        max_connections: Most connections at one time; more are turned away without a word.
        sign_ins_per_minute: Most nonces and sign-ins of one client address in a minute.
        max_bundle_bytes: Largest audit bundle that is kept and handed out.
        bundle_cache_bytes: Most bytes of kept audit bundles together.
        bundles_per_minute: Most audit bundles that one client address gets in a minute; behind a
            proxy that is everybody together.
        max_index_lag_blocks: Blocks that the index may be behind before the server is not ready.
        poll_seconds: Pause between two looks of the background threads.
        explorer_metrics: File of accuracies that the consortium claims, for the explorer's
            overview (`api.explorer.accuracy`); None shows none.
    """

    rpc_url: str
    ledger: str
    image_access: str
    ipfs: str
    index_url: str
    spool: Path
    keystore: Path
    relayer: str
    password_file: Path
    host: str = "127.0.0.1"
    port: int = 8000
    origin: str | None = None
    hosts: tuple[str, ...] = LOCAL_HOSTS
    max_upload_bytes: int = MAX_UPLOAD_BYTES
    hospital_quota_bytes: int = HOSPITAL_QUOTA_BYTES
    hospital_quota_uploads: int = 8
    spool_reserve_bytes: int = 256 * MEBIBYTE
    max_model_bytes: int = 4 * GIBIBYTE
    max_body_bytes: int = 64 * 1024
    max_looks_bytes: int = 40 * MEBIBYTE
    max_header_bytes: int = 16 * 1024
    body_idle_seconds: float = 20.0
    body_total_seconds: float = 30.0
    max_requests: int = 192
    max_connections: int = 256
    sign_ins_per_minute: int = 600
    max_bundle_bytes: int = 256 * MEBIBYTE
    bundle_cache_bytes: int = GIBIBYTE
    bundles_per_minute: int = 600
    max_index_lag_blocks: int = 100
    poll_seconds: float = 1.0
    explorer_metrics: Path | None = None

    @property
    def uri(self) -> str:
        """The URI that a sign-in message must name (EIP-4361)."""
        return self.origin or f"http://{self.host}:{self.port}"

    @property
    def domain(self) -> str:
        """The authority that a sign-in message must name (EIP-4361)."""
        return urlsplit(self.uri).netloc

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """Every name that a ``Host`` header may carry, without port, in lower case."""
        origin = urlsplit(self.uri).hostname or self.host
        return frozenset(name.lower() for name in (*self.hosts, self.host, origin))
