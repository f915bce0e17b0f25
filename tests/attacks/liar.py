"""A lying aggregator: it judges a round with the project's own code, and claims something else."""

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aggregator.cohort import Member
from aggregator.pipeline import parse_pipeline
from aggregator.replay import RoundResult, judge_and_aggregate
from chain.addresses import address_order
from chain.digests import content_digest
from chain.tensors import open_tensors, save_tensors
from chain.types import Verdict
from tests.attacks.devnet import EXAMPLES
from tests.attacks.rounds import AttackedRound, Tensors
from tests.federation import HOSPITALS

STRANGER = "0x000000000000000000000000000000000000dEaD"


@dataclass(frozen=True, slots=True)
class Claim:
    """What is proposed for a round."""

    model: bytes
    blob: bytes
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class Liar:
    """An aggregator that knows the truth about a round."""

    round: AttackedRound
    truth: RoundResult

    @classmethod
    def of(cls, round_: AttackedRound) -> "Liar":
        """Judge and aggregate a round whose records are all there."""
        aggregator = round_.federation.identities["aggregator"]
        truth = judge_and_aggregate(
            round_.federation.reader,
            round_.blobs,
            round_.number,
            private_key=aggregator.encryption_private_key,
            workdir=round_.folder / "liar",
            target=round_.folder / "truth",
            threads=1,
        )
        return cls(round_, truth)

    def claim(self, model: Path | None = None, verdicts: tuple[Verdict, ...] = ()) -> Claim:
        """Claim a model, verdicts, or both, in place of the true ones."""
        path = model or self.truth.model_path
        blob = self.round.blobs.put(path).digest
        return Claim(content_digest(path), blob, verdicts or self.truth.verdicts)

    def propose(self, claim: Claim) -> int:
        """Propose it, and return the proposal's number."""
        ledger = self.round.federation.ledgers["aggregator"]
        ledger.propose(self.round.number, claim.model, claim.blob, claim.verdicts)
        proposal = ledger.round(self.round.number).proposal
        assert proposal is not None
        return proposal.number

    def edited(self, hospital: str, **changes: Any) -> tuple[Verdict, ...]:
        """The true verdicts, but for something in that on one hospital."""
        address = self.round.federation.address(hospital)
        return tuple(
            replace(verdict, **changes) if verdict.hospital == address else verdict
            for verdict in self.truth.verdicts
        )

    def aggregate(
        self,
        *,
        pipeline: str = "",
        without: Collection[str] = (),
        examples: Mapping[str, int] = EXAMPLES,
        more: Tensors | None = None,
    ) -> Path:
        """Aggregate otherwise than the round declares.

        Args:
            pipeline: In place of the round's.
            without: Hospitals that are left out.
            examples: In place of the recorded counts, by hospital.
            more: An update that nobody recorded.
        """
        folder, federation = self.round.folder, self.round.federation
        terms = federation.reader.round(self.round.number).terms
        files = [
            (federation.address(name), examples[name], folder / f"{name}.safetensors")
            for name in HOSPITALS
            if name not in without
        ]
        if more is not None:
            save_tensors(folder / "more.safetensors", more)
            files.append((STRANGER, 50, folder / "more.safetensors"))
        target = folder / "lie"
        with ExitStack() as stack:
            base = stack.enter_context(
                open_tensors(folder / "liar" / f"{terms.base_model.hex()}.safetensors")
            )
            members = [
                Member(who, count, content_digest(path), stack.enter_context(open_tensors(path)))
                for who, count, path in sorted(files, key=lambda file: address_order(file[0]))
            ]
            parse_pipeline(pipeline or terms.rule).aggregate(base, members, target, 1)
        return target

    def save(self, tensors: Tensors) -> Path:
        """Write a model that no update came to."""
        save_tensors(self.round.folder / "invented", tensors)
        return self.round.folder / "invented"
