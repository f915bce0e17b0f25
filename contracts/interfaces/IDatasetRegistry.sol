// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IParticipantRegistry} from "./IParticipantRegistry.sol";

/// @title Which data
/// @notice Versions of hospitals' data sets: what they hold, what they may be used for, and how
/// patients' identities were removed. See docs/protocol.md, section 4.
interface IDatasetRegistry {
    /// @notice Where a version stands. Only an Active version can enter a round.
    enum State {
        Unknown,
        Active,
        Superseded,
        Withdrawn
    }

    /// @notice What a hospital says of a version when it registers it.
    /// @param name The data set's name, the same for all its versions, 1 to 64 bytes.
    /// @param merkleRoot Root of the Merkle tree over the salted image commitments.
    /// @param images How many images the tree holds.
    /// @param modality DICOM modality (PS3.3 C.7.3.1.1.1), ASCII, padded with zero bytes.
    /// @param purposes Bit n permits GA4GH Data Use Ontology term DUO:000000n.
    /// @param profile Bit n says that DICOM de-identification method 113100 + n (CID 7050) was
    /// applied; bit 0, the Basic Application Confidentiality Profile, makes a version usable.
    /// @param attestation SHA-256 of the de-identification report.
    /// @param previous The version that this one corrects, zero for the first.
    struct Terms {
        string name;
        bytes32 merkleRoot;
        uint32 images;
        bytes16 modality;
        uint48 purposes;
        uint16 profile;
        bytes32 attestation;
        bytes32 previous;
    }

    /// @notice A registered version.
    struct Version {
        address hospital;
        State state;
        uint48 purposes;
        uint32 images;
        uint16 profile;
        bytes16 modality;
        bytes32 merkleRoot;
        bytes32 attestation;
        bytes32 dataset;
        bytes32 previous;
    }

    event VersionRegistered(
        bytes32 indexed version,
        bytes32 indexed dataset,
        address indexed hospital,
        Terms terms
    );
    event VersionSuperseded(bytes32 indexed version, bytes32 indexed successor);
    event VersionWithdrawn(bytes32 indexed version, string reason);
    event PurposesChanged(bytes32 indexed version, uint48 purposes);
    event ImageErased(
        bytes32 indexed version,
        bytes32 indexed image,
        address indexed hospital
    );

    error DatasetRegistryUnknownVersion(bytes32 version);
    error DatasetRegistryNotOwner(bytes32 version, address hospital, address account);
    error DatasetRegistryWithdrawn(bytes32 version);
    error DatasetRegistrySuperseded(bytes32 version);
    error DatasetRegistryNotDeidentified(bytes32 version);
    error DatasetRegistryPurposeNotPermitted(bytes32 version, uint8 purpose);
    error DatasetRegistryVersionsNotAscending(bytes32 version, bytes32 next);
    error DatasetRegistryNoVersions();
    error DatasetRegistryAlreadyRegistered(bytes32 version);
    error DatasetRegistryNotHead(bytes32 dataset, bytes32 head, bytes32 previous);
    error DatasetRegistryInvalidTerms(string field);
    error DatasetRegistryNotInVersion(bytes32 version, bytes32 image);
    error DatasetRegistryAlreadyErased(bytes32 version, bytes32 image);

    /// @notice Registers a version of the sender's data set. Hospitals only. A version other than
    /// the first names the data set's newest as `previous` and supersedes it.
    /// @param terms What the version holds.
    /// @return version keccak256(abi.encode(chain id, this contract, sender, name, merkleRoot,
    /// previous)).
    function registerVersion(Terms calldata terms) external returns (bytes32 version);

    /// @notice Withdraws the sender's version: no round takes it from now on.
    /// @param version The version.
    /// @param reason Why, for the record.
    function withdraw(bytes32 version, string calldata reason) external;

    /// @notice Says that the sender erased an image of its version: deleted its salt and the image
    /// itself. An Active version is withdrawn by it; grants and readings of the image end in every
    /// version of the sender's.
    /// @param version The version, whatever its state.
    /// @param image The image's commitment.
    /// @param proof The Merkle proof that the image is in the version.
    function erase(bytes32 version, bytes32 image, bytes32[] calldata proof) external;

    /// @notice Whether a hospital erased an image, in whichever of its versions.
    /// @param hospital The hospital.
    /// @param image The image's commitment.
    /// @return True where it did.
    function isErased(address hospital, bytes32 image) external view returns (bool);

    /// @notice Replaces the purposes that the sender's version permits.
    /// @param version The version.
    /// @param purposes Bit n permits DUO:000000n.
    function permitPurposes(bytes32 version, uint48 purposes) external;

    /// @notice How many images `hospital` may train on with these versions for this purpose;
    /// reverts with the first version's fault where one may not be used.
    /// @param hospital Who must own every version.
    /// @param versions Ascending and so without repetition, at least one.
    /// @param purpose Number of the Data Use Ontology term.
    /// @return images The sum of the versions' image counts.
    function usableImages(
        address hospital,
        bytes32[] calldata versions,
        uint8 purpose
    ) external view returns (uint256 images);

    /// @notice Looks a version up.
    /// @param version The version.
    /// @return What is registered; state Unknown where nothing is.
    function versionOf(bytes32 version) external view returns (Version memory);

    /// @notice The newest version of a data set.
    /// @param dataset keccak256(abi.encode(chain id, this contract, hospital, name)).
    /// @return The version, zero where the data set is unknown.
    function headOf(bytes32 dataset) external view returns (bytes32);

    /// @notice Who may act.
    /// @return The registry.
    function participants() external view returns (IParticipantRegistry);

    /// @notice The block that this contract was deployed in, where readers of its log begin.
    /// @return The block's number.
    function deployedAt() external view returns (uint256);
}
