// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IParticipantRegistry} from "./IParticipantRegistry.sol";
import {IDatasetRegistry} from "./IDatasetRegistry.sol";

/// @title Who may look
/// @notice Hospitals grant researchers sight of a data-set version or of one image in it, for a
/// purpose and a time, and take it back. See docs/protocol.md, section 11.
interface IImageAccess {
    /// @notice A grant.
    /// @param version The data-set version.
    /// @param image The image's commitment, zero for the whole version.
    /// @param hospital Who granted it.
    /// @param researcher Who may look.
    /// @param purpose Number of the Data Use Ontology term.
    /// @param expiry Unix time in seconds after which it ends.
    /// @param revoked Whether the hospital took it back.
    struct Grant {
        bytes32 version;
        bytes32 image;
        address hospital;
        address researcher;
        uint8 purpose;
        uint64 expiry;
        bool revoked;
    }

    event AccessGranted(
        uint256 indexed grantId,
        address indexed researcher,
        bytes32 indexed version,
        address hospital,
        bytes32 image,
        uint8 purpose,
        uint64 expiry
    );
    event AccessRevoked(uint256 indexed grantId);

    error ImageAccessNotOwner(bytes32 version, address hospital, address account);
    error ImageAccessUnknownGrant(uint256 grantId);
    error ImageAccessAlreadyRevoked(uint256 grantId);
    error ImageAccessExpiryInPast(uint64 expiry, uint256 timestamp);
    error ImageAccessNotInVersion(bytes32 version, bytes32 image);

    /// @notice Grants sight of the sender's version, or of one image in it.
    /// @param researcher An active researcher.
    /// @param version An active, de-identified version of the sender's that permits `purpose`.
    /// @param image The image's commitment, zero for the whole version.
    /// @param proof The Merkle proof that the image is in the version; empty for the whole.
    /// @param purpose Number of the Data Use Ontology term.
    /// @param expiry Unix time in seconds, in the future.
    /// @return grantId The grant's number, from 1.
    function grant(
        address researcher,
        bytes32 version,
        bytes32 image,
        bytes32[] calldata proof,
        uint8 purpose,
        uint64 expiry
    ) external returns (uint256 grantId);

    /// @notice Takes a grant of the sender's back.
    /// @param grantId The grant.
    function revoke(uint256 grantId) external;

    /// @notice Whether a grant holds now: not revoked, not expired, its researcher and hospital
    /// active, its version still usable for its purpose.
    /// @param grantId The grant.
    /// @return True where all hold.
    function isLive(uint256 grantId) external view returns (bool);

    /// @notice Looks a grant up; reverts where there is none.
    /// @param grantId The grant.
    /// @return The grant.
    function grantOf(uint256 grantId) external view returns (Grant memory);

    /// @notice A researcher's grants, oldest first, dead ones included.
    /// @param researcher The researcher.
    /// @param offset How many to pass over.
    /// @param limit How many to return at the most.
    /// @return grantIds Their numbers.
    function grantsOf(
        address researcher,
        uint256 offset,
        uint256 limit
    ) external view returns (uint256[] memory grantIds);

    /// @notice Who may act.
    /// @return The registry.
    function participants() external view returns (IParticipantRegistry);

    /// @notice Which data.
    /// @return The registry.
    function datasets() external view returns (IDatasetRegistry);

    /// @notice The block that this contract was deployed in, where readers of its log begin.
    /// @return The block's number.
    function deployedAt() external view returns (uint256);
}
