// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessLogs} from "./IAccessLogs.sol";
import {IDatasetRegistry} from "./IDatasetRegistry.sol";
import {IParticipantRegistry} from "./IParticipantRegistry.sol";
import {IReadings} from "./IReadings.sol";

/// @title Who may look
/// @notice Hospitals grant researchers sight of a data-set version or of one image in it, for a
/// purpose and a time, and take it back; a data steward may do so in a hospital's name. The log
/// holds what a grant says, the contract's storage whether it stands. See docs/protocol.md,
/// section 11.
interface IImageAccess {
    /// @notice Whether a grant stands.
    enum State {
        Unknown,
        Granted,
        Revoked
    }

    /// @notice What a grant says.
    /// @param version The data-set version.
    /// @param image The image's commitment, zero for the whole version.
    /// @param hospital Whose images they are.
    /// @param researcher Who may look.
    /// @param purpose Number of the Data Use Ontology term.
    /// @param expiry Unix time in seconds after which it ends.
    struct Grant {
        bytes32 version;
        bytes32 image;
        address hospital;
        address researcher;
        uint8 purpose;
        uint64 expiry;
    }

    event AccessGranted(
        bytes32 indexed grantId,
        address indexed researcher,
        bytes32 indexed version,
        address hospital,
        bytes32 image,
        uint8 purpose,
        uint64 expiry,
        address by
    );
    event AccessRevoked(bytes32 indexed grantId, address by);
    event DelegationChanged(address indexed hospital, address indexed dataSteward, uint64 until);

    error ImageAccessNotDelegate(address hospital, address account);
    error ImageAccessUnknownGrant(bytes32 grantId);
    error ImageAccessAlreadyGranted(bytes32 grantId);
    error ImageAccessAlreadyRevoked(bytes32 grantId);
    error ImageAccessExpiryInPast(uint64 expiry, uint256 timestamp);
    error ImageAccessNotInVersion(bytes32 version, bytes32 image);

    /// @notice Lets a data steward grant and revoke in the sender's name.
    /// @param dataSteward Who.
    /// @param until Unix time in seconds after which that ends; zero ends it now.
    function delegate(address dataSteward, uint64 until) external;

    /// @notice Until when an account may grant and revoke in a hospital's name.
    /// @param hospital The hospital.
    /// @param dataSteward The account.
    /// @return Unix time in seconds, zero where it never may.
    function delegatedUntil(
        address hospital,
        address dataSteward
    ) external view returns (uint64);

    /// @notice Grants sight of a version, or of one image in it. The sender is its hospital, or a
    /// data steward of that. Whether the version is the hospital's and permits the purpose, and
    /// whether the researcher is enrolled, is asked at each look.
    /// @param terms What it says.
    /// @param proof The Merkle proof that the image is in the version; empty for the whole.
    /// @return grantId The grant's identifier.
    function grant(
        Grant calldata terms,
        bytes32[] calldata proof
    ) external returns (bytes32 grantId);

    /// @notice Takes a grant back, as its hospital or a data steward of that. The same terms
    /// cannot be granted again: another expiry makes another grant.
    /// @param terms What it says.
    function revoke(Grant calldata terms) external;

    /// @notice Whether a grant holds now: not revoked, not expired, its researcher and hospital
    /// active, its version still usable for its purpose, its image not erased.
    /// @param terms What it says.
    /// @return True where all hold.
    function isLive(Grant calldata terms) external view returns (bool);

    /// @notice Whether a grant stands, whatever became of its parties and its version.
    /// @param grantId The grant.
    /// @return Its state.
    function stateOf(bytes32 grantId) external view returns (State);

    /// @notice A grant's identifier: Keccak-256 of chain id, this contract and the terms.
    /// @param terms What it says.
    /// @return The identifier.
    function idOf(Grant calldata terms) external view returns (bytes32);

    /// @notice Who may act.
    /// @return The registry.
    function participants() external view returns (IParticipantRegistry);

    /// @notice Which data.
    /// @return The registry.
    function datasets() external view returns (IDatasetRegistry);

    /// @notice Who looked.
    /// @return The hospitals' logs.
    function accessLogs() external view returns (IAccessLogs);

    /// @notice Who said what of an image.
    /// @return The clinicians' readings.
    function readings() external view returns (IReadings);

    /// @notice The block that this contract was deployed in, where readers of its log begin.
    /// @return The block's number.
    function deployedAt() external view returns (uint256);
}
