// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Who may act
/// @notice Enrols the federation's parties with a role and an X25519 encryption key, and locks
/// them out everywhere at once. See docs/protocol.md, section 2.
interface IParticipantRegistry {
    event ParticipantEnrolled(
        address indexed account,
        bytes32 indexed role,
        bytes32 encryptionKey,
        string name
    );
    event EncryptionKeyChanged(address indexed account, bytes32 encryptionKey);
    event ParticipantSuspended(address indexed account, string reason);
    event ParticipantReinstated(address indexed account);

    error ParticipantRegistryUnknownRole(bytes32 role);
    error ParticipantRegistryUnknownParticipant(address account, bytes32 role);
    error ParticipantRegistrySuspended(address account);
    error ParticipantRegistryNotSuspended(address account);
    error ParticipantRegistryInvalidKey(bytes32 encryptionKey);
    error ParticipantRegistryInvalidName(string name);
    error ParticipantRegistryAlreadyEnrolled(address account, bytes32 role);
    error ParticipantRegistryLastSteward(address account);

    /// @notice Gives `account` a role and publishes its name and encryption key. Stewards only.
    /// @param account The party's Ethereum address.
    /// @param role keccak256 of HOSPITAL, AGGREGATOR, WITNESS, AUDITOR, RESEARCHER or STEWARD.
    /// @param encryptionKey The party's X25519 public key (RFC 7748), 32 bytes, not zero.
    /// @param name A name for people, 1 to 64 bytes; nothing depends on it.
    function enroll(
        address account,
        bytes32 role,
        bytes32 encryptionKey,
        string calldata name
    ) external;

    /// @notice Replaces the sender's own encryption key; rounds that are open keep the old one.
    /// @param encryptionKey The new X25519 public key, not zero.
    function setEncryptionKey(bytes32 encryptionKey) external;

    /// @notice Locks a party out of every role until it is reinstated. Stewards only.
    /// @param account The party.
    /// @param reason Why, for the record.
    function suspend(address account, string calldata reason) external;

    /// @notice Ends a suspension. Stewards only.
    /// @param account The party.
    function reinstate(address account) external;

    /// @notice Reverts unless `account` holds `role` and is not suspended.
    /// @param account The party.
    /// @param role The role it needs.
    function requireActive(address account, bytes32 role) external view;

    /// @notice Whether `account` holds `role` and is not suspended.
    /// @param account The party.
    /// @param role The role.
    /// @return True where both hold.
    function isActive(address account, bytes32 role) external view returns (bool);

    /// @notice What is enrolled of `account`.
    /// @param account The party.
    /// @return encryptionKey Its X25519 public key, zero where it was never enrolled.
    /// @return suspended Whether it is suspended now.
    /// @return name Its name.
    function participantOf(
        address account
    ) external view returns (bytes32 encryptionKey, bool suspended, string memory name);

    /// @notice The block that this contract was deployed in, where readers of its log begin.
    /// @return The block's number.
    function deployedAt() external view returns (uint256);
}
