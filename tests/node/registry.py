"""The ledger's registry of data sets, kept in memory."""

from collections.abc import Sequence
from dataclasses import replace

from chain.errors import ContractRevertedError
from chain.merkle import image_leaf, verify_inclusion
from chain.types import DatasetState, DatasetTerms, DatasetVersion

HOSPITAL = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


class Registry:
    """A DatasetRegistry with states and erasures, as the contract keeps them."""

    def __init__(self) -> None:
        self.versions: dict[bytes, DatasetVersion] = {}
        self.erased: list[tuple[bytes, bytes]] = []

    def register_version(self, terms: DatasetTerms) -> bytes:
        identifier = bytes([len(self.versions) + 1]) * 32
        if any(terms.previous):
            self._become(terms.previous, DatasetState.SUPERSEDED)
        self.versions[identifier] = DatasetVersion(
            version=identifier,
            dataset=b"\x77" * 32,
            hospital=HOSPITAL,
            state=DatasetState.ACTIVE,
            merkle_root=terms.merkle_root,
            images=terms.images,
            modality=terms.modality,
            purposes=terms.purposes,
            profile=terms.profile,
            attestation=terms.attestation,
            previous=terms.previous,
        )
        return identifier

    def dataset_versions(self, hospital: str | None = None) -> tuple[DatasetVersion, ...]:
        return tuple(one for one in self.versions.values() if hospital in {None, one.hospital})

    def erase_image(self, version: bytes, image: bytes, proof: Sequence[bytes]) -> None:
        verify_inclusion(self.versions[version].merkle_root, image_leaf(image), proof)
        if (version, image) in self.erased:
            raise ContractRevertedError("DatasetRegistryAlreadyErased", {})
        self.erased.append((version, image))
        if self.versions[version].state is DatasetState.ACTIVE:
            self._become(version, DatasetState.WITHDRAWN)

    def _become(self, version: bytes, state: DatasetState) -> None:
        self.versions[version] = replace(self.versions[version], state=state)
